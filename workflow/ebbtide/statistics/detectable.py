"""Minimum detectable changes: the smallest true change that a paired test detects with a given power.

A drop makes examples discordant that agree without it. So the noise of a pair *with* the drop matters, not
that of the observed pair.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv, ndtr, ndtri, stdtrit

from ebbtide.statistics.resampling import cluster_sums

POWER = 0.8
_HALVINGS = 45  # of [0, 1], the range of drops of a share
# The large-sample formula differs by one example from the exact drop without churn. Below about 20 discordant
# examples the difference decays with this scale: exact power 0.80 to 0.83 at the 5 % level.
_FEW = 5.0


@dataclass(frozen=True)
class PairNoise:
    """How much pairs of checkpoints change by chance.

    Attributes
    ----------
    old, change
        (pairs,) mean of the reference, and its change.
    discordant
        (pairs,) share of examples that changed.
    error
        (pairs,) standard error of the change, √(G/(G-1) Σ_g (Σ_{i in g} (d_i - d̄))²) / n; NaN for a single
        cluster.
    n, groups
        Number of examples, and of clusters.
    shares
        Whether all values are 0 or 1.
    """

    old: np.ndarray
    change: np.ndarray
    discordant: np.ndarray
    error: np.ndarray
    n: int
    groups: int
    shares: bool

    def detectable(self, z: np.ndarray, sign: int = 1, power: float = POWER) -> np.ndarray:
        """Return the smallest fall (or rise, if `sign` is -1) that is detected with `power`, (pairs,).

        Shares: see `drop_of_shares`. With clusters, n is divided by the design effect, the variance of the
        change over that of independent examples. Other values: (t_α + t_β) standard errors, if all examples
        change alike; a change of a few examples adds noise, and is detected less often.

        Parameters
        ----------
        z
            (pairs,) critical values, as normal quantiles.

        Returns
        -------
        NaN if too few examples or clusters can be significant, or if there is no noise.
        """
        possible = pairs_needed(z) <= self.groups
        df = np.inf if self.shares and self.groups == self.n else max(self.groups - 1, 1)
        if not self.shares:
            reach = np.sum(_quantiles(z, df, power), axis=0)
            return np.where(possible & (self.error > 0), reach * self.error, np.nan)
        alone = (self.discordant - self.change**2) / self.n
        with np.errstate(divide="ignore", invalid="ignore"):
            effect = np.where(alone > 0, np.fmax(self.error**2 / alone, 1.0), 1.0)
        n = np.full_like(z, self.n) if np.isinf(df) else self.n / effect
        able = self.old if sign > 0 else 1 - self.old
        drop = drop_of_shares(self.discordant, self.change * sign, able, n, z, df, power)
        return np.where(possible, drop, np.nan)


def noise_of(new: np.ndarray, old: np.ndarray, clusters: np.ndarray, shares: bool) -> PairNoise:
    """Return the noise of pairs from values (pairs, n) of the same examples, clusters (n,) from 0."""
    d = new - old
    change, n, groups = d.mean(axis=1), d.shape[1], int(clusters.max()) + 1
    residues = cluster_sums(d - change[:, None], clusters)
    factor = groups / (groups - 1) if groups > 1 else np.nan
    error = np.sqrt(factor * (residues**2).sum(axis=1)) / n
    return PairNoise(old.mean(axis=1), change, (d != 0).mean(axis=1), error, n, groups, shares)


def pairs_needed(z: np.ndarray) -> np.ndarray:
    """Return the fewest discordant pairs m in one direction whose mid-p 2^-m is at most the level of z."""
    needed: np.ndarray = np.ceil(-np.log2(2 * ndtr(-z)))
    return needed


def drop_of_shares(  # noqa: PLR0917 (the observed pair, then the test)
    discordant: np.ndarray,
    change: np.ndarray,
    able: np.ndarray,
    n: np.ndarray,
    z: np.ndarray,
    df: float = np.inf,
    power: float = POWER,
) -> np.ndarray:
    """Return the smallest drop of a share that is detected with `power`, (pairs,).

    Solves √n d = z √ψ + z_β √(ψ - d²) for d, the power of McNemar's test after Miettinen (1968), Biometrics
    24:339. ψ is the share of discordant examples of a pair with this drop:

        ψ = ψ₀ + d (1 - ψ₀ / m)

    ψ₀ is that of a pair without a drop, m the share that can get worse. All these examples are assumed to be
    equally likely to get worse; the share ψ₀ / 2m of them has just become right, and is not discordant once
    lost. If a drop falls on examples that change anyway, ψ is smaller, and the power is higher.

    For ψ₀ = 0, the drop is that at which the fewest losses that mid-p can detect are reached with `power`,
    which is exact.

    Parameters
    ----------
    discordant, change
        (pairs,) share of examples that changed in the observed pair, and its change.
    able
        (pairs,) share of examples that can get worse (m), at the reference.
    n
        (pairs,) number of independent examples.
    z
        (pairs,) critical values, as normal quantiles.
    df
        Degrees of freedom of a t test of clusters.

    Returns
    -------
    NaN if the loss of all n examples would not be significant.
    """
    churn = _churn(discordant, change, able, n)
    needed = pairs_needed(z)
    with np.errstate(invalid="ignore"):  # NaN is correct for fewer examples than needed
        least = betaincinv(needed, n - needed + 1, power)
    reach = _quantiles(z, df, power)
    excess = _large_sample(np.zeros_like(churn), able, n, *reach) - least
    drop = _large_sample(churn, able, n, *reach) - excess * np.exp(-churn * n / _FEW)
    found: np.ndarray = np.where(needed <= n, np.clip(drop, least, 1.0), np.nan)
    return found


def _quantiles(z: np.ndarray, df: float, power: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the quantiles of level and power: of t with `df` degrees of freedom, or normal."""
    if np.isinf(df):
        return z, np.full_like(z, ndtri(power))
    return -stdtrit(df, ndtr(-z)), np.full_like(z, stdtrit(df, power))


def _churn(discordant: np.ndarray, change: np.ndarray, able: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Return ψ₀: the discordance of the observed pair without its change, (pairs,).

    The squared change is estimated by d² - 2 ψ/n, at least 0: a pair whose change may be noise keeps its
    discordance. Half an example is added, because other examples might be discordant if none is.
    """
    true = np.sqrt(np.maximum(change**2 - 2 * discordant / n, 0.0))
    could = np.maximum(np.where(change < 0, able, 1 - able), 1 / n)
    kept = 1 - np.minimum(true / could, 0.999)
    churn: np.ndarray = np.clip((discordant - true) / kept, 0.0, discordant) + 0.5 / n
    return churn


def _large_sample(
    churn: np.ndarray, able: np.ndarray, n: np.ndarray, z: np.ndarray, beta: np.ndarray
) -> np.ndarray:
    """Solve √n d = z √ψ + z_β √(ψ - d²) with ψ = ψ₀ + d (1 - ψ₀ / m) by bisection, (pairs,); at most 1."""
    added = 1 - np.minimum(churn / np.maximum(able, 1 / n), 1.0)
    low, high = np.zeros_like(churn), np.ones_like(churn)
    for _ in range(_HALVINGS):
        drop = (low + high) / 2
        discordant = np.maximum(churn + added * drop, drop)  # lost examples alone are this many
        short = np.sqrt(n) * drop < z * np.sqrt(discordant) + beta * np.sqrt(discordant - drop**2)
        low, high = np.where(short, drop, low), np.where(short, high, drop)
    return high
