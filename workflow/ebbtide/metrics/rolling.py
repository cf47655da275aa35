"""Metrics of whole documents, one row per document.

Metrics are ratios of sums, so documents are weighted by their length. stderr: that of a ratio of sums over
independent documents, or over the clusters that the task names.
"""

import numpy as np

from ebbtide.metrics.errors_of_means import EXPONENTIAL
from ebbtide.metrics.examples import Examples
from ebbtide.metrics.registry import metric


def _tokens(x: Examples) -> np.ndarray:
    return x.column("tokens")


def _bytes(x: Examples) -> np.ndarray:
    return x.column("bytes")


def _per(x: Examples, size: np.ndarray) -> np.ndarray:
    """Loss per token or byte; 0 for an empty document, whose weight is 0."""
    rate: np.ndarray = np.divide(-x.lp, size, out=np.zeros(len(x)), where=size > 0)
    return rate


@metric(
    "rolling", unit="nats per token", higher_is_better=False, main=True, needs=("tokens",), weights=_tokens
)
def loss(x: Examples) -> np.ndarray:
    """-Σ lp / Σ tokens.

    Nats per token, 0 and above. Depends on the tokenizer.
    """
    return _per(x, _tokens(x))


@metric(
    "rolling",
    unit="bits per byte",
    higher_is_better=False,
    harness="bits_per_byte",
    main=True,
    needs=("bytes",),
    weights=_bytes,
)
def bits_per_byte(x: Examples) -> np.ndarray:
    """-Σ lp / Σ bytes / log 2.

    Bits per byte of UTF-8, 0 and above; comparable across tokenizers. Source: the Pile, Gao et al. 2020; the
    harness.
    """
    bits: np.ndarray = _per(x, _bytes(x)) / np.log(2)
    return bits


@metric("rolling", unit="", higher_is_better=False, needs=("tokens",), weights=_tokens, transform=EXPONENTIAL)
def perplexity(x: Examples) -> np.ndarray:
    """exp(loss), per token.

    1 and above. Depends on the tokenizer. stderr: delta method.
    """
    return loss(x)


@metric(
    "rolling",
    unit="",
    higher_is_better=False,
    harness="byte_perplexity",
    needs=("bytes",),
    weights=_bytes,
    transform=EXPONENTIAL,
)
def byte_perplexity(x: Examples) -> np.ndarray:
    """exp(-Σ lp / Σ bytes).

    1 and above. Source: the harness. stderr: delta method; the harness bootstraps.
    """
    return _per(x, _bytes(x))
