"""The next token of a sequence from its logits.

A token of the vocabulary competes only if temperature, top-k and top-p keep it. The vocabulary is never
sorted: tokens near the most likely one are selected by a threshold, which is lowered until they hold enough
probability. The result does not depend on the thresholds.
"""

import math
from collections.abc import Callable

import numpy as np

from ebbtide.scoring.generation.decoding import Decoding
from ebbtide.scoring.generation.noise import gumbels

Bits = Callable[[int], np.ndarray]  # n → random bits (n,) of the first n tokens, at this place of a sample

FIRST_DEPTH = 4.0  # nats below the most likely token; of English texts, most of the probability is above
NEXT_DEPTH = 2.0
SLACK = 1e-9  # relative; rounding of a comparison that may only keep too many


def choose(logits: np.ndarray, decoding: Decoding, bits: Bits) -> tuple[int, float]:
    """The next token, and its log-likelihood (nats) at temperature 1 without truncation.

    `logits` are (V,) of one sequence. If some are not a number or infinite, so is the log-likelihood.
    """
    highest = logits.max()
    if not math.isfinite(highest):
        return 0, math.nan
    normaliser = float(highest) + math.log(float(np.exp(logits - highest).sum()))
    token = int(logits.argmax()) if decoding.greedy else _sample(logits, highest, decoding, bits)
    return token, float(logits[token]) - normaliser


def _sample(logits: np.ndarray, highest: np.floating, decoding: Decoding, bits: Bits) -> int:
    if decoding.top_k == 0 and decoding.top_p == 1:
        return _sample_all(logits, highest, decoding.temperature, bits(len(logits)))
    kept = kept_tokens(logits, highest, decoding)
    return _winner(kept, logits, highest, decoding.temperature, bits(int(kept.max()) + 1))


def kept_tokens(logits: np.ndarray, highest: np.floating, decoding: Decoding) -> np.ndarray:
    """Tokens that top-k, then top-p keep."""
    temperature, size = decoding.temperature, len(logits)
    least = -math.inf
    if 0 < decoding.top_k < size:
        least = float(np.partition(logits, size - decoding.top_k)[size - decoding.top_k])
    if decoding.top_p == 1:
        return np.flatnonzero(logits >= least)
    if math.isfinite(least):
        kept = np.flatnonzero(logits >= least)
        total = float(np.exp(_scaled(logits[kept], highest, temperature)).sum())
        return _nucleus(kept, logits, highest, decoding, total)
    total = float(np.exp((logits - highest) / logits.dtype.type(temperature)).sum(dtype=np.float64))
    depth = FIRST_DEPTH
    while True:
        kept = np.flatnonzero(logits >= highest - logits.dtype.type(depth * temperature))
        found = _nucleus(kept, logits, highest, decoding, total)
        if len(found) < len(kept) or len(kept) == size:
            return found
        depth += NEXT_DEPTH


def _nucleus(
    kept: np.ndarray, logits: np.ndarray, highest: np.floating, decoding: Decoding, total: float
) -> np.ndarray:
    """The fewest most likely of the `kept` tokens that hold the share top-p of `total`; all if none do."""
    scaled = _scaled(logits[kept], highest, decoding.temperature)
    order = np.argsort(-scaled, kind="stable")  # of equal tokens, the lowest id first
    mass = np.cumsum(np.exp(scaled[order]))
    return kept[order[: int(np.searchsorted(mass, decoding.top_p * total)) + 1]]


def _sample_all(logits: np.ndarray, highest: np.floating, temperature: float, bits: np.ndarray) -> int:
    """Sample from the whole vocabulary, with logarithms of the few tokens that can win.

    The likely tokens compete first. An unlikely one wins only with more noise than what their winner has
    above it, which a comparison of bits finds.
    """
    bound = highest - logits.dtype.type(FIRST_DEPTH * temperature)
    likely = np.flatnonzero(logits >= bound)
    best = (_scaled(logits[likely], highest, temperature) + gumbels(bits[likely])).max()
    needed = math.exp(-math.exp(-(best - (float(bound) - float(highest)) / temperature))) * (1 - SLACK)
    lucky = np.flatnonzero(bits >= np.uint64(needed * 2.0**64))
    return _winner(np.union1d(likely, lucky), logits, highest, temperature, bits)


def _winner(
    kept: np.ndarray, logits: np.ndarray, highest: np.floating, temperature: float, bits: np.ndarray
) -> int:
    """The kept token with the largest sum of log-probability and noise; of equal ones the lowest id."""
    score = _scaled(logits[kept], highest, temperature) + gumbels(bits[kept])
    return int(kept[score == score.max()].min())


def _scaled(logits: np.ndarray, highest: np.floating, temperature: float) -> np.ndarray:
    """Log-probability up to a constant, float64."""
    return np.asarray((logits.astype(np.float64) - float(highest)) / temperature)
