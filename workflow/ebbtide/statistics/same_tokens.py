"""Which checkpoints of runs are at the same training tokens: equal ones, or the nearest within a share.

Every stage that puts runs beside each other asks here, with the tolerance of the study (`runs.tolerance`, 0
without a section `runs`). Nothing is interpolated.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def tolerance_of(config: Mapping[str, Any]) -> float:
    """Return the tolerance of a study with this configuration."""
    return float(config.get("runs", {}).get("tolerance", 0.0))


def nearest(base: np.ndarray, tokens: np.ndarray, tolerance: float) -> np.ndarray:
    """Return the index of the checkpoint nearest to each of `base`, or -1 if none is within the tolerance.

    Parameters
    ----------
    base
        Training tokens to look for; NaN has no nearest.
    tokens
        Those of the checkpoints, ascending. Each counts once, for the nearest of `base`; of equal ones, the
        first.
    tolerance
        Largest difference, as a share of `base`.
    """
    if not len(tokens):
        return np.full(len(base), -1)
    right = np.clip(np.searchsorted(tokens, base), 1, max(len(tokens) - 1, 1))
    left = right - 1
    right = np.minimum(right, len(tokens) - 1)
    closest = np.where(np.abs(tokens[left] - base) <= np.abs(tokens[right] - base), left, right)
    distance = np.abs(tokens[closest] - base)
    order = np.lexsort((distance, closest))  # of several that share a checkpoint, the nearest is first
    repeated = np.zeros(len(base), dtype=bool)
    repeated[order[1:]] = closest[order[1:]] == closest[order[:-1]]
    return np.where((distance <= tolerance * base) & ~repeated, closest, -1)


def common(runs: Sequence[np.ndarray], tolerance: float) -> np.ndarray:
    """Return the indices (runs, K) of the checkpoints of the first run that every other run has.

    Each of `runs` is the training tokens of its checkpoints, ascending.
    """
    rows = np.stack([nearest(runs[0], tokens, tolerance) for tokens in runs])
    found: np.ndarray = rows[:, (rows >= 0).all(axis=0)]
    return found
