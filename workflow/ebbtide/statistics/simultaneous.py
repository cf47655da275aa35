"""All differences of means at once: no matter how many are looked at, chance alone finds one in α of cases.

The means m of one metric at K places (checkpoints of a model, or models) have K (K - 1) / 2 differences.
Each is divided by the standard deviation s that chance gives it, and the greatest of all |z| is held against
the greatest of all |z| that chance makes (max-T: Westfall & Young 1993, Romano & Wolf 2005):

    z_st = (m_t - m_s) / s_st        p_st = P( max over all pairs of |z| by chance >= |z_st| )

For means over the same examples, chance is a random sign for every example (or cluster): the differences of
one example are turned together, so dependence between places is kept, and s² = Σ_g d_g² / n². For means
that come with a covariance, chance is Gaussian with that covariance.

B draws resolve p no finer than 1 / (B + 1); below that Bonferroni's bound, pairs × p of one pair, takes over.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from ebbtide.statistics.panel import is_binary
from ebbtide.statistics.resampling import DRAWS, cluster_sums, named_rng, signs

_SAME = 1e-12  # of a variance: below, values that are equal differ by rounding


@dataclass(frozen=True)
class Means:
    """Means at K places, and what chance makes of them.

    Attributes
    ----------
    values
        (K,) the means; more is better.
    null
        (B, K) draws of the means by chance alone, up to a number that all places share.
    spread
        (K, K) covariance by chance alone, up to the same.
    covariance
        (K, K) covariance of the means, as their standard errors have it.
    n
        Examples; 0 where only the means are known.
    groups
        Clusters of examples; 0 where only the means are known.
    grain
        What one cluster can change a mean by. Two of them that change in opposite ways are never excluded:
        where no example changes, examples still do not say that none would (Bonett & Price 2012 add as many).
    """

    values: np.ndarray
    null: np.ndarray
    spread: np.ndarray
    covariance: np.ndarray
    n: int
    groups: int
    grain: float


def means_of(values: np.ndarray, clusters: np.ndarray, name: str, draws: int = DRAWS) -> Means:
    """Means over examples: values (K, n) without NaN, clusters (n,); draws follow from `name`, the task's."""
    n = values.shape[1]
    # What an example has at all places cancels in every difference; without it, sums stay exact.
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
    """Means (K,) with a covariance (K, K), or standard errors (K,) if independent, and no examples."""
    if covariance.ndim == 1:
        covariance = np.diag(covariance**2)
    variances, axes = np.linalg.eigh(covariance)
    root = axes * np.sqrt(np.maximum(variances, 0))
    noise = named_rng(name).standard_normal((DRAWS, len(values)))
    return Means(np.asarray(values, dtype=float), noise @ root.T, covariance, covariance, 0, 0, 0.0)


@dataclass(frozen=True)
class Greatest:
    """How great the greatest |z| of a family is by chance; turns z into p."""

    drawn: np.ndarray  # (B,), sorted
    tests: int
    of_signs: bool

    def p(self, z: float, families: int = 1) -> float:
        """Adjusted p of a z, two-sided, over all tests of as many such families (Bonferroni)."""
        reached = len(self.drawn) - np.searchsorted(self.drawn, abs(z))
        together = min((1 + reached) / (len(self.drawn) + 1), self._bound(abs(z)))
        # Many tests are no easier than one, also where draws have nothing to vary.
        return float(min(1.0, families * max(together, 2 * norm.sf(abs(z)))))

    def critical(self, alpha: float, families: int = 1) -> float:
        """The |z| above which `p` is at most alpha."""
        level = alpha / families
        critical = float(norm.isf(level / (2 * self.tests)))
        if self.of_signs:  # where 2^(1 - z²) is the greater of the two
            critical = max(critical, float(np.sqrt(1 + np.log2(self.tests / level))))
        allowed = int(level * (len(self.drawn) + 1) + 1e-9)  # draws that may reach it, and the data
        if allowed:
            critical = min(critical, float(self.drawn[-allowed]))
        return max(critical, float(norm.isf(level / 2)))

    def _bound(self, z: float) -> float:
        # k signs that all agree have z² = k, and do so with p = 2^(1 - k).
        alone = max(2 * norm.sf(z), 2.0 ** (1 - z**2) if self.of_signs else 0.0)
        return float(self.tests * alone)


@dataclass(frozen=True)
class Pairs:
    """Every pair of places: [s, t] is from s to t.

    `change` (K, K) is m_t - m_s, `z` (K, K) the change by what chance gives it (0 where nothing differs),
    `error` (K, K) the standard error of the change.
    """

    change: np.ndarray
    z: np.ndarray
    error: np.ndarray
    greatest: Greatest


def all_pairs(means: Means) -> Pairs:
    """All pairs of places, tested together."""
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
    places = len(null)
    error = np.sqrt(np.maximum(_of_differences(means.covariance), 0) + 2 * means.grain**2)
    return Pairs(change, change * inverse, error, _greatest(drawn, places * (places - 1) // 2, means))


def all_of(contrasts: np.ndarray, means: Means) -> tuple[np.ndarray, Greatest]:
    """z (C,) of contrasts (C, K) of the means, each row of which sums to 0, tested together."""
    variance = np.einsum("ck,kl,cl->c", contrasts, means.spread, contrasts)
    inverse = _inverse_root(variance, means.spread)
    drawn = np.abs(means.null @ contrasts.T * inverse).max(axis=1)
    return contrasts @ means.values * inverse, _greatest(drawn, len(contrasts), means)


def _greatest(drawn: np.ndarray, tests: int, means: Means) -> Greatest:
    # Rounding must not put a draw that equals the data below it.
    return Greatest(np.sort(drawn.astype(float)) * (1 + 1e-6), max(tests, 1), means.n > 0)


def _of_differences(covariance: np.ndarray) -> np.ndarray:
    own = np.diag(covariance)
    found: np.ndarray = own[:, None] + own[None, :] - 2 * covariance
    return found


def _inverse_root(variance: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """1 / √variance, and 0 where there is none."""
    real = variance > _SAME * max(float(np.trace(spread)), np.finfo(float).tiny)
    inverse: np.ndarray = np.where(real, 1 / np.sqrt(np.where(real, variance, 1.0)), 0.0)
    return inverse
