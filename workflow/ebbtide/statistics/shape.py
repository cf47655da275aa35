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

Sharing m is valid because the tests hold simultaneously for all pairs.

Classes, rises and falls describe the values as they are: a loss that decreases is falling. `ability_of` says
what that means for the model.
"""

from dataclasses import dataclass, replace

import numpy as np

from ebbtide.metrics.direction import find_metric, higher_is_better, lower_is_better
from ebbtide.statistics.detectable import POWER, PairNoise
from ebbtide.statistics.simultaneous import Pairs, all_pairs, means_of

ALPHA, EQUIVALENCE_MARGIN = 0.05, 0.05

CLASSES = ("rising", "falling", "U-shaped", "inverted-U", "flat", "undecided")
# Class of a curve → what it means for the model if higher is better, if lower is better, or if neither is.
ABILITIES = {
    "rising": ("improves", "worsens", "rises"),
    "falling": ("worsens", "improves", "falls"),
    "U-shaped": ("worsens, then improves", "improves, then worsens", "falls, then rises"),
    "inverted-U": ("improves, then worsens", "worsens, then improves", "rises, then falls"),
}


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


def ability_of(name: str, metric: str) -> str:
    """Return what the class of a curve means for the model; flat and undecided mean the same for all."""
    judged = find_metric(metric) is None or higher_is_better(metric) is not None
    return ABILITIES.get(name, (name,) * 3)[2 if not judged else int(lower_is_better(metric))]


def turn_detectable(name: str, noise: PairNoise, critical: float) -> float:
    """Return the depth of a turn that would have been found with 80 % probability, in units of the values.

    A rising curve turns if it also falls by this much, a falling one if it rises. Curves without a change
    turn if they do both; as either side may be missed, each must be found with √0.8 = 89 %.

    Parameters
    ----------
    name
        Class of the curve.
    noise
        Changes from the first point to each inner one, and from these to the last (see `turning_pairs`).
    critical
        |z| at which a pair is significant.

    Returns
    -------
    The median over the inner points. NaN if a turn was found, with fewer than three points, or without noise.
    """
    signs = {"rising": (1,), "falling": (-1,), "flat": (1, -1), "undecided": (1, -1)}.get(name, ())
    if not signs or not len(noise.old):
        return np.nan
    if noise.shares:  # what a curve gains or loses adds between nothing and its size to the discordance
        still = np.sqrt(noise.discordant**2 - noise.change**2)
        noise = replace(noise, discordant=still, change=np.zeros_like(still))
    z, power = np.full(len(noise.old), critical), POWER ** (1 / len(signs))
    depths = np.max([noise.detectable(z, sign, power) for sign in signs], axis=0)
    return float(np.nanmedian(depths)) if not np.isnan(depths).all() else np.nan


def turning_pairs(points: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the starts and ends of the changes before and after each of the inner points of a curve."""
    inner = np.arange(1, points - 1)
    return np.r_[np.zeros_like(inner), inner], np.r_[inner, np.full_like(inner, points - 1)]


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
