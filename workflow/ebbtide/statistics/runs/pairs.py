"""Pairs: the runs of an arm and of its reference at one size, at the checkpoints they have in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ebbtide.notices import listed
from ebbtide.statistics.runs.curves import Curve
from ebbtide.statistics.runs.trend_noise import FEWEST, is_long, trend_window
from ebbtide.statistics.same_tokens import common
from ebbtide.study.arms import short_number


@dataclass(frozen=True)
class Arm:
    """Runs of one arm at K common checkpoints.

    Attributes
    ----------
    tokens
        (K,) training tokens; the mean over runs, if they are only nearly the same.
    values
        (R, K) value of every run.
    influence
        (K, G) mean influence of the examples over the runs.
    within
        (K, K) covariance of one run that the interaction of examples and runs adds: a run is right on other
        examples than the next. NaN for one run.
    """

    name: str
    tokens: np.ndarray
    values: np.ndarray
    influence: np.ndarray
    within: np.ndarray

    @property
    def runs(self) -> int:
        """Number of runs."""
        return len(self.values)

    @cached_property
    def covariance(self) -> np.ndarray:
        """(K, K) covariance over examples of one run, the mean over the runs."""
        own = self.within * (self.runs - 1) / self.runs if self.runs > 1 else 0.0
        found: np.ndarray = self.influence @ self.influence.T + own
        return found

    @cached_property
    def own_curves(self) -> tuple[np.ndarray, np.ndarray]:
        """Curves (R, K) that scatter as a run does, and their covariance (K, K) over examples.

        Runs minus their mean, where the learning curve that they share cancels, times √(R / (R - 1)). One run
        is its own curve.
        """
        if self.runs == 1:
            return self.values, self.covariance
        scale = np.sqrt(self.runs / (self.runs - 1))
        return scale * (self.values - self.values.mean(axis=0)), self.within


@dataclass(frozen=True)
class Pair:
    """Two arms at one size and K common checkpoints.

    Attributes
    ----------
    arm, reference
        The arms; `difference` is arm - reference.
    examples
        What identifies the examples of both, so that they are compared example by example; empty if only
        means are known.
    df
        Degrees of freedom of errors over examples.
    exact
        Number of common checkpoints with equal tokens in all runs; the others are within the tolerance.
    unmatched
        Number of checkpoints of all runs that are not common.
    goes_on
        Training tokens at the end of the longest run, if any run has checkpoints after the last common one;
        0 otherwise.
    stopped
        Runs that end at the last common checkpoint, if others go on.
    """

    size: str
    arm: Arm
    reference: Arm
    examples: str
    df: float
    exact: int
    unmatched: int
    goes_on: float = 0.0
    stopped: tuple[str, ...] = ()

    @cached_property
    def difference(self) -> np.ndarray:
        """(K,) difference of the arms."""
        found: np.ndarray = self.arm.values.mean(axis=0) - self.reference.values.mean(axis=0)
        return found

    @cached_property
    def influence(self) -> np.ndarray:
        """(K, G) influence of the examples on the difference."""
        own, other = self.arm.influence, self.reference.influence
        found: np.ndarray = own - other if self.examples else np.hstack([own, -other])
        return found

    @cached_property
    def covariance(self) -> np.ndarray:
        """(K, K) covariance of the difference over examples."""
        found: np.ndarray = self.influence @ self.influence.T
        return found

    def learning_counts(self, at: np.ndarray) -> bool:
        """Whether checkpoint noise of a mean over `at` contains learning: that of a single run may."""
        if self.arm.runs > 1 and self.reference.runs > 1:
            return False
        window = self.reference.tokens[trend_window(self.reference.tokens, at)]
        return len(window) >= FEWEST and is_long(window)

    @property
    def early_end(self) -> str:
        """Where the comparison ends before some of its runs, and why, as a phrase; empty if it does not."""
        if not self.goes_on:
            return ""
        why = f"{listed(self.stopped)} {'ends' if len(self.stopped) == 1 else 'end'} there"
        if not self.stopped:
            why = "later checkpoints of the runs are not at the same training tokens"
        at, of = short_number(self.reference.tokens[-1]), short_number(self.goes_on)
        return f"at {at} of {of} tokens, because {why}"


class NotComparable(Exception):  # noqa: N818 (a reason, not an error of the program)
    """Why two arms cannot be compared, as a phrase."""


def pair_of(
    size: str,
    arm: tuple[str, Sequence[Curve]],
    reference: tuple[str, Sequence[Curve]],
    tolerance: float,
) -> Pair:
    """Align the runs of two arms by training tokens.

    A checkpoint of the first run of the reference is common if every other run has one whose tokens differ by
    at most the share `tolerance`; the nearest counts, and each only once.

    Raises
    ------
    NotComparable
        No checkpoint is common, or the examples differ.
    """
    curves, examples = _same_examples([*reference[1], *arm[1]])
    rows = _aligned(curves, tolerance)
    tokens = np.stack([curve.tokens[row] for curve, row in zip(curves, rows, strict=True)])
    split = len(reference[1])
    ends = [row[-1] == len(curve.tokens) - 1 for curve, row in zip(curves, rows, strict=True)]
    return Pair(
        size,
        _arm(arm[0], curves[split:], rows[split:]),
        _arm(reference[0], curves[:split], rows[:split]),
        examples,
        min(curve.df for curve in curves),
        int((tokens == tokens[0]).all(axis=0).sum()),
        sum(len(curve.tokens) - len(row) for curve, row in zip(curves, rows, strict=True)),
        0.0 if all(ends) else float(max(curve.tokens[-1] for curve in curves)),
        () if all(ends) else tuple(curve.model for curve, end in zip(curves, ends, strict=True) if end),
    )


def arm_of(name: str, curves: Sequence[Curve], tolerance: float) -> Arm:
    """Align the runs of one arm; see `pair_of`."""
    same, _ = _same_examples(curves)
    return _arm(name, same, _aligned(same, tolerance))


def _same_examples(curves: Sequence[Curve]) -> tuple[list[Curve], str]:
    """Return curves that can be compared, and what identifies their examples; empty if some are unknown."""
    identities = {curve.examples for curve in curves if curve.examples}
    known = all(curve.examples for curve in curves)
    same = list(curves) if known else [curve.without_examples() for curve in curves]
    if len(identities) > 1 or len({curve.influence.shape[1] for curve in same}) > 1:
        raise NotComparable("the runs were not scored on the same examples")
    return same, identities.pop() if known else ""


def _aligned(curves: Sequence[Curve], tolerance: float) -> np.ndarray:
    """Return the indices (runs, K) of the common checkpoints."""
    rows = common([curve.tokens for curve in curves], tolerance)
    if not rows.size:
        raise NotComparable("the runs have no checkpoint at the same training tokens")
    return rows


def _arm(name: str, curves: Sequence[Curve], rows: np.ndarray) -> Arm:
    tokens = np.mean([curve.tokens[row] for curve, row in zip(curves, rows, strict=True)], axis=0)
    values = np.stack([curve.values[row] for curve, row in zip(curves, rows, strict=True)])
    influences = [curve.influence[row] for curve, row in zip(curves, rows, strict=True)]
    mean = np.mean(influences, axis=0)
    within = np.full((len(tokens), len(tokens)), np.nan)
    if len(curves) > 1:
        own = (influence - mean for influence in influences)
        within = sum((one @ one.T for one in own), np.zeros_like(within)) / (len(curves) - 1)
    return Arm(name, tokens, values, mean, within)
