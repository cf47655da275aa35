"""Values that share one of two things, such as the user or the film of a rating: errors and bootstrap.

The variance of a mean is that of Cameron, Gelbach and Miller (2011),

    V = V_first + V_second - V_both

where each V clusters by its groups (`metrics.errors_of_means`), and the last by their intersections. The
bootstrap draws both kinds of groups (Owen 2007): a value has the product of the counts of its two groups.
"""

import numpy as np

from ebbtide.metrics.errors_of_means import estimate
from ebbtide.statistics.resampling import DRAWS, named_rng

_BLOCK = 2_000_000  # numbers in a block of draws


def two_way_error(values: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """Return the standard error of the mean of values (n,), of which some share a group of either kind.

    `first` and `second` are integers (n,). Where the difference of variances is not above the greater of
    the one-way ones, as may happen with few groups, this is used: it is never too small for one kind alone.
    """
    both = first.astype(np.int64) * (int(second.max(initial=0)) + 1) + second
    one, other, shared = (estimate(values, clusters=of).stderr ** 2 for of in (first, second, both))
    return float(np.sqrt(np.nanmax([one + other - shared, one, other])))


def two_way_bootstrap(
    values: np.ndarray, first: np.ndarray, second: np.ndarray, name: str, draws: int = DRAWS
) -> np.ndarray:
    """Return means of values (T, n) over resampled groups of both kinds, (draws, T).

    `name` seeds the draws.
    """
    codes = [np.unique(of, return_inverse=True)[1] for of in (first, second)]
    groups = [int(of.max()) + 1 for of in codes]
    rng, found = named_rng(name), []
    rows = max(1, _BLOCK // values.shape[1])
    for start in range(0, draws, rows):
        count = min(rows, draws - start)
        counts = [rng.multinomial(n, np.full(n, 1 / n), size=count) for n in groups]
        weights = (counts[0][:, codes[0]] * counts[1][:, codes[1]]).astype(float)
        found.append(weights @ values.T / weights.sum(axis=1, keepdims=True))
    return np.concatenate(found)
