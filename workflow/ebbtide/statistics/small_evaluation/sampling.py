"""A stratified sample of the examples of a task, large enough for an interval of the accuracy on all.

Earlier checkpoints of a run tell which answers the next one is likely to change. Examples are grouped by
their last margin into strata, and sampled where answers are uncertain (Neyman allocation). In each stratum
the sample is random. So the estimate Σ W_h ȳ_h has the variance

    Σ W_h² (1 - m_h / N_h) s_h² / (m_h - 1)

whatever the earlier checkpoints predict (Cochran, Sampling Techniques, ch. 5). A poor prediction costs
examples. s_h² is p (1 - p) with p shrunk towards the predicted accuracy and a little towards 1/2, because a
stratum in which no answer of the sample differs still contains examples whose answers do.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

CONFIDENCE = 0.95
LEAST_CHECKPOINTS = 2  # one change of answers, at least

_TRANSITIONS = 5  # most recent changes from which predictions are learned
_BINS = 40  # of margins, in which the share of right answers is counted
_STRATA = 5  # more would leave settled answers in strata with too few examples to see a change
_LEAST = 15  # examples per stratum
_FLOOR = 0.005  # of a predicted accuracy, and of its distance from 1
_WEIGHT = 4  # examples that a prediction counts for in a variance
_NEUTRAL = 0.25  # examples with an accuracy of 1/2 in a variance, because predictions may be out of date
_FIRST = 0.6  # share of the predicted need in the first round: settled strata need less than `_FLOOR` says
_GROWTH = 0.05  # of a sample whose predicted need is met, but whose interval is still too wide


class Estimated(NamedTuple):
    """Accuracy on all examples of a task, from a sample."""

    value: float
    half_width: float  # of the interval with `CONFIDENCE`
    scored: int  # examples in the sample


@dataclass(frozen=True)
class Strata:
    """Groups of examples with similar predictions."""

    of: np.ndarray  # (n,) stratum of each example, from 0
    expected: np.ndarray  # (H,) predicted accuracy


def strata_of(margins: np.ndarray, values: np.ndarray) -> Strata:
    """Group examples by what earlier checkpoints predict for the next one.

    Parameters
    ----------
    margins
        (T, n), T ≥ `LEAST_CHECKPOINTS`, in the order of training: log-likelihood of the right choice minus
        that of the best wrong one, in nats.
    values
        (T, n) in [0, 1]: whether the answers are right.
    """
    transitions = min(_TRANSITIONS, len(margins) - 1)
    before, after = margins[-transitions - 1 : -1], values[-transitions:]
    edges = np.unique(np.quantile(before, np.linspace(0, 1, _BINS + 1)[1:-1]))
    bins = np.searchsorted(edges, before.ravel(), side="right")
    count = np.bincount(bins, minlength=len(edges) + 1)
    right = np.bincount(bins, weights=after.ravel(), minlength=len(edges) + 1)
    predicted = ((right + 0.5) / (count + 1))[np.searchsorted(edges, margins[-1], side="right")]
    # Strata with equal sums of standard deviations along the margins (Dalenius & Hodges 1959).
    order = np.argsort(margins[-1], kind="stable")
    deviation = np.sqrt(_variance(_bounded(predicted)))[order].cumsum()
    of = np.empty(len(order), dtype=np.int64)
    of[order] = np.minimum(deviation / deviation[-1] * _STRATA, _STRATA - 1).astype(np.int64)
    of = np.unique(of, return_inverse=True)[1]
    return Strata(of, np.bincount(of, weights=predicted) / np.bincount(of))


class Sample:
    """The sample of one checkpoint: score the examples of `draw`, and `add` their values, until it is empty.

    Parameters
    ----------
    strata
        From `strata_of`.
    half_width
        Largest half width of the interval.
    rng
        Draws the examples.
    """

    def __init__(self, strata: Strata, half_width: float, rng: np.random.Generator) -> None:
        self._goal = half_width
        self._z = float(ndtri((1 + CONFIDENCE) / 2))
        self._sizes = np.bincount(strata.of)
        self._prior = _bounded(strata.expected)
        self._orders = [rng.permutation(np.flatnonzero(strata.of == h)) for h in range(len(self._sizes))]
        self._scored = np.zeros_like(self._sizes)
        self._sums = np.zeros(len(self._sizes))
        self._drawn = self._scored
        self.rounds = 0

    def draw(self) -> np.ndarray:
        """Return the examples to score next; none once the interval is narrow enough, or all are scored."""
        scored = self._scored
        if self.rounds and (self.estimate().half_width <= self._goal or (scored == self._sizes).all()):
            return np.empty(0, dtype=np.int64)
        least = np.minimum(self._sizes, _LEAST)
        wanted = np.maximum((1.0 if self.rounds else _FIRST) * self._need(), least)
        wanted = np.minimum(np.ceil(wanted - 1e-9).astype(np.int64), self._sizes)
        if (wanted <= scored).all():  # the need is met, but the interval is still a little too wide
            wanted = np.minimum(scored + np.ceil(_GROWTH * scored).astype(np.int64), self._sizes)
        self._drawn = np.maximum(wanted, scored)
        spans = zip(self._orders, scored, self._drawn, strict=True)
        return np.concatenate([order[start:end] for order, start, end in spans])

    def add(self, values: np.ndarray) -> None:
        """Add the values of the examples that `draw` returned, in their order."""
        added = self._drawn - self._scored
        stratum = np.repeat(np.arange(len(added)), added)
        self._sums = self._sums + np.bincount(stratum, weights=values, minlength=len(added))
        self._scored = self._drawn
        self.rounds += 1

    def estimate(self) -> Estimated:
        """Return the estimate from the examples scored so far, of which there must be some."""
        share = self._sizes / self._sizes.sum()
        left = 1 - self._scored / self._sizes
        # A stratum of one example has m - 1 = 0, and nothing left.
        variance = share**2 * left * self._variances() / np.maximum(self._scored - 1, 1)
        half = self._z * float(np.sqrt(variance.sum()))
        return Estimated(float((share * self._sums / self._scored).sum()), half, int(self._scored.sum()))

    def expected_size(self) -> int:
        """Return how many examples the sample needs if the predictions are right."""
        return int(np.ceil(np.maximum(self._need(), np.minimum(self._sizes, _LEAST)).sum()))

    def strata(self) -> list[dict[str, float]]:
        """Return the numbers of each stratum: `examples, scored, mean`, and the `expected` mean."""
        numbers = zip(self._sizes, self._scored, self._sums, self._prior, strict=True)
        return [
            {"examples": int(size), "scored": int(m), "mean": float(total / m), "expected": float(prior)}
            for size, m, total, prior in numbers
        ]

    def _variances(self) -> np.ndarray:
        """Variance of the values in each stratum, at most p (1 - p)."""
        if not self.rounds:
            return _variance(self._prior)
        right = self._sums + _WEIGHT * self._prior + _NEUTRAL / 2
        return _variance(right / (self._scored + _WEIGHT + _NEUTRAL))

    def _need(self) -> np.ndarray:
        """Sizes of the samples of the strata for the wanted half width; Neyman allocation, at most all."""
        total = self._sizes.sum()
        share, variance = self._sizes / total, self._variances()
        deviation, goal = np.sqrt(variance), (self._goal / self._z) ** 2
        need = self._sizes.astype(float)
        free = np.ones(len(need), dtype=bool)  # strata that are not scored completely
        while free.any():
            sum_ = (share * deviation)[free].sum()
            size = sum_**2 / (goal + (share * variance)[free].sum() / total)
            need = np.where(free, size * share * deviation / sum_, self._sizes)
            over = free & (need >= self._sizes)
            if not over.any():
                break
            free &= ~over
        return np.asarray(np.minimum(need, self._sizes))


def _bounded(accuracy: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(accuracy, _FLOOR, 1 - _FLOOR))


def _variance(accuracy: np.ndarray) -> np.ndarray:
    return np.asarray(accuracy * (1 - accuracy))
