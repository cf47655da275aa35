"""How a curve changes over size (or tokens): over how many decades, and after what has another changed?

A curve m over x = log10 N is fitted by

    m(x) = a + b G(x),   G(x) = [F((x - c)/s) - F((x_1 - c)/s)] / [F((x_T - c)/s) - F((x_1 - c)/s)]

with the logistic function F. G goes from 0 at the smallest to 1 at the largest size, whatever c and s are. It
ranges from a step (s → 0) to a straight line (s → ∞), so that both are special cases of one family. For c and
s on a grid, a and b are linear, and the best of the grid is the fit.

The *width* is the length in x over which G goes from 0.1 to 0.9: 0 for a step, 0.8 (x_T - x_1) for a line.
Where a change happens between two neighbouring sizes, all narrower ones fit as well, and the narrowest is
reported; so the width is only known to be at most one gap. The *jump* is the largest change between
neighbours, as a share of the change from the smallest to the largest.

The *head start* of a signal is the share of its change that it has made when an outcome has made the first
tenth of its own: 0.1 if the two change together.
"""

from dataclasses import dataclass

import numpy as np

CENTRES, SCALES = 81, 25  # of the grid
SLOWEST = 2.0  # largest s, in units of the range of x; a line within 1 %
FASTEST = 0.02  # smallest s, in units of the narrowest gap
BEGINS = 0.1  # share of its change after which an outcome has begun to change
ENOUGH = 1e-9  # errors within this share of the total are equal


@dataclass(frozen=True)
class Change:
    """What B curves do between the smallest and the largest x; arrays (B,).

    `total` is the last value minus the first, `width` in units of x, `jump` the largest change between
    neighbours as a share of the total, and `place` the index of the point after it.
    """

    total: np.ndarray
    width: np.ndarray
    jump: np.ndarray
    place: np.ndarray


def changes(x: np.ndarray, curves: np.ndarray) -> Change:
    """Measure the change of curves (B, T) over x (T,), ascending, at least three points."""
    shapes, widths = _shapes(x)
    centred = shapes - shapes.mean(axis=1, keepdims=True)
    squares = (centred**2).sum(axis=1)
    own = curves - curves.mean(axis=1, keepdims=True)
    # Σ (m - a - b G)² = Σ m² - (Σ m G)² / Σ G², with both centred.
    explained = (own @ centred.T) ** 2 / squares  # (B, K)
    best = explained.max(axis=1, keepdims=True)
    equal = explained >= best - ENOUGH * (own**2).sum(axis=1, keepdims=True)
    width = np.where(equal, widths, np.inf).min(axis=1)
    total = curves[:, -1] - curves[:, 0]
    steps = np.diff(curves, axis=1)
    signed = steps * np.sign(total)[:, None]
    place = signed.argmax(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        jump = np.where(total != 0, signed.max(axis=1) / np.abs(total), np.nan)
    return Change(total, width, jump, place + 1)


def _shapes(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the curves G at x, (K, T), and the width of each, (K,)."""
    gaps, span = np.diff(x), x[-1] - x[0]
    scales = np.geomspace(FASTEST * gaps.min(), SLOWEST * span, SCALES)
    centres = np.linspace(x[0], x[-1], CENTRES)
    centre, scale = (grid.ravel() for grid in np.meshgrid(centres, scales))

    def rises(at: np.ndarray) -> np.ndarray:
        """F at `at` (…, 1): (…, K)."""
        found: np.ndarray = 1 / (1 + np.exp(-np.clip((at - centre) / scale, -500, 500)))
        return found

    low, high = rises(x[:1, None])[0], rises(x[-1:, None])[0]
    kept = high - low > 0.5 * ENOUGH
    shapes = ((rises(x[:, None]) - low) / np.where(kept, high - low, 1)).T

    def crossing(share: float) -> np.ndarray:
        level = np.clip(low + share * (high - low), 1e-300, 1 - 1e-16)
        found: np.ndarray = np.clip(centre + scale * np.log(level / (1 - level)), x[0], x[-1])
        return found

    return shapes[kept], (crossing(0.9) - crossing(0.1))[kept]


def head_starts(outcome: np.ndarray, signal: np.ndarray) -> np.ndarray:
    """Return the share (B,) of its change that `signal` (B, T) has made when `outcome` has made a tenth.

    Curves are linear between points. The tenth is where the outcome first has it; NaN for curves that do not
    change.
    """
    rows = np.arange(len(outcome))
    with np.errstate(divide="ignore", invalid="ignore"):
        own, other = ((m - m[:, :1]) / (m[:, -1:] - m[:, :1]) for m in (outcome, signal))
        after = (own >= BEGINS).argmax(axis=1)  # the first point that has the tenth, at least the second
        before = np.maximum(after - 1, 0)
        share = (BEGINS - own[rows, before]) / (own[rows, after] - own[rows, before])
        found: np.ndarray = other[rows, before] + share * (other[rows, after] - other[rows, before])
    return found
