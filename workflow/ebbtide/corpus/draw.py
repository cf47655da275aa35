"""Random choices that stay the same for ever.

Only `random.Random.random()` is used: Python promises its sequence across versions, which it does not
for `choice`, `sample` or `shuffle`, nor NumPy for its generators.
"""

import random
from bisect import bisect
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Draw:
    """A stream of random choices named by its labels; different labels, independent streams."""

    def __init__(self, *labels: str | int) -> None:
        self._uniform = random.Random("/".join(str(label) for label in labels)).random

    def below(self, n: int) -> int:
        """An integer of 0 … n - 1."""
        return int(self._uniform() * n)

    def chance(self, share: float) -> bool:
        """True in `share` of the draws."""
        return self._uniform() < share

    def pick(self, pool: Sequence[T]) -> T:
        """One of `pool`, each as likely."""
        return pool[int(self._uniform() * len(pool))]

    def two(self, pool: Sequence[T]) -> tuple[T, T]:
        """Two of `pool` at different positions."""
        first = self.below(len(pool))
        second = self.below(len(pool) - 1)
        return pool[first], pool[second + (second >= first)]

    def weighted(self, cumulative: Sequence[float]) -> int:
        """A position, by cumulative weights of which the last is the total."""
        return bisect(cumulative, self._uniform() * cumulative[-1])

    def shuffled(self, pool: Sequence[T]) -> list[T]:
        """`pool` in random order (Fisher and Yates)."""
        order = list(pool)
        for last in range(len(order) - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order
