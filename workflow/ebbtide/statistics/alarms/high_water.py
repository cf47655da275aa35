"""Each checkpoint against the best before it: the best of many noisy values is too good, and the test knows.

A checkpoint t is tested against *all* earlier ones at once, by the largest of their statistics (max-T;
Westfall & Young 1993, Resampling-based Multiple Testing). Its null distribution comes from random signs of
whole examples, one sign for all checkpoints, so that checkpoints that go together need little correction.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from ebbtide.statistics.resampling import DRAWS, cluster_sums, signs

_RESOLVED = 10  # draws beyond the observed value, below which the share of draws says too little
_TIE = 1e-4


@dataclass(frozen=True)
class HighWater:
    """Of each checkpoint t = 1 … T-1, arrays of T-1.

    Attributes
    ----------
    best
        The earlier checkpoint with the best mean; of equal ones the first.
    strongest
        The earlier checkpoint from which the fall to t is surest, which gives p. Of a t that is the new best:
        `best`.
    p
        Share of draws whose largest |z| over all earlier checkpoints reaches that of `strongest`, two-sided.
        NaN where the draws cannot tell: Bonferroni's bound is needed (`resolved`).
    critical
        The 1 - α quantile of the largest |z|: intervals that reach this many standard errors cover the
        changes from all earlier checkpoints together, so that of the best one, too.
    resolved
        Whether p is more than a few draws.
    """

    best: np.ndarray
    strongest: np.ndarray
    p: np.ndarray
    critical: np.ndarray
    resolved: np.ndarray


def high_water(values: np.ndarray, clusters: np.ndarray, name: str, alpha: float) -> HighWater:
    """Test each checkpoint against all earlier ones.

    z_st = Σ_i (x_si - x_ti) / √Σ_g (Σ_{i in g} (x_si - x_ti))²; more is better. In the draws the numerator is
    Σ_i g_i (x_si - x_ti) with random signs g.

    Parameters
    ----------
    values
        (T, n), T of at least 2, turned so that more is better.
    clusters
        (n,) whole numbers from 0 on.
    name
        Of the task; draws follow from it.
    alpha
        Two-sided level of `critical`.
    """
    # Distances from the first checkpoint: the differences are the same, and large offsets do not eat digits.
    values = values - values[:1]
    T = len(values)
    totals = values.sum(axis=1)
    spread = _spread(cluster_sums(values, clusters))  # (T, T)
    drawn = np.ascontiguousarray(signs(values, clusters, name).T, dtype=np.float32)  # (T, B)
    inverse = np.where(spread > 0, 1 / np.where(spread > 0, spread, 1), 0)
    z = (totals[:, None] - totals) * inverse  # (T, T): fall from s to t

    best, strongest = np.empty(T - 1, int), np.empty(T - 1, int)
    p, critical, resolved = np.ones(T - 1), np.empty(T - 1), np.ones(T - 1, bool)
    normal = ndtri(1 - alpha / 2)
    rank = min(DRAWS - 1, int(np.ceil((1 - alpha) * (DRAWS + 1))) - 1)
    scaled = inverse.astype(np.float32)
    for t in range(1, T):
        best[t - 1] = totals[:t].argmax()
        fell = totals[best[t - 1]] > totals[t]
        strongest[t - 1] = z[:t, t].argmax() if fell else best[t - 1]
        null = _largest(drawn, scaled, t)
        beyond = int((null >= abs(z[strongest[t - 1], t]) - _TIE).sum())
        p[t - 1] = (1 + beyond) / (1 + DRAWS)
        # With one earlier checkpoint nothing was chosen: the test of the pair itself is exact.
        resolved[t - 1] = t > 1 and beyond >= _RESOLVED
        critical[t - 1] = normal if t == 1 else max(normal, float(np.partition(null, rank)[rank]))
    return HighWater(best, strongest, p, critical, resolved)


def _largest(drawn: np.ndarray, inverse: np.ndarray, t: int) -> np.ndarray:
    """The largest |z*_st| over all s < t, (B,)."""
    differences = drawn[:t] - drawn[t]
    np.abs(differences, out=differences)
    differences *= inverse[:t, t, None]
    largest: np.ndarray = differences.max(axis=0)
    return largest


def _spread(sums: np.ndarray) -> np.ndarray:
    """√Σ_g (y_sg - y_tg)², (T, T); exactly 0 for checkpoints without a difference."""
    squares = (sums**2).sum(axis=1)
    both = squares[:, None] + squares
    distances = both - 2 * sums @ sums.T
    return np.sqrt(np.where(distances > 1e-10 * both, distances, 0.0))
