"""Simultaneous tests of all differences of means, with family-wise error rate α (max-T).

The means m of one metric at K points (checkpoints of a model, or models) have K (K - 1) / 2 differences. Each
is divided by its standard deviation s under the null. Each |z| is compared with the null distribution of the
largest |z| over all pairs (max-T: Westfall & Young 1993, Romano & Wolf 2005):

    z_st = (m_t - m_s) / s_st        p_st = P( max over all pairs of |z| under the null >= |z_st| )

For means over the same examples, the null distribution comes from a random sign per example (or cluster). All
differences of an example change sign together, which keeps the dependence between points, and
s² = Σ_g d_g² / n². For means with a given covariance, the null distribution is Gaussian with that covariance.

B draws resolve p down to 1 / (B + 1). Smaller p come from the Bonferroni bound, pairs × p of one pair.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from ebbtide.statistics.panel import is_binary
from ebbtide.statistics.resampling import DRAWS, cluster_sums, named_rng, signs

_ROUNDING = 1e-12  # relative variance below which differences are rounding errors


@dataclass(frozen=True)
class Means:
    """Means at K points, and their null distribution.

    Attributes
    ----------
    values
        (K,) means; higher is better.
    null
        (B, K) draws of the means under the null, up to a constant shared by all points.
    spread
        (K, K) covariance under the null, up to the same constant.
    covariance
        (K, K) sampling covariance of the means.
    n
        Number of examples; 0 if only the means are known.
    groups
        Number of clusters of examples; 0 if only the means are known.
    grain
        Largest change of a mean by one cluster. Errors allow for two clusters with opposite changes: if no
        example changes, other examples still might (Bonett & Price 2012 add as many).
    """

    values: np.ndarray
    null: np.ndarray
    spread: np.ndarray
    covariance: np.ndarray
    n: int
    groups: int
    grain: float


def means_of(values: np.ndarray, clusters: np.ndarray, name: str, draws: int = DRAWS) -> Means:
    """Means over examples: values (K, n) without NaN, clusters (n,). `name`, the task, seeds the draws."""
    n = values.shape[1]
    # The mean of an example over points cancels in every difference. Subtracting it keeps sums exact.
    own = values - values.mean(axis=0)
    sums = cluster_sums(own, clusters)
    groups = sums.shape[1]
    sizes = np.bincount(clusters, minlength=groups)
    means = own.mean(axis=1)
    deviations = sums - means[:, None] * sizes
    correction = groups / (groups - 1) if groups > 1 else np.nan
    return Means(
        values.mean(axis=1),
        signs(own, clusters, name, draws) / n,
        sums @ sums.T / n**2,
        correction * deviations @ deviations.T / n**2,
        n,
        groups,
        (1.0 if is_binary(values) else float(np.ptp(values))) / groups,
    )


def means_with(values: np.ndarray, covariance: np.ndarray, name: str) -> Means:
    """Means (K,) without examples, from their covariance (K, K), or standard errors (K,) if independent."""
    if covariance.ndim == 1:
        covariance = np.diag(covariance**2)
    variances, axes = np.linalg.eigh(covariance)
    root = axes * np.sqrt(np.maximum(variances, 0))
    noise = named_rng(name).standard_normal((DRAWS, len(values)))
    return Means(np.asarray(values, dtype=float), noise @ root.T, covariance, covariance, 0, 0, 0.0)


@dataclass(frozen=True)
class Greatest:
    """Null distribution of the largest |z| of a family of tests."""

    drawn: np.ndarray  # (B,), sorted
    tests: int
    of_signs: bool

    def p(self, z: float, families: int = 1) -> float:
        """Return the two-sided p of z, adjusted over the tests and over `families` (Bonferroni)."""
        reached = len(self.drawn) - np.searchsorted(self.drawn, abs(z))
        together = min((1 + reached) / (len(self.drawn) + 1), self._bound(abs(z)))
        # An adjusted p is at least the unadjusted one, even if the draws do not vary.
        return float(min(1.0, families * max(together, 2 * norm.sf(abs(z)))))

    def critical(self, alpha: float, families: int = 1) -> float:
        """Return the |z| above which `p` is at most alpha."""
        level = alpha / families
        critical = float(norm.isf(level / (2 * self.tests)))
        if self.of_signs:  # in case 2^(1 - z²) is the larger bound
            critical = max(critical, float(np.sqrt(1 + np.log2(self.tests / level))))
        allowed = int(
            level * (len(self.drawn) + 1) + 1e-9
        )  # number of draws that may reach it, counting the data
        if allowed:
            critical = min(critical, float(self.drawn[-allowed]))
        return max(critical, float(norm.isf(level / 2)))

    def _bound(self, z: float) -> float:
        # k equal signs have z² = k, with probability 2^(1 - k).
        alone = max(2 * norm.sf(z), 2.0 ** (1 - z**2) if self.of_signs else 0.0)
        return float(self.tests * alone)


@dataclass(frozen=True)
class Pairs:
    """All pairs of points; element [s, t] is the change from s to t.

    `change` (K, K) is m_t - m_s, `z` (K, K) is the change divided by its null standard deviation (0 if no
    example differs), `error` (K, K) is the standard error of the change.
    """

    change: np.ndarray
    z: np.ndarray
    error: np.ndarray
    greatest: Greatest


def all_pairs(means: Means) -> Pairs:
    """Test all pairs of points together."""
    change = means.values[None, :] - means.values[:, None]
    variance = _of_differences(means.spread)
    inverse = _inverse_root(variance, means.spread)
    drawn = np.zeros(len(means.null), dtype=np.float32)
    null = np.ascontiguousarray(means.null.T, dtype=np.float32)  # (K, B)
    scale = inverse.astype(np.float32)
    for s in range(len(null) - 1):
        block = null[s + 1 :] - null[s]
        block *= scale[s, s + 1 :, None]
        np.abs(block, out=block)
        np.maximum(drawn, block.max(axis=0), out=drawn)
    points = len(null)
    error = np.sqrt(np.maximum(_of_differences(means.covariance), 0) + 2 * means.grain**2)
    return Pairs(change, change * inverse, error, _greatest(drawn, points * (points - 1) // 2, means))


def all_of(contrasts: np.ndarray, means: Means) -> tuple[np.ndarray, Greatest]:
    """Test contrasts (C, K) of the means together; rows sum to 0. Returns z (C,) and the null of max |z|."""
    variance = np.einsum("ck,kl,cl->c", contrasts, means.spread, contrasts)
    inverse = _inverse_root(variance, means.spread)
    drawn = np.abs(means.null @ contrasts.T * inverse).max(axis=1)
    return contrasts @ means.values * inverse, _greatest(drawn, len(contrasts), means)


def _greatest(drawn: np.ndarray, tests: int, means: Means) -> Greatest:
    # Rounding must not make a draw that equals the data smaller than the data.
    return Greatest(np.sort(drawn.astype(float)) * (1 + 1e-6), max(tests, 1), means.n > 0)


def _of_differences(covariance: np.ndarray) -> np.ndarray:
    own = np.diag(covariance)
    found: np.ndarray = own[:, None] + own[None, :] - 2 * covariance
    return found


def _inverse_root(variance: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return 1 / √variance, and 0 where the variance is 0."""
    real = variance > _ROUNDING * max(float(np.trace(spread)), np.finfo(float).tiny)
    inverse: np.ndarray = np.where(real, 1 / np.sqrt(np.where(real, variance, 1.0)), 0.0)
    return inverse
