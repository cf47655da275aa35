"""The class of a curve: rising, falling, U-shaped, inverted-U, flat, or undecided.

All pairs of places (checkpoints, or models by compute) are tested together, and Bonferroni makes up for all
curves of the study: that any curve of a study shows a change which is not there has a probability of at
most α. With significant rises and falls so found, and a place m that they may share,

    rising       a rise, no fall
    falling      a fall, no rise
    U-shaped     a fall to m or before, then a rise from m or after; nowhere a rise, then a fall
    inverted-U   a rise, then a fall; nowhere a fall, then a rise
    flat         no rise, no fall, and every simultaneous interval of a change lies within ± `flat`
    undecided    anything else; `note` says what

Sharing m is allowed: the tests hold for all pairs at once, however m was chosen. Up is better: values of
losses are turned before they come here.
"""

from dataclasses import dataclass

import numpy as np

from ebbtide.statistics.simultaneous import Pairs, all_pairs, means_of

ALPHA, FLAT = 0.05, 0.05

CLASSES = ("rising", "falling", "U-shaped", "inverted-U", "flat", "undecided")


@dataclass(frozen=True)
class Step:
    """The clearest change in one direction: between which places, how large (above 0), its adjusted p.

    Without any change in this direction `size` is 0, `p` is 1 and the places are -1.
    """

    start: int
    end: int
    size: float
    p: float


@dataclass(frozen=True)
class Shape:
    """The class of a curve and what decided it.

    `reach` is how far from 0 a simultaneous interval of a change extends at most. `turn` is where a U or an
    inverted U turns: the place, and the first and last that might be it.
    """

    name: str
    rise: Step
    fall: Step
    reach: float
    turn: tuple[int, int, int] | None
    note: str


def classify(values: np.ndarray, curves: int = 1) -> Shape:
    """Classify a curve by the values (K, n) of the same n independent examples at K places, in order.

    As a study of so many `curves` does with its defaults.
    """
    return shape_of(all_pairs(means_of(values, np.arange(values.shape[1]), "")), ALPHA, FLAT, curves)


def shape_of(pairs: Pairs, alpha: float, flat: float, curves: int) -> Shape:
    """Classify a curve by all its pairs.

    Changes within ± `flat` do not matter, in units of the values; the level `alpha` holds for `curves` curves
    together.
    """
    upper = np.triu(np.ones_like(pairs.z, dtype=bool), 1)
    rises, falls = np.where(upper, pairs.z, 0.0), np.where(upper, -pairs.z, 0.0)
    critical = pairs.greatest.critical(alpha, curves)
    up, down = rises > critical, falls > critical
    rise, fall = (_clearest(z, pairs, curves) for z in (rises, falls))
    reach = float(np.max((np.abs(pairs.change) + critical * pairs.error)[upper], initial=0.0))
    name, note = _name(up, down, reach, flat)
    turn = None
    if name in ("U-shaped", "inverted-U"):
        own = pairs.greatest.critical(alpha)
        turn = _turn(pairs, own, sign=1 if name == "inverted-U" else -1)
    return Shape(name, rise, fall, reach, turn, note)


def _name(  # noqa: PLR0911 (a class each)
    up: np.ndarray, down: np.ndarray, reach: float, flat: float
) -> tuple[str, str]:
    if not up.any() and not down.any():
        if reach <= flat:
            return "flat", ""
        return "undecided", f"no change is significant, and changes up to {reach:.3g} are not excluded"
    if not down.any():
        return "rising", ""
    if not up.any():
        return "falling", ""
    bowl, hill = _follows(down, up), _follows(up, down)
    if bowl and hill:
        return "undecided", "rises and falls in turn"
    if bowl:
        return "U-shaped", ""
    if hill:
        return "inverted-U", ""
    return "undecided", "a fall within a rise, or a rise within a fall"


def _follows(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether a change of `second` starts where or after one of `first` ends."""
    ends, starts = np.flatnonzero(first.any(axis=0)), np.flatnonzero(second.any(axis=1))
    return bool(ends.min() <= starts.max())


def _clearest(z: np.ndarray, pairs: Pairs, curves: int) -> Step:
    start, end = (int(i) for i in np.unravel_index(z.argmax(), z.shape))
    if z[start, end] <= 0:
        return Step(-1, -1, 0.0, 1.0)
    return Step(start, end, abs(float(pairs.change[start, end])), pairs.greatest.p(z[start, end], curves))


def _turn(pairs: Pairs, critical: float, sign: int) -> tuple[int, int, int]:
    """The best (sign 1) or worst (-1) place, and the first and last that no other is significantly beyond."""
    beyond = sign * pairs.z > critical  # [s, t]: t is beyond s
    possible = np.flatnonzero(~beyond.any(axis=1))
    place = int((sign * pairs.change[0]).argmax())
    return place, int(min(possible[0], place)), int(max(possible[-1], place))
