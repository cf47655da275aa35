"""Paired comparison of two checkpoints on the same examples: change, interval, p and detectable drop.

Many pairs are compared at once: row p of `new` with row p of `old`. Means of 0/1 values are treated as
shares. Clusters of examples are the units of p and of the interval.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.special import betaincinv, ndtr, ndtri, stdtrit

from ebbtide.statistics.alarms.paired_tests import mcnemar, sign_flip
from ebbtide.statistics.panel import is_binary
from ebbtide.statistics.resampling import cluster_sums

POWER = 0.8


@dataclass(frozen=True)
class _Differences:
    """Differences d = new - old, (pairs, n), and their clustered standard error."""

    new: np.ndarray
    old: np.ndarray
    clusters: np.ndarray

    @cached_property
    def values(self) -> np.ndarray:
        differences: np.ndarray = self.new - self.old
        return differences

    @cached_property
    def groups(self) -> int:
        return int(self.clusters.max()) + 1

    @property
    def independent(self) -> bool:
        return bool(self.groups == self.new.shape[1])

    def standard_error(self) -> np.ndarray:
        """Return √(G/(G-1) Σ_g (Σ_{i in g} (d_i - d̄))²) / n, (pairs,); NaN for a single cluster."""
        d = self.values
        residues = cluster_sums(d - d.mean(axis=1, keepdims=True), self.clusters)
        if self.groups == 1:
            return np.full(len(d), np.nan)
        error: np.ndarray = np.sqrt(self.groups / (self.groups - 1) * (residues**2).sum(axis=1)) / d.shape[1]
        return error


def compare(
    new: np.ndarray,
    old: np.ndarray,
    clusters: np.ndarray,
    alpha: float,
    critical: np.ndarray | None = None,
) -> pd.DataFrame:
    """Compare pairs of checkpoints on the same examples.

    Parameters
    ----------
    new, old
        (pairs, n) values, without NaN.
    clusters
        (n,) integers from 0.
    alpha
        Two-sided level.
    critical
        (pairs,) half-width of the intervals in standard errors, for comparisons selected among several (see
        `high_water`). The default is the normal quantile of `alpha`.

    Returns
    -------
    One row per pair:

    change, low, high
        new - old with its interval. Shares: Bonett & Price (2012), Journal of Educational and Behavioral
        Statistics 37:479, d ± z √(((b+1)/(n+2) + (c+1)/(n+2) - d²)/(n+2)) with d = (c-b)/(n+2), b lost and c
        gained. Other values: t interval. Clusters: t interval of cluster sums; for shares, the wider of the
        two, because a few clusters can agree by chance.
    n, discordant
        Number of examples, and of examples whose value changed.
    p
        Two-sided mid-p: McNemar for shares of independent examples, otherwise a sign-flip test.
    effect
        Shares: Cohen's h, 2 arcsin √new - 2 arcsin √old. Otherwise the change in standard deviations of
        examples, √((s²_new + s²_old)/2); infinite if that is 0.
    minimum_detectable_drop
        The smallest true change that a test at `critical` detects with 80 % power, given the observed number
        of discordant examples or the observed noise. NaN if no change is detectable.
    note
        Why a value is missing.
    """
    d = _Differences(new, old, clusters)
    z = np.full(len(new), ndtri(1 - alpha / 2)) if critical is None else critical
    shares = is_binary(new) and is_binary(old)
    lost, gained = (d.values < 0).sum(axis=1), (d.values > 0).sum(axis=1)
    error = d.standard_error()
    change, low, high, drop = d.values.mean(axis=1), *_t_interval(d, error, z), _drop_of_means(d, error, z)
    if shares:
        reach = _bonett_price(lost, gained, new.shape[1], z)
        drops = drop_of_shares(lost + gained, new.shape[1], z)
        if d.independent:
            (low, high), drop = reach, drops
        else:
            low, high = np.fmin(low, reach[0]), np.fmax(high, reach[1])
            drop = np.where(_pairs_needed(z) <= d.groups, np.fmax(drop, drops), np.nan)
    return pd.DataFrame(
        {
            "change": change,
            "low": low,
            "high": high,
            "n": new.shape[1],
            "discordant": lost + gained,
            "p": mcnemar(lost, gained)
            if shares and d.independent
            else sign_flip(cluster_sums(d.values, clusters)),
            "effect": _cohens_h(new, old) if shares else _standardised(new, old, change),
            "minimum_detectable_drop": drop,
            "note": _notes(d, lost + gained, low, drop, _pairs_needed(z)),
        }
    )


def drop_of_shares(discordant: np.ndarray, n: int, z: np.ndarray) -> np.ndarray:
    """Return the smallest drop of a share that is detected with 80 % power, (pairs,).

    Solves (z √ψ + z_β √(ψ - d²)) / √n = d for d, with ψ the share of discordant examples: the power of
    McNemar's test after Miettinen (1968), Biometrics 24:339. A drop of d needs ψ ≥ d, so d is at most ψ (all
    discordant examples lost).

    The lower limit is what mid-p can detect: m of n examples lost and none gained have p = 2^-m, and m must
    be reached with 80 % probability. This is exact for few discordant examples. With 8 to 15 of them p is
    coarse, and the stated drop is detected with up to 89 % power. NaN if n < m.
    """
    beta = ndtri(POWER)
    with np.errstate(invalid="ignore"):  # NaN is correct for fewer examples than z²
        factor = (z * np.sqrt(n) + beta * np.sqrt(n + beta**2 - z**2)) / (n + beta**2)
    needed = _pairs_needed(z)
    found = np.minimum(factor * np.sqrt(discordant / n), discordant / n)
    with np.errstate(invalid="ignore"):
        least = betaincinv(needed, n - needed + 1, POWER)
    drop: np.ndarray = np.where(needed <= n, np.minimum(np.fmax(found, least), 1.0), np.nan)
    return drop


def _pairs_needed(z: np.ndarray) -> np.ndarray:
    """Return the fewest discordant pairs m in one direction whose mid-p 2^-m is at most the level of z."""
    needed: np.ndarray = np.ceil(-np.log2(2 * ndtr(-z)))
    return needed


def _drop_of_means(d: _Differences, error: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return (t_α + t_β) standard errors; NaN without noise, or with too few groups for significance."""
    df = max(d.groups - 1, 1)
    reach = -stdtrit(df, ndtr(-z)) + stdtrit(df, POWER)
    possible = (error > 0) & (_pairs_needed(z) <= d.groups)
    return np.where(possible, reach * error, np.nan)


def _t_interval(d: _Differences, error: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the t interval; NaN without noise, because an interval of width 0 would claim certainty."""
    reach = -stdtrit(max(d.groups - 1, 1), ndtr(-z)) * np.where(error > 0, error, np.nan)
    change = d.values.mean(axis=1)
    return change - reach, change + reach


def _bonett_price(
    lost: np.ndarray, gained: np.ndarray, n: int, z: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    centre = (gained - lost) / (n + 2)
    reach = z * np.sqrt(((lost + gained + 2) / (n + 2) - centre**2) / (n + 2))
    return np.maximum(centre - reach, -1.0), np.minimum(centre + reach, 1.0)


def _cohens_h(new: np.ndarray, old: np.ndarray) -> np.ndarray:
    h: np.ndarray = 2 * np.arcsin(np.sqrt(new.mean(axis=1))) - 2 * np.arcsin(np.sqrt(old.mean(axis=1)))
    return h


def _standardised(new: np.ndarray, old: np.ndarray, change: np.ndarray) -> np.ndarray:
    spread = np.sqrt((new.var(axis=1) + old.var(axis=1)) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(change == 0, 0.0, change / spread)


def _notes(
    d: _Differences, changed: np.ndarray, low: np.ndarray, drop: np.ndarray, needed: np.ndarray
) -> list[str]:
    few = "too few examples" if d.independent else "too few clusters"
    possible = needed <= d.groups
    facts = {
        "no example changed": changed == 0,
        f"{few} for an interval": np.isnan(low) & (d.groups == 1),
        "all examples changed equally, so there is no interval": np.isnan(low)
        & (d.groups > 1)
        & (changed > 0),
        f"{few} to detect any drop": np.isnan(drop) & ~possible,
        "no noise, so the smallest detectable drop is unknown": np.isnan(drop) & possible,
    }
    rows = zip(*facts.values(), strict=True)
    return ["; ".join(fact for fact, holds in zip(facts, row, strict=True) if holds) for row in rows]
