"""Compare each checkpoint with the best earlier one, corrected for the selection of the best.

The best of many noisy values is biased upwards. So checkpoint t is tested against *all* earlier checkpoints,
by the largest of their statistics (max-T; Westfall & Young 1993, Resampling-based Multiple Testing). The null
distribution comes from random signs of examples. An example has the same sign at all checkpoints, so
correlated checkpoints need little correction.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from ebbtide.statistics.resampling import DRAWS, cluster_sums, signs

_MIN_EXCEEDING = 10  # fewer draws beyond the observed value give an imprecise p
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class HighWater:
    """The high-water mark before each checkpoint t = 1 … T-1; all arrays have shape (T-1,).

    Attributes
    ----------
    best
        Index of the earlier checkpoint with the best mean; the first one in case of ties.
    strongest
        Index of the earlier checkpoint with the most significant fall to t, which determines p. If t is the
        new best, equal to `best`.
    p
        Two-sided p: share of draws whose largest |z| over all earlier checkpoints reaches that of
        `strongest`. Imprecise unless `resolved`; then use the Bonferroni bound.
    critical
        The 1 - α quantile of the largest |z|. Intervals of this many standard errors simultaneously cover the
        changes from all earlier checkpoints, including the best one.
    resolved
        Whether enough draws exceed the statistic for p to be precise.
    """

    best: np.ndarray
    strongest: np.ndarray
    p: np.ndarray
    critical: np.ndarray
    resolved: np.ndarray


def high_water(values: np.ndarray, clusters: np.ndarray, name: str, alpha: float) -> HighWater:
    """Test each checkpoint against all earlier ones.

    z_st = Σ_i (x_si - x_ti) / √Σ_g (Σ_{i in g} (x_si - x_ti))², where higher x is better. In the draws, the
    numerator is Σ_i g_i (x_si - x_ti) with random signs g.

    Parameters
    ----------
    values
        (T, n) with T ≥ 2, oriented so that higher is better.
    clusters
        (n,) integers from 0.
    name
        Name of the task, which seeds the draws.
    alpha
        Two-sided level of `critical`.
    """
    # Subtracting the first checkpoint keeps all differences and avoids loss of precision from large offsets.
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
        beyond = int((null >= abs(z[strongest[t - 1], t]) - _TOLERANCE).sum())
        p[t - 1] = (1 + beyond) / (1 + DRAWS)
        # With one earlier checkpoint there is no selection: the test of the pair itself is exact.
        resolved[t - 1] = t > 1 and beyond >= _MIN_EXCEEDING
        critical[t - 1] = normal if t == 1 else max(normal, float(np.partition(null, rank)[rank]))
    return HighWater(best, strongest, p, critical, resolved)


def _largest(drawn: np.ndarray, inverse: np.ndarray, t: int) -> np.ndarray:
    """Return the largest |z*_st| over all s < t, (B,)."""
    differences = drawn[:t] - drawn[t]
    np.abs(differences, out=differences)
    differences *= inverse[:t, t, None]
    largest: np.ndarray = differences.max(axis=0)
    return largest


def _spread(sums: np.ndarray) -> np.ndarray:
    """Return √Σ_g (y_sg - y_tg)², (T, T); exactly 0 for identical checkpoints."""
    squares = (sums**2).sum(axis=1)
    both = squares[:, None] + squares
    distances = both - 2 * sums @ sums.T
    return np.sqrt(np.where(distances > 1e-10 * both, distances, 0.0))
