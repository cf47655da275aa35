"""Bend of a curve: two lines over log10 tokens that meet at a knot k.

    m(x) = a + b x + c (x - k)₊

For a given knot k, the coefficient c is linear in the values of examples, so all knots are tested together
(`simultaneous.all_of`). The null hypothesis is a single straight line. Knots are tested at every checkpoint
with two checkpoints on each side, itself included, and estimated on a finer grid between them.

The estimate minimises squared errors; its interval contains percentiles of the bootstrap over examples. A
significant bend means that the curve of this training run is not a line. If it bends smoothly, the knot is no
more precise than its interval.
"""

from dataclasses import dataclass

import numpy as np

from ebbtide.statistics.simultaneous import Means, all_of

MIN_CHECKPOINTS = 6  # four coefficients, and degrees of freedom
_KNOTS_PER_STEP = 8  # candidate knots between two checkpoints


@dataclass(frozen=True)
class Bend:
    """log10 tokens of the knot, its interval (NaN unless significant), and p adjusted over all knots."""

    place: float
    low: float
    high: float
    change: float  # of the slope, per decade
    p: float


def bend_of(means: Means, drawn: np.ndarray, x: np.ndarray, alpha: float) -> Bend:
    """Test for a bend, and estimate its knot if the test is significant at `alpha`.

    Parameters
    ----------
    means
        Means at the T checkpoints.
    drawn
        (B, T) bootstrap draws of the means.
    x
        (T,) log10 tokens in ascending order, at least `MIN_CHECKPOINTS` different ones.
    """
    unique = np.unique(x)
    z, greatest = all_of(_hinges(x, unique[1:-1])[0], means)
    p = greatest.p(float(np.abs(z).max()))
    if p > alpha:
        return Bend(np.nan, np.nan, np.nan, np.nan, p)
    steps = np.arange(_KNOTS_PER_STEP) / _KNOTS_PER_STEP
    knots = np.append((unique[1:-2, None] + np.diff(unique[1:-1])[:, None] * steps).ravel(), unique[-2])
    weights, lengths = _hinges(x, knots)
    coefficients = weights @ means.values
    best = int(np.argmax(np.abs(coefficients) * lengths))
    found = knots[np.abs(drawn @ (weights * lengths[:, None]).T).argmax(axis=1)]
    low, high = np.quantile(found, [alpha / 2, 1 - alpha / 2])
    return Bend(float(knots[best]), float(low), float(high), float(coefficients[best]), p)


def _hinges(x: np.ndarray, knots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (C, T) that give c from the means, and norms (C,) of the residual hinges, per knot."""
    line = np.column_stack([np.ones_like(x), x])
    hinge = np.maximum(x[:, None] - knots, 0)  # (T, C)
    alone = hinge - line @ np.linalg.lstsq(line, hinge, rcond=None)[0]
    squares = np.sum(alone**2, axis=0)
    return (alone / squares).T, np.sqrt(squares)
