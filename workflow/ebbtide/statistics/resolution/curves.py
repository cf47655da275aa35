"""Summaries of one curve over training: monotonicity, total variation, onset, and half of its change."""

from typing import NamedTuple

import numpy as np
from scipy.stats import norm, rankdata

from ebbtide.statistics.resampling import named_rng
from ebbtide.statistics.trends.early_warning import fall_of

DRAWN = 400  # draws of curves
CLEAR = 3.0  # a change is located if it is so many standard deviations of its draws


class Summary(NamedTuple):
    """A statistic and its draws (B,) under the noise of examples and checkpoints."""

    value: float
    drawn: np.ndarray


class Change(NamedTuple):
    """The largest rise or fall of a curve: its size, and log10 of the tokens at half of it."""

    size: float
    clear: bool
    half: Summary


class Curve(NamedTuple):
    """Summaries of a curve of which higher is better.

    `monotonicity` is the rank correlation with tokens. `onset` is in tokens: the first checkpoint that is
    above chance with all later ones; infinite if there is none. `ranks` (1 + DRAWN, T) are the centred
    ranks of the checkpoints, in the curve and in draws of it.
    """

    monotonicity: Summary
    total_variation: Summary
    onset: Summary
    rise: Change
    fall: Change
    ranks: np.ndarray


def curve_of(  # noqa: PLR0917 (the curve, its noise, and what it is compared with)
    name: str,
    x: np.ndarray,
    values: np.ndarray,
    deviations: np.ndarray,
    wiggle: float,
    chance: float,
    alpha: float,
) -> Curve:
    """Summarise a curve.

    Parameters
    ----------
    name
        Seeds the draws of the wiggle.
    x
        (T,) training tokens, or steps.
    values
        (T,) the metric, higher is better.
    deviations
        (B, T) draws of the sampling error over examples, of which the first `DRAWN` are used.
    wiggle
        Standard deviation between checkpoints that examples do not explain.
    chance
        Level of chance; NaN is unknown.
    """
    sampled = deviations[:DRAWN]
    noise = named_rng(name).standard_normal(sampled.shape)
    both = np.vstack([values, values + sampled + wiggle * noise])
    steps = np.abs(np.diff(both, axis=1)).sum(axis=1)
    ranks = rankdata(both, axis=1).astype(np.float32)
    ranks -= ranks.mean(axis=1, keepdims=True)
    onset = np.full(len(both), np.nan)
    if not np.isnan(chance):
        error = np.sqrt(deviations.var(axis=0) + wiggle**2)
        stays = _stays(both - norm.isf(alpha / 2) * error > chance)
        onset = np.where(stays.any(axis=1), x[stays.argmax(axis=1)], np.inf)
    return Curve(
        centred(correlations(rankdata(x), ranks)) if len(x) > 2 else _unknown(),
        centred(steps),
        Summary(float(onset[0]), onset[1:]),
        _change(x, -both),
        _change(x, both),
        ranks,
    )


def centred(found: np.ndarray) -> Summary:
    """Return a statistic (1 + B,) with its draws shifted to its value.

    Noise changes the statistic of a draw once more than that of the data. So the draws say how far the value
    of another draw with the same noise would be from this one.
    """
    return Summary(float(found[0]), found[0] + found[1:] - found[1:].mean())


def along(one: Curve, other: Curve) -> Summary:
    """Return the rank correlation of two curves over the same checkpoints."""
    return centred(correlations(one.ranks, other.ranks)) if one.ranks.shape[1] > 2 else _unknown()


def _unknown() -> Summary:
    return Summary(np.nan, np.full(DRAWN, np.nan))


def _stays(above: np.ndarray) -> np.ndarray:
    """Whether a curve is above chance at a checkpoint and at all later ones."""
    stays: np.ndarray = np.logical_and.accumulate(above[:, ::-1], axis=1)[:, ::-1]
    return stays


def _change(x: np.ndarray, curves: np.ndarray) -> Change:
    if len(x) < 3 or x[0] <= 0:
        return Change(np.nan, False, Summary(np.nan, np.full(len(curves) - 1, np.nan)))
    found = fall_of(curves, np.log10(x))
    size = float(found.size[0])
    clear = size > CLEAR * float(found.size[1:].std())
    return Change(size, clear and size > 0, Summary(float(found.half[0]), found.half[1:]))


def correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson correlation of the rows of a and b, (…, T); 0 if one is constant."""
    a, b = a - a.mean(axis=-1, keepdims=True), b - b.mean(axis=-1, keepdims=True)
    scale = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    found: np.ndarray = np.divide((a * b).sum(axis=-1), scale, out=np.zeros_like(scale), where=scale > 0)
    return found
