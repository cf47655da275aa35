"""The losses of a loaded checkpoint on the fixed texts, through the engine."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ebbtide.errors import EbbtideError, ScoringError, first_line
from ebbtide.scoring.encoded import Encoded, Requests
from ebbtide.scoring.encoded_task import EncodedTask
from ebbtide.scoring.engine import sums
from ebbtide.scoring.proof.texts import Texts, texts_for
from ebbtide.scoring.rolling import count_bytes

if TYPE_CHECKING:
    from ebbtide.scoring.scorer import Scorer


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


def losses_of(scorer: "Scorer", task: EncodedTask | None = None) -> Losses:
    """Score the texts with a loaded checkpoint, each in a sequence of its own.

    Parameters
    ----------
    task
        From `encode_texts`, with the tokenizer of the scorer; None encodes them.

    Raises
    ------
    ScoringError
        Those of `encode_texts`; too little memory.
    """
    task = task or encode_texts(scorer)
    scores = scorer.score(task.requests)
    values = sums(scores.loglikelihood, scores.bounds)
    return Losses(
        task.facts["language"],
        task.facts["version"],
        tuple(value if math.isfinite(value) else None for value in values),
        tuple(task.requests.scored.tolist()),
        tuple(task.rows["bytes"].tolist()),
        scorer.vocabulary,
    )


def encode_texts(scorer: "Scorer", texts: Texts | None = None) -> EncodedTask:
    """Encode the texts; `texts` of None are those for the tokenizer (see `texts.texts_for`).

    A text follows the tokenizer's beginning token, or its end token. Without either, the first token of the
    text is read and not scored. Texts are cut to the model's window.

    Raises `ScoringError` if the tokenizer cannot encode the texts, or gives tokens outside the vocabulary.
    """
    tokenizer = scorer.tokenizer
    texts = texts or texts_for(tokenizer)
    start = tokenizer.bos if tokenizer.bos is not None else tokenizer.eos
    try:
        ids = tokenizer.ids(texts.texts)
    except EbbtideError:
        raise
    except Exception as error:  # the tokenizer's library raises nothing narrower
        raise ScoringError(f"the tokenizer cannot encode {texts.language} ({first_line(error)}).") from error
    sequences: list[Sequence[int]] = [text if start is None else [start, *text] for text in ids]
    if min(map(len, sequences)) < 2:
        raise ScoringError(f"the tokenizer gives no tokens for {texts.language} texts.")
    if (highest := max(map(max, sequences))) >= scorer.vocabulary:
        raise ScoringError(f"token {highest} is outside the model's vocabulary of {scorer.vocabulary}.")
    most = scorer.window + 1
    requests = Requests.of([Encoded(tuple(text[:most]), context=1, truncated=False) for text in sequences])
    sizes = np.array([count_bytes(text) for text in texts.texts], dtype=np.int64)
    return EncodedTask(requests, {"bytes": sizes}, {"language": texts.language, "version": texts.version})
