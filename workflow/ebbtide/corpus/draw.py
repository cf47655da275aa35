"""Random choices that are reproducible across versions of Python.

Only `random.Random.random()` is used, because Python guarantees its sequence across versions. It does not
guarantee those of `choice`, `sample` or `shuffle`, and NumPy does not guarantee those of its generators.
"""

import random
from bisect import bisect
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Draw:
    """A stream of random choices, seeded by its labels. Streams with different labels are independent."""

    def __init__(self, *labels: str | int) -> None:
        self._uniform = random.Random("/".join(str(label) for label in labels)).random

    def below(self, n: int) -> int:
        """An integer of 0 … n - 1."""
        return int(self._uniform() * n)

    def chance(self, share: float) -> bool:
        """True with probability `share`."""
        return self._uniform() < share

    def pick(self, pool: Sequence[T]) -> T:
        """One element of `pool`, drawn uniformly."""
        return pool[int(self._uniform() * len(pool))]

    def two(self, pool: Sequence[T]) -> tuple[T, T]:
        """Two elements of `pool` at different positions."""
        first = self.below(len(pool))
        second = self.below(len(pool) - 1)
        return pool[first], pool[second + (second >= first)]

    def weighted(self, cumulative: Sequence[float]) -> int:
        """An index drawn by cumulative weights, of which the last is the total."""
        return bisect(cumulative, self._uniform() * cumulative[-1])

    def shuffled(self, pool: Sequence[T]) -> list[T]:
        """`pool` in random order (Fisher–Yates)."""
        order = list(pool)
        for last in range(len(order) - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order
