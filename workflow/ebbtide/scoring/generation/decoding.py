"""How texts are decoded, and the samples that come out. A lean module: no torch.

prompt 0, sample 0 │ prompt 0, sample 1 │ … │ prompt 1, sample 0 │ …
tokens  t0 t1 t2      t0                       t0 t1
bounds  0             3                    …
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ebbtide.errors import ConfigError

STOP, EOS, LENGTH = "stop", "eos", "length"  # why a sample ended
KEY_BYTES = 16


@dataclass(frozen=True)
class Decoding:
    """Settings of decoding.

    Attributes
    ----------
    max_tokens
        Most tokens of a sample.
    samples
        Samples per prompt; 1 at temperature 0.
    temperature
        Divides the logits; 0 takes the most likely token (greedy), of equal ones that with the lowest id.
    top_p
        Keep the fewest most likely tokens whose probabilities, after temperature and `top_k`, sum to at least
        this; 1 keeps all.
    top_k
        Keep this many most likely tokens, and those as likely as the last of them; 0 keeps all.
    stop
        Strings that end a sample as soon as its text contains one.
    seed
        Another seed gives other samples.

    Raises `ConfigError` for values outside their range, and for settings without effect at temperature 0.
    """

    max_tokens: int
    samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for name, valid, allowed in (
            ("max_tokens", self.max_tokens >= 1, "1 or more"),
            ("samples", self.samples >= 1, "1 or more"),
            ("temperature", 0 <= self.temperature < float("inf"), "0 (greedy) or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0, at most 1"),
            ("top_k", self.top_k >= 0, "0 (all) or more"),
            ("stop", all(self.stop), "strings that are not empty"),
            ("seed", 0 <= self.seed < 2**64, "0 to 2^64 - 1"),
        ):
            if not valid:
                raise ConfigError(f"decoding.{name}: found {getattr(self, name)!r}, allowed: {allowed}.")
        if self.greedy:
            for name, neutral in (("samples", 1), ("top_p", 1.0), ("top_k", 0)):
                if (found := getattr(self, name)) != neutral:
                    raise ConfigError(
                        f"decoding.{name}: found {found!r}, but temperature 0 always takes the most likely "
                        f"token; allowed: {neutral:g}. Set decoding.temperature to sample."
                    )

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is taken."""
        return self.temperature == 0


@dataclass(frozen=True)
class Sample:
    """One generated text."""

    tokens: tuple[int, ...]  # with the end token, or with the token that completed a stop string
    loglikelihood: tuple[float, ...]  # nats, one per token
    ended: str
    text: str


@dataclass(frozen=True, eq=False)
class Samples:
    """S samples, prompt after prompt and in each by number; their tokens are T in total."""

    bounds: np.ndarray  # (S + 1,) int64: where the tokens of each sample begin, and the end
    tokens: np.ndarray  # (T,) int32, with the end token, or with the token that completed a stop string
    loglikelihood: np.ndarray  # (T,) float64, nats under the model at temperature 1 without truncation
    ended: np.ndarray  # (S,) str: `stop`, `eos` or `length`
    texts: list[str]  # cut before the stop string; without the end token and other special tokens

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> "Samples":
        """The arrays of single samples."""
        found = list(samples)
        return cls(
            np.cumsum([0, *(len(sample.tokens) for sample in found)], dtype=np.int64),
            np.array([token for sample in found for token in sample.tokens], dtype=np.int32),
            np.array([value for sample in found for value in sample.loglikelihood], dtype=np.float64),
            np.array([sample.ended for sample in found], dtype=str),
            [sample.text for sample in found],
        )

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.bounds) - 1

    def __getitem__(self, index: int) -> Sample:
        i = range(len(self))[index]
        mine = slice(self.bounds[i], self.bounds[i + 1])
        return Sample(
            tuple(self.tokens[mine].tolist()),
            tuple(self.loglikelihood[mine].tolist()),
            str(self.ended[i]),
            self.texts[i],
        )


def generation_key(identity: str, example: str) -> bytes:
    """Key of the noise for one example of the cell with this identity key: 16 bytes."""
    return hashlib.sha256(f"{identity}\0{example}".encode()).digest()[:KEY_BYTES]
