"""Resampling examples jointly over all cells: random signs and bootstrap counts, and what they make of a sum.

Everything that is linear in the values of examples (a mean, a difference of two checkpoints, a slope over
tokens) needs its draws only once: for values X (T, n) and draws R (B, n), R Xᵀ (B, T) holds the draws of all
T means, and every linear function of means follows from these. The same task has the same draws
for every model, so that models can be compared, too.

Examples of one cluster share their draw.
"""

import zlib
from collections.abc import Callable, Iterator

import numpy as np

Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]

DRAWS = 2000
_AT_ONCE = 4_000_000  # numbers of a block of draws: 16 MB


def signs(values: np.ndarray, clusters: np.ndarray, name: str, draws: int = DRAWS) -> np.ndarray:
    """Σ_i g_i x_ti with random signs g, (draws, T): the sums if every sign were chance.

    For differences of two checkpoints this is the randomisation distribution of the paired test: under the
    null each example is as likely to have its two values the other way round.

    Parameters
    ----------
    values
        (T, n), without NaN.
    clusters
        (n,) whole numbers from 0 on.
    name
        Of the task; draws follow from it.
    """
    return _sums(values, clusters, lambda rng, shape: 2.0 * rng.integers(0, 2, shape) - 1.0, name, draws)


def bootstrap(values: np.ndarray, clusters: np.ndarray, name: str, draws: int = DRAWS) -> np.ndarray:
    """Means of resampled examples (or clusters), (draws, T). Parameters as for `signs`."""
    both = np.vstack([values, np.ones(values.shape[1])])  # the last row counts the examples drawn
    sums = _sums(
        both,
        clusters,
        _counts,
        name,
        draws,
    )
    means: np.ndarray = sums[:, :-1] / sums[:, -1:]
    return means


def _counts(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """How often each group is drawn, of as many draws as groups; many times faster than multinomial."""
    rows, groups = shape
    drawn = rng.integers(0, groups, shape) + groups * np.arange(rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=rows * groups).reshape(shape).astype(float)


def _sums(values: np.ndarray, clusters: np.ndarray, draw: Draw, name: str, draws: int) -> np.ndarray:
    by_group = cluster_sums(values, clusters).T  # (groups, T)
    groups = len(by_group)
    rng = named_rng(name)
    return np.concatenate([draw(rng, (rows, groups)) @ by_group for rows in _blocks(draws, groups)])


def named_rng(name: str) -> np.random.Generator:
    """The random numbers of a name, the same ones on every machine."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def cluster_sums(values: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Sums over the examples of each cluster: values (T, n), clusters (n,) → (T, groups)."""
    groups = int(clusters.max()) + 1
    if groups == values.shape[1]:
        return values[:, np.argsort(clusters)]
    return np.stack([np.bincount(clusters, weights=row, minlength=groups) for row in values])


def _blocks(draws: int, width: int) -> Iterator[int]:
    rows = max(1, _AT_ONCE // width)
    for start in range(0, draws, rows):
        yield min(rows, draws - start)
