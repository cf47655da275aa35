"""A back end with made-up log-likelihoods, to test grids of any size without torch or weights.

Each byte of a text is a token. Its log-likelihood is computed from a hash of the checkpoint's identity and
the text up to it. It is negative and reproducible, and a longer continuation with the same beginning has a
lower sum. Cells have `fake` in their identity and footer, metrics have it in the column `source`, and the
summary of a study begins with a warning.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from ebbtide.checkpoints.configuration import configuration
from ebbtide.errors import CheckpointError
from ebbtide.logs import log
from ebbtide.parameters import count
from ebbtide.scoring.encoded import Encoded, Requests
from ebbtide.scoring.scorer import FAKE, Counters, Scores
from ebbtide.scoring.tokenizer import Tokenizer

WINDOW = 2**16  # tokens
LEAST, SCALE = 0.01, 1.8  # nats; a byte has LEAST + SCALE · u², 0.61 on average, as for a small model
GREEDY = -math.log(2)  # nats; a token above this has a probability above 0.5


@dataclass(frozen=True)
class FakeScorer:
    """A `Scorer` without a model."""

    tokenizer: Tokenizer
    vocabulary: int
    weights: str  # identity of the weights
    dtype: str
    parameters: dict[str, int]
    window: int = WINDOW
    window_key: str | None = FAKE
    device: str = "none"

    def score(
        self,
        requests: Requests,
        *,
        ranks: bool = False,
        best: bool = False,
        counters: Counters | None = None,
    ) -> Scores:
        """See `Scorer`. There are no forward passes to count."""
        values = np.array([value for request in requests for value in self._score(request)])
        greedy, tokens = values > GREEDY, requests.continuations.astype(np.int64)
        return Scores(
            requests.scored_bounds,
            values,
            greedy,
            np.where(greedy, 1, 2) if ranks else None,
            np.where(greedy, tokens, (tokens + 1) % self.vocabulary) if best else None,
        )

    def _score(self, request: Encoded) -> Iterator[float]:
        state = hashlib.blake2b(self.weights.encode(), digest_size=8)
        state.update(_bytes(request.tokens[: request.context]))
        for token in request.continuation:
            state.update(_bytes([token]))
            share = (int.from_bytes(state.digest()) >> 11) / 2**53  # in [0, 1), exactly
            yield -LEAST - SCALE * share * share

    def record(self) -> dict[str, Any]:
        """See `Scorer`."""
        return {
            **self.parameters,
            **dict.fromkeys(("source", "method", "implementation", "kernel"), FAKE),
            "gpus": 0,
            "versions": {"tokenizers": version("tokenizers")},
        }


def load_fake_scorer(directory: str | Path, weights: str, dtype: str) -> FakeScorer:
    """The fake scorer of the checkpoint with the identity `weights`.

    Only `config.json` of the directory is read, if it exists, for the parameter counts. Unknown counts are 0.
    """
    log.warning(
        "scoring.backend: fake: the log-likelihoods of %s are made up and do not measure a model.",
        directory,
    )
    tokenizer = byte_tokenizer()
    size = tokenizer.backend.get_vocab_size()
    return FakeScorer(tokenizer, size, weights, dtype, _parameters(Path(directory)))


def byte_tokenizer() -> Tokenizer:
    """A tokenizer with one token per byte and a beginning token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Backend(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|fake|>"])
    return Tokenizer(backend, bos=len(alphabet), eos=len(alphabet), beginning=())


def _parameters(directory: Path) -> dict[str, int]:
    counted = None
    with suppress(CheckpointError):
        counted = count(configuration(directory))
    return {
        "parameters_total": counted.total if counted else 0,
        "parameters_non_embedding": counted.non_embedding if counted else 0,
        "parameters_active": counted.active_non_embedding if counted else 0,
    }


def _bytes(tokens: Sequence[int]) -> bytes:
    return b"".join(token.to_bytes(2) for token in tokens)
