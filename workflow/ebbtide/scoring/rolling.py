"""The log-likelihood of long documents in windows, and the metrics computed from it.

As in lm-evaluation-harness 0.4.13, a document is split into windows so that each of its tokens is scored
exactly once. With `context=1`, successive windows share one token, which is scored in one and only read in
the next. With `context=k`, a window begins with k tokens that are only read. The last window starts as early
as possible.

document   t0 t1 t2 t3 t4 t5 t6 t7          window of 4, context of 2
window 1   s·t0 t1 t2 t3                    s: the beginning (or end) token, only read
window 2         t2 t3·t4 t5 t6             before the dot: only read
window 3               t4 t5 t6·t7  …
"""

import math
import re
from collections.abc import Sequence

import numpy as np

from ebbtide.errors import ScoringError
from ebbtide.scoring.encoded import Requests


def rolling_windows(
    documents: Sequence[Sequence[int]], start: int, window: int, context: int = 1
) -> tuple[Requests, np.ndarray]:
    """Split documents into windows that score each of their tokens once.

    Parameters
    ----------
    documents
        Tokens of each document. The harness also scores the tokens that a tokenizer's post-processor
        prepends; to do so, include them here.
    start
        Token from which the first one is predicted: the beginning or, without one, the end token.
    window
        Context window in tokens.
    context
        Fewest tokens that a window (except the first) reads before the first one it scores.

    Returns
    -------
    The windows, document by document, and the number of windows of each document (D,): 0 for a document
    without tokens. The concatenated continuations of a document's windows are its tokens.

    Raises
    ------
    ScoringError
        `context` outside 1 … `window`.
    """
    if not 1 <= context <= window:
        raise ScoringError(f"context: found {context}, allowed: 1 to the window of {window} tokens.")
    parts, counts = [np.zeros(0, dtype=np.int32)], []
    scored: list[int] = []  # tokens of each window
    for tokens in documents:
        document = np.array([start, *tokens], dtype=np.int32)
        done, before = 1, len(scored)  # tokens of `document` that are scored, including the start token
        while done < len(document):
            step = window if done == 1 else window - context + 1
            end = min(done + step, len(document))
            # The last token is scored but not read.
            parts.append(document[max(0, end - window - 1) : end])
            scored.append(end - done)
            done = end
        counts.append(len(scored) - before)
    sizes = np.array([len(part) for part in parts[1:]], dtype=np.int64)
    flags = np.zeros(len(sizes), dtype=bool)
    bounds = np.cumsum([0, *sizes], dtype=np.int64)
    windows = Requests(np.concatenate(parts), bounds, sizes - np.array(scored, dtype=np.int64), flags, flags)
    return windows, np.array(counts, dtype=np.int64)


def count_bytes(text: str) -> int:
    """Bytes of a text in UTF-8."""
    return len(text.encode("utf-8"))


def count_words(text: str) -> int:
    """Words of a text as the harness counts them: the parts between whitespace, including empty ends."""
    return len(re.split(r"\s+", text))


def loss(loglikelihoods: Sequence[float], tokens: Sequence[int]) -> float:
    """Mean loss of a corpus in nats per token.

    Takes one log-likelihood (nats) and one number of tokens per document. It is the ratio of the sums, so
    documents are weighted by length. Raises `ScoringError` for a corpus without tokens.
    """
    total = math.fsum(loglikelihoods)
    if len(loglikelihoods) != len(tokens):
        raise ScoringError(f"{len(loglikelihoods)} log-likelihoods for {len(tokens)} documents.")
    if (weight := math.fsum(tokens)) <= 0:
        raise ScoringError("a corpus without tokens, bytes or words has no mean loss.")
    return -total / weight


def bits_per_byte(loglikelihoods: Sequence[float], sizes: Sequence[int]) -> float:
    """Bits per byte of a corpus, from the nats and bytes of each document (see `loss`)."""
    return loss(loglikelihoods, sizes) / math.log(2)


def perplexity(loglikelihoods: Sequence[float], counts: Sequence[int]) -> float:
    """Perplexity per token, byte or word, depending on what `counts` are (see `loss`).

    Infinite if it exceeds the range of a float, such as for a poor model and text without spaces.
    """
    try:
        return math.exp(loss(loglikelihoods, counts))
    except OverflowError:
        return math.inf
