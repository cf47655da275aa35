"""The losses of a loaded checkpoint on the fixed texts, through the engine."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ebbtide.errors import EbbtideError, ScoringError, first_line
from ebbtide.scoring.encoded import Encoded, Requests
from ebbtide.scoring.encoded_task import EncodedTask
from ebbtide.scoring.engine import sums
from ebbtide.scoring.proof.loss_record import Losses
from ebbtide.scoring.proof.texts import Texts, texts_for
from ebbtide.scoring.rolling import count_bytes

if TYPE_CHECKING:
    from ebbtide.scoring.scorer import Scorer


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
