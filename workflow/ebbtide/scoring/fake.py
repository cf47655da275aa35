"""A back end with made-up log-likelihoods and texts, to test grids of any size without torch or weights.

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
from ebbtide.scoring.generation.decoding import Decoding, Sample, Samples
from ebbtide.scoring.generation.ends import Ends
from ebbtide.scoring.scorer import FAKE, Counters, Scores
from ebbtide.scoring.tokenizer import Tokenizer

WINDOW = 2**16  # tokens
LEAST, SCALE = 0.01, 1.8  # nats; a byte has LEAST + SCALE · u², 0.61 on average, as for a small model
WORDS = ("the", "old", "child", "is", "young", "and", "a", "tall", "house", "sees", "no", "river", "today.")
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

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        decoding: Decoding,
        *,
        keys: Sequence[bytes],
        eos: frozenset[int],
        numbers: Sequence[int] | None = None,
        counters: Counters | None = None,
    ) -> Samples:
        """See `Scorer`. A sample is made of a few words; there are no forward passes to count."""
        ends = Ends(self.tokenizer, decoding, eos)
        return Samples.of(
            self._sample(
                prompt, b"" if decoding.greedy else key + bytes(f"/{decoding.seed}/{number}", "ascii"), ends
            )
            for prompt, key in zip(prompts, keys, strict=True)
            for number in (range(decoding.samples) if numbers is None else numbers)
        )

    def _sample(self, prompt: Sequence[int], label: bytes, ends: Ends) -> Sample:
        tokens: list[int] = []
        for token in self._made_up(prompt, label):
            tokens.append(token)
            [ended] = ends.reasons([tokens])
            if ended is not None:
                break
        request = Encoded((*prompt, *tokens), len(prompt), truncated=False)
        return ends.sample(tokens, tuple(self._score(request)), str(ended))

    def _made_up(self, prompt: Sequence[int], label: bytes) -> Iterator[int]:
        """Words without end, with the end token after one of four."""
        state = hashlib.blake2b(self.weights.encode() + _bytes(prompt) + label, digest_size=8)
        while True:
            state.update(b"word")
            number = int.from_bytes(state.digest())
            [ids] = self.tokenizer.ids([f" {WORDS[number % len(WORDS)]}"])
            yield from ids
            if number // len(WORDS) % 4 == 0 and self.tokenizer.eos is not None:
                yield self.tokenizer.eos

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
