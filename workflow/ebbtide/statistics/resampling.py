"""Resample examples jointly over all cells, with random signs or bootstrap counts.

For values X (T, n) and draws R (B, n), R Xᵀ (B, T) contains the draws of all T sums. Statistics that are
linear in the values (means, differences of checkpoints, slopes over tokens) are computed from these draws.
A task has the same draws for every model, so models can be compared as well.

Examples of the same cluster share their draw.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

import numpy as np

Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]

DRAWS = 2000
_BLOCK_SIZE = 4_000_000  # numbers in a block of draws, 32 MB
_KEPT = 64  # draws of one block that are kept for the next model, at most 8 MB each


def signs(values: np.ndarray, clusters: np.ndarray, name: str, draws: int = DRAWS) -> np.ndarray:
    """Return Σ_i g_i x_ti for random signs g, (draws, T).

    For differences of two checkpoints this is the randomisation distribution of the paired test: under the
    null, the two values of an example are exchangeable.

    Parameters
    ----------
    values
        (T, n), without NaN.
    clusters
        (n,) integers from 0.
    name
        Name of the task, which seeds the draws.
    """
    return _sums(values, clusters, _signs, name, draws)


def bootstrap(values: np.ndarray, clusters: np.ndarray, name: str, draws: int = DRAWS) -> np.ndarray:
    """Return means over resampled examples (or clusters), (draws, T). Parameters as for `signs`."""
    both = np.vstack([values, np.ones(values.shape[1])])  # the last row counts the drawn examples
    sums = _sums(both, clusters, _counts, name, draws)
    means: np.ndarray = sums[:, :-1] / sums[:, -1:]
    return means


def _signs(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return (2 * rng.integers(0, 2, shape) - 1).astype(np.int8)


def _counts(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Return how often each group is drawn in a bootstrap sample; much faster than multinomial draws."""
    rows, groups = shape
    drawn = rng.integers(0, groups, shape) + groups * np.arange(rows)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=rows * groups).reshape(shape)
    return counts.astype(np.int16 if groups < 2**15 else np.int32)


def _sums(values: np.ndarray, clusters: np.ndarray, draw: Draw, name: str, draws: int) -> np.ndarray:
    by_group = cluster_sums(values, clusters).T  # (groups, T)
    blocks = _drawn(draw, name, draws, len(by_group))
    return np.concatenate([block.astype(float) @ by_group for block in blocks])


def _drawn(draw: Draw, name: str, draws: int, groups: int) -> Iterable[np.ndarray]:
    """Return the draws in blocks of rows."""
    if draws * groups <= _BLOCK_SIZE:
        return [_one_block(draw, name, draws, groups)]
    rng = named_rng(name)
    return (draw(rng, (rows, groups)) for rows in _blocks(draws, groups))


@lru_cache(maxsize=_KEPT)
def _one_block(draw: Draw, name: str, draws: int, groups: int) -> np.ndarray:
    """Return all draws of a small task, which every model needs."""
    return draw(named_rng(name), (draws, groups))


def named_rng(name: str) -> np.random.Generator:
    """Return a generator seeded by a name, the same on every machine."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def cluster_sums(values: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Return sums over the examples of each cluster: values (T, n), clusters (n,) → (T, groups)."""
    groups = int(clusters.max()) + 1
    if groups == values.shape[1]:
        return values[:, np.argsort(clusters)]
    return np.stack([np.bincount(clusters, weights=row, minlength=groups) for row in values])


def _blocks(draws: int, width: int) -> Iterator[int]:
    rows = max(1, _BLOCK_SIZE // width)
    for start in range(0, draws, rows):
        yield min(rows, draws - start)
