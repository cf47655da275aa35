"""Decisions and rank correlations: does a small run, or another metric, order runs as the target does?"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

LEAST_RUNS = 4  # of a rank correlation with an interval
LEAST_ARMS = 5  # of a decision accuracy whose variance is known


class Interval(NamedTuple):
    """An estimate with its interval."""

    value: float
    low: float
    high: float


UNKNOWN = Interval(np.nan, np.nan, np.nan)
_RHO = np.linspace(-1, 1, 4001)  # correlations that an interval may contain


class Decisions(NamedTuple):
    """Share of pairs of arms that both orders put in the same order, a tie in one of them counting half."""

    accuracy: Interval
    pairs: int
    ties: int


def decisions(small: Mapping[str, float], large: Mapping[str, float], alpha: float) -> Decisions | None:
    """Compare two orders of arms, given by a value per arm; higher is better.

    Returns
    -------
    None with fewer than two arms in common.
    """
    common = [arm for arm in small if arm in large]
    if len(common) < 2:
        return None
    scores, ties = [], 0
    for a, b in itertools.combinations(common, 2):
        signs = np.sign(small[a] - small[b]) * np.sign(large[a] - large[b])
        ties += int(signs == 0)
        scores.append((1 + signs) / 2)
    return Decisions(share_interval(float(np.mean(scores)), len(common), alpha), len(scores), ties)


def share_interval(share: float, arms: int, alpha: float) -> Interval:
    """Return the interval of a share of pairs of arms in the same order.

    The share is (1 + τ) / 2 with Kendall's τ. Fisher's z of τ has the variance 0.437 / (arms - 4) (Fieller,
    Hartley & Pearson 1957); a τ of ±1 is taken half a step of the possible values below it. With fewer than
    five arms, the interval is Wilson's for arms/2 independent pairs, an upper bound of the variance
    (Kendall & Gibbons 1990, Rank Correlation Methods, ch. 4).
    """
    if arms < LEAST_ARMS:
        return wilson(share, arms / 2, alpha)
    most = 1 - 2 / (arms * (arms - 1))
    z = np.arctanh(np.clip(2 * share - 1, -most, most))
    reach = ndtri(1 - alpha / 2) * np.sqrt(0.437 / (arms - 4))
    low, high = (float((1 + np.tanh(z + side * reach)) / 2) for side in (-1, 1))
    return Interval(share, low, high)


def wilson(share: float, n: float, alpha: float) -> Interval:
    """Return Wilson's score interval of a share of n observations, which need not be a whole number."""
    z = ndtri(1 - alpha / 2)
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return Interval(share, float(max(middle - reach, 0.0)), float(min(middle + reach, 1.0)))


def freedom(groups: Sequence[int]) -> int:
    """Return the degrees of freedom of a rank correlation within groups of runs; 0 or less: too few."""
    return sum(k - 1 for k in groups) - 2


def rank_interval(correlation: float, groups: Sequence[int], alpha: float) -> Interval:
    """Return the interval of a rank correlation within groups of independent runs; NaN without `freedom`.

    Of one group, it is Spearman's: Fisher's z with the variance (1 + r²/2) / (runs - 3) of Bonett & Wright
    (2000), where ±1 is taken half a step of the possible values below it.

    Of several, it has all correlations ρ from which r is not further than z √V(ρ), as Wilson's interval of a
    share. V(ρ) = Σ w² (1 - ρ²)^(2 - 3/k) (1 + [k > 3] ρ²/2) / (k - 1), with the shares w of the groups in the
    variance of the ranks, and the power 1 for k < 3. Between two runs, r is 2p - 1 with a share p of pairs in
    the same order, whose variance is 1 - ρ²; in large groups, V is that of Bonett & Wright; the power between
    them fits simulated groups.

    Parameters
    ----------
    groups
        Numbers of runs.
    """
    if freedom(groups) < 1:
        return Interval(correlation, np.nan, np.nan)
    z = ndtri(1 - alpha / 2)
    if len(groups) > 1:
        near = np.abs(correlation - _RHO) <= z * np.sqrt(_variance(np.array(groups)))
        return Interval(correlation, float(_RHO[near].min()), float(_RHO[near].max()))
    [runs] = groups
    most = 1 - 6 / (runs * (runs**2 - 1))
    r = float(np.clip(correlation, -most, most))
    reach = z * np.sqrt((1 + r**2 / 2) / (runs - 3))
    return Interval(correlation, float(np.tanh(np.arctanh(r) - reach)), float(np.tanh(np.arctanh(r) + reach)))


def _variance(groups: np.ndarray) -> np.ndarray:
    """V of `rank_interval` at `_RHO`."""
    k = groups[:, None]
    weights = k * (k - 1) / (k + 1)
    power = 2 - np.minimum(3 / k, 1)
    each = (1 - _RHO**2) ** power * np.where(k > 3, 1 + _RHO**2 / 2, 1) / (k - 1)
    found: np.ndarray = ((weights / weights.sum()) ** 2 * each).sum(axis=0)
    return found


def percentiles(drawn: np.ndarray, alpha: float) -> tuple[float, float]:
    """Return the interval at 1 - alpha of draws (B,); NaN if a draw is. Infinite draws are allowed."""
    if np.isnan(drawn).any():
        return np.nan, np.nan
    ordered, most = np.sort(drawn), len(drawn) - 1
    low, high = int(np.floor(alpha / 2 * most)), int(np.ceil((1 - alpha / 2) * most))
    return float(ordered[low]), float(ordered[high])


def mean_by_arm(values: Sequence[tuple[str, float]]) -> dict[str, float]:
    """Return arm → the mean of its values."""
    arms: dict[str, list[float]] = {}
    for arm, value in values:
        arms.setdefault(arm, []).append(value)
    return {arm: float(np.mean(of)) for arm, of in arms.items()}
