"""Expected forgetting if the order of an example's answers is random.

Null hypothesis: answers are exchangeable over checkpoints, so they flicker around a constant level. If an
example is right at k of T checkpoints, all orders of the k right answers are equally likely. The expected
number of falls from right to wrong is k (T - k) / T. The probability of being counted as forgotten follows
from an exact count of sequences.
"""

from functools import cache
from math import comb

import numpy as np


def expected_falls(right: np.ndarray) -> float:
    """Return the expected falls from right to wrong, Σ k (T - k) / T over examples, for answers (T, n)."""
    T, k = len(right), right.sum(axis=0)
    return float((k * (T - k)).sum() / T)


@cache
def forgotten_by_chance(T: int, streak: int) -> np.ndarray:
    """Return P(a run of `streak` right, and the last `streak` wrong | k of T right) for k = 0 … T, (T + 1,).

    The last `streak` answers are wrong if all k right ones are among the first m = T - streak, in one of C(m,
    k) orders. In orders without a run of `streak`, all z + 1 gaps around the z = m - k wrong answers are
    shorter than `streak`. Their number is Σ_j (-1)^j C(z + 1, j) C(m - j streak, z) by inclusion and
    exclusion.
    """
    m = T - streak
    chances = np.zeros(T + 1)
    for k in range(streak, m + 1):
        z = m - k
        short = sum((-1) ** j * comb(z + 1, j) * comb(m - j * streak, z) for j in range(k // streak + 1))
        chances[k] = (comb(m, k) - short) / comb(T, k)  # integers up to here, so no cancellation
    return chances
