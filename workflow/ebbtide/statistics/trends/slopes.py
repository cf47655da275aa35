"""Slope over training: change of a metric per decade of training tokens.

With x = log10 D at the checkpoints with known training tokens, the least-squares slope of the means is itself
a mean over examples:

    slope = Σ_t w_t m_t = mean_i slope_i,   slope_i = Σ_t w_t X_ti,   w_t = (x_t - x̄) / Σ_t (x_t - x̄)²

Two tests cover two sources of variation. `p` tests t = slope / stderr over examples (clusters): would other
examples of the task show a slope of this training run? `p_checkpoints` is the t test of the line through the
T means, with T - 2 degrees of freedom: does the slope exceed the scatter of the means around a line? Neither
test generalises to another training run.
"""

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from ebbtide.statistics.resampling import cluster_sums


def slope_weights(x: np.ndarray) -> np.ndarray:
    """Return the weights w (T,) of the slope; x (T,) must not be constant."""
    centred = x - x.mean()
    weights: np.ndarray = centred / (centred @ centred)
    return weights


def p_of_mean(values: np.ndarray, clusters: np.ndarray) -> float:
    """Two-sided p of the null that values (n,) have mean 0: t test, (clusters - 1) degrees of freedom.

    At least 2^(1 - clusters), the p of that many equal signs, because a few equal values have no scatter but
    are weak evidence. NaN for a single cluster.
    """
    sums = cluster_sums(values[None], clusters)[0]
    groups = len(sums)
    if groups < 2:
        return np.nan
    if not values.any():
        return 1.0
    mean, sizes = values.mean(), np.bincount(clusters, minlength=groups)
    error = np.sqrt(groups / (groups - 1) * np.sum((sums - mean * sizes) ** 2)) / len(values)
    with np.errstate(divide="ignore"):
        p = 2 * student.sf(abs(np.divide(mean, error)), groups - 1)
    return float(min(1.0, max(p, 2.0 ** max(1 - groups, -1000))))


def p_of_line(x: np.ndarray, means: np.ndarray) -> float:
    """Two-sided p of the slope of a line through (x, means), T - 2 degrees of freedom; NaN if T < 3."""
    free = len(x) - 2
    if free < 1:
        return np.nan
    slope = slope_weights(x) @ means
    centred, around = x - x.mean(), means - means.mean()
    residual = around - slope * centred
    error = np.sqrt(residual @ residual / free / (centred @ centred))
    if error <= 1e-12 * max(1.0, np.abs(means).max()):
        return 1.0 if abs(slope) <= 1e-12 else 0.0
    return float(2 * student.sf(abs(slope / error), free))


def interval(drawn: np.ndarray, estimate: float, groups: int, alpha: float) -> tuple[float, float]:
    """Percentile interval at 1 - alpha of bootstrap draws (B,), widened around the estimate.

    Percentile intervals are too narrow by the factor √((G - 1) / G) · z / t, with G groups; the widening
    corrects this (Hesterberg 2015, section 3.4). NaN for a single cluster.
    """
    if groups < 2:
        return np.nan, np.nan
    stretch = np.sqrt(groups / (groups - 1)) * student.isf(alpha / 2, groups - 1) / norm.isf(alpha / 2)
    low, high = estimate + stretch * (np.quantile(drawn, [alpha / 2, 1 - alpha / 2]) - estimate)
    return float(low), float(high)
