"""Vectorised reductions over runs of equal keys: no loop over examples."""

from typing import Any

import numpy as np


class Segments:
    """Segments of equal values in the sorted array `keys`, such as the rows of each example.

    row        0 1 2 3 4 5
    keys       a a a b b c
    starts     0     3   5
    sizes      3     2   1
    of         0 0 0 1 1 2
    """

    def __init__(self, keys: np.ndarray) -> None:
        self.starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
        self.sizes = np.diff(np.r_[self.starts, len(keys)])
        self.of = np.repeat(np.arange(len(self.starts)), self.sizes)

    def __len__(self) -> int:
        return len(self.starts)

    def sum(self, x: np.ndarray) -> np.ndarray:
        """Return the sum of each segment; booleans are counted."""
        total: np.ndarray = np.add.reduceat(x.astype(float), self.starts)
        return total

    def max(self, x: np.ndarray) -> np.ndarray:
        """Return the maximum of each segment."""
        greatest: np.ndarray = np.maximum.reduceat(x, self.starts)
        return greatest

    def mean(self, x: np.ndarray) -> np.ndarray:
        """Return the mean of each segment."""
        average: np.ndarray = self.sum(x) / self.sizes
        return average

    def log_sum_exp(self, x: np.ndarray) -> np.ndarray:
        """Return log Σ exp(x) of each segment. -inf excludes a row; each segment needs a finite value."""
        top = self.max(x)
        logarithm: np.ndarray = np.log(self.sum(np.exp(x - top[self.of]))) + top
        return logarithm

    def argmax(self, x: np.ndarray) -> np.ndarray:
        """Return the row of the maximum of each segment, the first of equal ones, as `numpy.argmax`."""
        rows = np.flatnonzero(x == self.max(x)[self.of])
        of = self.of[rows]
        first: np.ndarray = rows[np.r_[True, of[1:] != of[:-1]]]
        return first

    def first(self, x: np.ndarray) -> Any:
        """Return the value in the first row of each segment."""
        return x[self.starts]
