"""What the engine's tests compare with: plain forwards, drawn requests, sizes of tries, our decoder alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st

from ebbtide.checkpoints.configuration import configuration
from ebbtide.scoring.body import NativeBody
from ebbtide.scoring.documents import encode_rolling, score_rolling_task
from ebbtide.scoring.encoded import Encoded, Requests
from ebbtide.scoring.engine import Scored, window_of
from ebbtide.scoring.families import build
from ebbtide.scoring.scorer import Scorer
from ebbtide.scoring.weights import Weights
from ebbtide.tables import REQUESTS, read_parquet

VOCABULARY = 40


def score_rolling(scorer: Scorer, requests: Path, *, max_length: int | None = None) -> Scored:
    """Score a frozen task of kind rolling from its file, without stored arrays."""
    table = read_parquet(requests, REQUESTS)
    task = encode_rolling(scorer, table, requests, window=window_of(scorer, max_length))
    return score_rolling_task(scorer, task, table, requests)


def plain(model: Any, request: Encoded) -> list[float]:
    """The definition: one forward of one request, all logits, log-softmax in float64."""
    with torch.no_grad():
        logits = model(torch.tensor([request.tokens])).logits[0]
    log_probabilities = torch.log_softmax(logits.double(), dim=-1)
    return [
        float(log_probabilities[place - 1, request.tokens[place]])
        for place in range(request.context, len(request.tokens))
    ]


@st.composite
def encoded(draw: st.DrawFn) -> Encoded:
    # Few different tokens at the beginning, so that requests share prefixes.
    tokens = draw(st.lists(st.integers(0, 2), min_size=1, max_size=6))
    tokens += draw(st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=8))
    return Encoded(tuple(tokens), draw(st.integers(1, len(tokens) - 1)), False)


def drawn(*, min_size: int = 0, max_size: int) -> st.SearchStrategy[Requests]:
    return st.lists(encoded(), min_size=min_size, max_size=max_size).map(Requests.of)


def trie_size(requests: Sequence[Encoded]) -> int:
    return len({request.fed[: i + 1] for request in requests for i in range(len(request.fed))})


def native(directory: Path, dtype: str = "float64") -> tuple[NativeBody, Weights]:
    with Weights(directory, getattr(torch, dtype), "cpu") as weights:
        return NativeBody(build(configuration(directory), weights)), weights
