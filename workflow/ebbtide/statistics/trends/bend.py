"""Where a curve bends: two lines over log10 tokens that meet at a knot.

    m(x) = a + b x + c (x - k)₊

For a given knot k the coefficient c is linear in the values of examples, so all knots are tested together
(`simultaneous.all_of`): the test rejects a curve that is one straight line. Knots are tested at every
checkpoint that leaves two on each side, itself included, and estimated between them, too.

The place is that of least squares; its interval is the percentiles of the bootstrap over examples. A bend
says of this training run that its curve is not one line; a curve that bends smoothly has no sharper place
than its interval.
"""

from dataclasses import dataclass

import numpy as np

from ebbtide.statistics.simultaneous import Means, all_of

FEWEST = 6  # checkpoints: four coefficients and something left over
_BETWEEN = 8  # places between two checkpoints


@dataclass(frozen=True)
class Bend:
    """log10 tokens of the knot, its interval (NaN where the test does not reject), and p over all knots."""

    place: float
    low: float
    high: float
    change: float  # of the slope, per decade
    p: float


def bend_of(means: Means, drawn: np.ndarray, x: np.ndarray, alpha: float) -> Bend:
    """Test for a bend, and find it.

    Parameters
    ----------
    means
        At the T checkpoints.
    drawn
        (B, T) bootstrap draws of the means.
    x
        (T,) log10 tokens in ascending order, at least `FEWEST` different ones.
    """
    places = np.unique(x)
    z, greatest = all_of(_hinges(x, places[1:-1])[0], means)
    p = greatest.p(float(np.abs(z).max()))
    if p > alpha:
        return Bend(np.nan, np.nan, np.nan, np.nan, p)
    steps = np.arange(_BETWEEN) / _BETWEEN
    knots = np.append((places[1:-2, None] + np.diff(places[1:-1])[:, None] * steps).ravel(), places[-2])
    weights, lengths = _hinges(x, knots)
    coefficients = weights @ means.values
    best = int(np.argmax(np.abs(coefficients) * lengths))
    found = knots[np.abs(drawn @ (weights * lengths[:, None]).T).argmax(axis=1)]
    low, high = np.quantile(found, [alpha / 2, 1 - alpha / 2])
    return Bend(float(knots[best]), float(low), float(high), float(coefficients[best]), p)


def _hinges(x: np.ndarray, knots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each knot: (C, T) weights whose product with the means is c, (C,) length of the hinge alone."""
    line = np.column_stack([np.ones_like(x), x])
    hinge = np.maximum(x[:, None] - knots, 0)  # (T, C)
    alone = hinge - line @ np.linalg.lstsq(line, hinge, rcond=None)[0]
    squares = np.sum(alone**2, axis=0)
    return (alone / squares).T, np.sqrt(squares)
