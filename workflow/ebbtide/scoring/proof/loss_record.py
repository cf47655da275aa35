"""The losses of a checkpoint on the fixed texts, as a proof keeps them. A lean module."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Losses:
    """Log-likelihoods of the fixed texts.

    Attributes
    ----------
    language, version
        Of the texts (see `texts.Texts`).
    loglikelihoods
        Of each text, in nats; None if it is not finite.
    tokens, bytes
        Scored tokens of each text, and its bytes.
    vocabulary
        Rows of the embedding.
    """

    language: str
    version: int
    loglikelihoods: tuple[float | None, ...]
    tokens: tuple[int, ...]
    bytes: tuple[int, ...]
    vocabulary: int

    @property
    def loss(self) -> float:
        """Nats per token over all texts; NaN if one of them has no finite log-likelihood."""
        return -self._total() / sum(self.tokens)

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte over all texts; NaN if one of them has no finite log-likelihood."""
        return -self._total() / sum(self.bytes) / math.log(2)

    @property
    def guess(self) -> float:
        """Nats per token of a uniform guess over the vocabulary."""
        return math.log(self.vocabulary)

    def _total(self) -> float:
        known = [value for value in self.loglikelihoods if value is not None]
        return math.fsum(known) if len(known) == len(self.loglikelihoods) else math.nan

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Losses":
        """The losses of a record that `dataclasses.asdict` made."""
        lists = {name: tuple(record[name]) for name in ("loglikelihoods", "tokens", "bytes")}
        return cls(**{**record, **lists})
