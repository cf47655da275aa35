"""Means and ratios with standard errors, optionally clustered.

Every metric is a weighted mean of values x over examples, m = Σ w x / Σ w, or a function of such a mean. For
examples in G clusters

    stderr² = G / (G - 1) · Σ_g ( Σ_{i in g} w_i (x_i - m) )² / (Σ w)²

(Liang & Zeger 1986; Cochran, Sampling Techniques, ch. 6 for weights). If every example is its own cluster and
all weights are 1, this is sd(ddof=1) / sqrt(n), as in the papers and in lm-evaluation-harness. For a single
cluster the standard error is NaN. A function f of a mean has the error |f'(m)| · stderr (delta method).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Transform(NamedTuple):
    """A function of a mean, and its derivative."""

    apply: Callable[[float], float]
    slope: Callable[[float], float]


def _exponential(x: float) -> float:
    with np.errstate(over="ignore"):  # a perplexity beyond the range of floats is infinite
        return float(np.exp(x))


EXPONENTIAL = Transform(_exponential, _exponential)
SQUARE_ROOT = Transform(lambda m: float(np.sqrt(m)), lambda m: 0.5 / float(np.sqrt(m)) if m > 0 else np.nan)


class Estimate(NamedTuple):
    """A value, its standard error, and how many examples have a weight above 0."""

    value: float
    stderr: float
    n: int


NO_ESTIMATE = Estimate(np.nan, np.nan, 0)


def estimate(
    values: np.ndarray,
    weights: np.ndarray | None = None,
    clusters: np.ndarray | None = None,
    transform: Transform | None = None,
) -> Estimate:
    """Estimate the weighted mean of values, or a function of it, with its standard error.

    Parameters
    ----------
    values
        One per example; ignored (and possibly NaN) if the weight is 0.
    weights
        Non-negative; None for all 1.
    clusters
        A non-negative integer per example; None if every example is its own cluster.
    """
    mean, influence, clusters = _influence(values, weights, clusters)
    if not len(influence):
        return NO_ESTIMATE
    error = _error(influence, clusters)
    if transform is not None:
        slope = transform.slope(mean)
        mean, error = transform.apply(mean), abs(slope) * error
    return Estimate(mean, error, len(influence))


def value_of(
    values: np.ndarray, weights: np.ndarray | None = None, transform: Transform | None = None
) -> float:
    """Return the value of `estimate` without its standard error."""
    counts = slice(None) if weights is None else weights > 0
    x = values[counts].astype(float)
    if not len(x):
        return np.nan
    mean = float(
        np.sum(x) / len(x) if weights is None else np.sum(weights[counts] * x) / np.sum(weights[counts])
    )
    return mean if transform is None else transform.apply(mean)


def ratio(
    first: np.ndarray,
    second: np.ndarray,
    values: np.ndarray,
    weights: np.ndarray | None = None,
    clusters: np.ndarray | None = None,
) -> Estimate:
    """Estimate the mean over `first` divided by the mean over `second` (disjoint masks of examples).

    stderr: delta method; R · sqrt(sum of squared relative errors) if no cluster has examples in both. NaN if
    a mean does not exist or the second is 0.
    """
    parts = []
    for mask in (first, second):
        of = [None if x is None else x[mask] for x in (weights, clusters)]
        own = of[1] if clusters is not None else np.flatnonzero(mask)
        parts.append(_influence(values[mask], of[0], own))
    (a, of_a, groups_a), (b, of_b, groups_b) = parts
    n = len(of_a) + len(of_b)
    if not len(of_a) or not len(of_b) or b == 0:
        return Estimate(np.nan, np.nan, n)
    influence = np.r_[of_a / b, -of_b * a / b**2]
    return Estimate(a / b, _error(influence, np.r_[groups_a, groups_b]), n)


def _influence(
    values: np.ndarray, weights: np.ndarray | None, clusters: np.ndarray | None
) -> tuple[float, np.ndarray, np.ndarray | None]:
    """Return mean, influence w (x - m) / Σ w, and clusters of the examples with a positive weight."""
    w: np.ndarray | float
    if weights is None:
        x, groups, w, total = values.astype(float), clusters, 1.0, float(len(values))
    else:
        counts = weights > 0
        x, groups = values[counts].astype(float), None if clusters is None else clusters[counts]
        w = weights[counts].astype(float)
        total = np.sum(w)
    if not len(x):
        return np.nan, x, groups
    mean = float(np.sum(w * x) / total)
    # Infinite minus infinite is NaN, and so is the error of an infinite mean.
    with np.errstate(invalid="ignore"):
        return mean, w * (x - mean) / total, groups


def _error(influence: np.ndarray, clusters: np.ndarray | None) -> float:
    sums = influence
    if clusters is not None:
        _, codes = np.unique(clusters, return_inverse=True)
        sums = np.bincount(codes, weights=influence)
    groups = len(sums)
    return float(np.sqrt(groups / (groups - 1) * np.sum(sums**2))) if groups > 1 else np.nan
