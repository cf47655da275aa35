"""Score all requests of a task with one checkpoint.

from ebbtide.scoring.engine import load_scorer, score_requests
scorer = load_scorer("path/to/checkpoint", dtype="float32")
scored = score_requests(scorer, "requests.parquet")
scored.rows        # one row per request: log-likelihood, tokens, greedy, …
"""

import math
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from ebbtide.checkpoints import count_parameters, load_model, load_tokenizer
from ebbtide.errors import ScoringError
from ebbtide.scoring.encoding import Encoded, encode
from ebbtide.scoring.padded import Counters, TokenScores, score_padded
from ebbtide.scoring.trie import build_trie
from ebbtide.scoring.walk import fits, score_trie
from ebbtide.tables import REQUESTS, content_sha256, read_parquet


@dataclass(frozen=True)
class Scorer:
    """A loaded checkpoint, ready to score."""

    model: Any
    tokenizer: Any
    trie: bool  # each unique token is forwarded once; False: padded batches, for models the trie does not fit
    dtype: str
    device: str
    parameters_total: int
    parameters_non_embedding: int


@dataclass(frozen=True)
class Scored:
    """Rows of a cell and what is recorded in its footer beside the identity."""

    rows: pd.DataFrame
    footer: dict[str, Any]


def load_scorer(directory: str | Path, dtype: str = "float32", threads: int = 1) -> Scorer:
    """Load weights and tokenizer of a checkpoint onto the GPU if there is one, else the CPU.

    `threads` is for the CPU; one is right when jobs run side by side (a second thread that
    meets a busy core makes both slower).
    """
    import torch

    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: Any = load_model(directory, dtype).to(device)
    total, non_embedding = count_parameters(model)
    vocabulary = int(model.config.vocab_size)
    return Scorer(
        model, load_tokenizer(directory), fits(model, vocabulary), dtype, device, total, non_embedding
    )


def score_requests(
    scorer: Scorer, requests: str | Path, *, encoding: str = "harness", max_length: int | None = None
) -> Scored:
    """Score a table of requests (columns `example, choice, context, continuation`).

    Parameters
    ----------
    requests
        Parquet file; one row per example × choice.
    encoding
        Rule of `ebbtide.scoring.encoding`.
    max_length
        Tokens the model may read; the model's own window when None. Longer contexts lose their left end
        and are flagged `truncated`.

    Raises
    ------
    ScoringError
        An empty table, a request that cannot be encoded, a non-finite log-likelihood.
    CellError
        A damaged or incomplete requests file.
    """
    started = time.perf_counter()
    table = read_parquet(requests, REQUESTS, foreign=True)
    frame = table.to_pandas()
    if frame.empty:
        raise ScoringError(f"{requests} holds no requests.")
    names = [
        f"{requests}: example {e}, choice {c}" for e, c in zip(frame["example"], frame["choice"], strict=True)
    ]
    encoded = encode(
        scorer.tokenizer,
        frame["context"].tolist(),
        frame["continuation"].tolist(),
        names,
        encoding=encoding,
        window=_window(scorer.model, max_length),
        vocabulary=scorer.model.get_input_embeddings().num_embeddings,
    )
    counters = Counters()
    score = score_trie if scorer.trie else score_padded
    scores = score(scorer.model, encoded, counters)
    rows = _rows(frame, encoded, scores, names)
    footer = {
        "requests": len(rows),
        "requests_sha256": content_sha256(table),
        "parameters_total": scorer.parameters_total,
        "parameters_non_embedding": scorer.parameters_non_embedding,
        "dtype": scorer.dtype,
        "device": scorer.device,
        "method": "trie" if scorer.trie else "padded",
        "kernel": str(getattr(scorer.model.config, "_attn_implementation", "unknown")),
        "machine": platform.machine(),
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers")},
        "truncated": int(rows["truncated"].sum()),
        "unique_tokens": len(build_trie(encoded)),
        "forwarded_tokens": counters.forwarded,
        "seconds": round(time.perf_counter() - started, 3),
    }
    return Scored(rows, footer)


def _window(model: Any, max_length: int | None) -> int:
    limit = getattr(model.config, "max_position_embeddings", None)
    if max_length is None:
        return int(limit) if limit else 2048
    if limit and max_length > limit:
        raise ScoringError(f"max_length: found {max_length}, the model's window is {limit} tokens.")
    return max_length


def _rows(
    frame: pd.DataFrame, encoded: Sequence[Encoded], scores: Sequence[TokenScores], names: Sequence[str]
) -> pd.DataFrame:
    continuations = frame["continuation"]
    rows = pd.DataFrame(
        {
            "example": frame["example"],
            "choice": frame["choice"],
            "loglikelihood": [math.fsum(s.loglikelihoods) for s in scores],
            "tokens": [len(e.continuation) for e in encoded],
            "bytes": [len(k.encode()) for k in continuations],
            "characters": [len(k) for k in continuations],
            "greedy": [s.greedy for s in scores],
            "first_token_loglikelihood": [s.loglikelihoods[0] for s in scores],
            "context_tokens": [e.context for e in encoded],
            "truncated": [e.truncated for e in encoded],
        }
    )
    for name, value in zip(names, rows["loglikelihood"], strict=True):
        if not math.isfinite(value):
            raise ScoringError(
                f"{name}: the log-likelihood is {value}; score in a wider dtype, or look for damaged weights."
            )
    return rows
