"""Classify a curve: rising, falling, U-shaped, inverted-U, flat, or undecided.

A curve has K points: checkpoints, or models ordered by compute. All pairs of points are tested together
(max-T), with a Bonferroni correction over the curves of the study. So the probability of any false change in
a study is at most α. The class depends on the significant rises and falls and on a point m they may share:

    rising       a rise, no fall
    falling      a fall, no rise
    U-shaped     a fall to m or before, then a rise from m or after; nowhere a rise, then a fall
    inverted-U   a rise, then a fall; nowhere a fall, then a rise
    flat         no rise, no fall, and all simultaneous intervals of changes are within ± equivalence margin
    undecided    anything else; `note` gives the reason

Sharing m is valid because the tests hold simultaneously for all pairs. Higher is better: callers change the
sign of losses.
"""

from dataclasses import dataclass

import numpy as np

from ebbtide.statistics.simultaneous import Pairs, all_pairs, means_of

ALPHA, EQUIVALENCE_MARGIN = 0.05, 0.05

CLASSES = ("rising", "falling", "U-shaped", "inverted-U", "flat", "undecided")


@dataclass(frozen=True)
class Step:
    """The most significant change in one direction: its end points, its absolute size and its adjusted p.

    If the curve never changes in this direction, `size` is 0, `p` is 1 and the indices are -1.
    """

    start: int
    end: int
    size: float
    p: float


@dataclass(frozen=True)
class Shape:
    """The class of a curve and the evidence for it.

    `reach` is the largest distance from 0 of any simultaneous interval of a change. `turn` is the turning
    point of a U or an inverted U: its index, and the first and last index that are not excluded.
    """

    name: str
    rise: Step
    fall: Step
    reach: float
    turn: tuple[int, int, int] | None
    note: str


def classify(values: np.ndarray, curves: int = 1) -> Shape:
    """Classify a curve from the values (K, n) of the same n independent examples at K points, in order.

    Uses the default level and margin of a study with `curves` curves.
    """
    pairs = all_pairs(means_of(values, np.arange(values.shape[1]), ""))
    return shape_of(pairs, ALPHA, EQUIVALENCE_MARGIN, curves)


def shape_of(pairs: Pairs, alpha: float, equivalence_margin: float, curves: int) -> Shape:
    """Classify a curve from all its pairs.

    Parameters
    ----------
    alpha
        Family-wise error rate over all `curves`.
    equivalence_margin
        Largest change that is considered negligible, in units of the values.
    curves
        Number of curves in the Bonferroni correction.
    """
    upper = np.triu(np.ones_like(pairs.z, dtype=bool), 1)
    rises, falls = np.where(upper, pairs.z, 0.0), np.where(upper, -pairs.z, 0.0)
    critical = pairs.greatest.critical(alpha, curves)
    up, down = rises > critical, falls > critical
    rise, fall = (_clearest(z, pairs, curves) for z in (rises, falls))
    reach = float(np.max((np.abs(pairs.change) + critical * pairs.error)[upper], initial=0.0))
    name, note = _name(up, down, reach, equivalence_margin)
    turn = None
    if name in ("U-shaped", "inverted-U"):
        own = pairs.greatest.critical(alpha)
        turn = _turn(pairs, own, sign=1 if name == "inverted-U" else -1)
    return Shape(name, rise, fall, reach, turn, note)


def _name(  # noqa: PLR0911 (one return per class)
    up: np.ndarray, down: np.ndarray, reach: float, equivalence_margin: float
) -> tuple[str, str]:
    if not up.any() and not down.any():
        if reach <= equivalence_margin:
            return "flat", ""
        return "undecided", f"no change is significant, and changes up to {reach:.3g} are not excluded"
    if not down.any():
        return "rising", ""
    if not up.any():
        return "falling", ""
    bowl, hill = _follows(down, up), _follows(up, down)
    if bowl and hill:
        return "undecided", "both a U and an inverted U are significant"
    if bowl:
        return "U-shaped", ""
    if hill:
        return "inverted-U", ""
    return "undecided", "a significant fall within a rise, or a rise within a fall"


def _follows(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether a change of `second` starts at or after the end of one of `first`."""
    ends, starts = np.flatnonzero(first.any(axis=0)), np.flatnonzero(second.any(axis=1))
    return bool(ends.min() <= starts.max())


def _clearest(z: np.ndarray, pairs: Pairs, curves: int) -> Step:
    start, end = (int(i) for i in np.unravel_index(z.argmax(), z.shape))
    if z[start, end] <= 0:
        return Step(-1, -1, 0.0, 1.0)
    return Step(start, end, abs(float(pairs.change[start, end])), pairs.greatest.p(z[start, end], curves))


def _turn(pairs: Pairs, critical: float, sign: int) -> tuple[int, int, int]:
    """Return the best (sign 1) or worst (-1) point, and the first and last point that is not excluded."""
    beyond = sign * pairs.z > critical  # [s, t]: t is beyond s
    possible = np.flatnonzero(~beyond.any(axis=1))
    index = int((sign * pairs.change[0]).argmax())
    return index, int(min(possible[0], index)), int(max(possible[-1], index))
