"""Paired comparison of two checkpoints on the same examples: change, interval, p and detectable drop.

Many pairs are compared at once: row p of `new` with row p of `old`. Means of 0/1 values are treated as
shares. Clusters of examples are the units of p and of the interval.
"""

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri, stdtrit

from ebbtide.statistics.alarms.paired_tests import mcnemar, sign_flip
from ebbtide.statistics.detectable import PairNoise, noise_of, pairs_needed
from ebbtide.statistics.panel import is_binary
from ebbtide.statistics.resampling import cluster_sums


def compare(
    new: np.ndarray,
    old: np.ndarray,
    clusters: np.ndarray,
    alpha: float,
    critical: np.ndarray | None = None,
    *,
    sign: int = 1,
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
    sign
        -1 if lower values are better, which matters for the detectable drop of shares.

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
        The smallest true deterioration that a test at `critical` detects with 80 % power (see
        `detectable.PairNoise`). NaN if none is detectable.
    note
        Why a value is missing.
    """
    d = new - old
    z = np.full(len(new), ndtri(1 - alpha / 2)) if critical is None else critical
    shares = is_binary(new) and is_binary(old)
    noise = noise_of(new, old, clusters, shares)
    independent = noise.groups == noise.n
    lost, gained = (d < 0).sum(axis=1), (d > 0).sum(axis=1)
    low, high = _t_interval(noise, z)
    if shares:
        reach = _bonett_price(lost, gained, noise.n, z)
        low, high = reach if independent else (np.fmin(low, reach[0]), np.fmax(high, reach[1]))
    drop = noise.detectable(z, sign)
    return pd.DataFrame(
        {
            "change": noise.change,
            "low": low,
            "high": high,
            "n": noise.n,
            "discordant": lost + gained,
            "p": mcnemar(lost, gained) if shares and independent else sign_flip(cluster_sums(d, clusters)),
            "effect": _cohens_h(new, old) if shares else _standardised(new, old, noise.change),
            "minimum_detectable_drop": drop,
            "note": _notes(noise, low, drop, pairs_needed(z) <= noise.groups),
        }
    )


def _t_interval(noise: PairNoise, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the t interval; NaN without noise, because an interval of width 0 would claim certainty."""
    error = np.where(noise.error > 0, noise.error, np.nan)
    reach = -stdtrit(max(noise.groups - 1, 1), ndtr(-z)) * error
    return noise.change - reach, noise.change + reach


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


def _notes(noise: PairNoise, low: np.ndarray, drop: np.ndarray, possible: np.ndarray) -> list[str]:
    few = "too few examples" if noise.groups == noise.n else "too few clusters"
    changed = noise.discordant > 0
    facts = {
        "no example changed": ~changed,
        f"{few} for an interval": np.isnan(low) & (noise.groups == 1),
        "all examples changed equally, so there is no interval": np.isnan(low) & (noise.groups > 1) & changed,
        f"{few} to detect any drop": np.isnan(drop) & ~possible,
        "no noise, so the smallest detectable drop is unknown": np.isnan(drop) & possible,
    }
    rows = zip(*facts.values(), strict=True)
    return ["; ".join(fact for fact, holds in zip(facts, row, strict=True) if holds) for row in rows]
