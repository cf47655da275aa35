"""What an example's answers look like if their order is chance.

Of an example that is right at k of T checkpoints, every order of the k right answers is as likely (answers
are exchangeable over checkpoints: they flicker around a level that does not move). Under this order the
expected number of falls from right to wrong is k (T - k) / T, and the chance to look forgotten is a count of
sequences, taken exactly.
"""

from functools import cache
from math import comb

import numpy as np


def expected_falls(right: np.ndarray) -> float:
    """Falls from right to wrong, summed over examples: Σ k (T - k) / T for answers (T, n)."""
    T, k = len(right), right.sum(axis=0)
    return float((k * (T - k)).sum() / T)


@cache
def looks_forgotten(T: int, hold: int) -> np.ndarray:
    """P(some `hold` answers in a row are right, and the last `hold` wrong | k of T right), (T + 1,) over k.

    The last `hold` are wrong if the k right ones lie among the first m = T - hold. Of C(m, k) ways to put
    them there, those without a run of `hold` leave every one of the z + 1 gaps around z = m - k wrong answers
    shorter than `hold`: Σ_j (-1)^j C(z + 1, j) C(m - j hold, z) by inclusion and exclusion.
    """
    m = T - hold
    chances = np.zeros(T + 1)
    for k in range(hold, m + 1):
        z = m - k
        short = sum((-1) ** j * comb(z + 1, j) * comb(m - j * hold, z) for j in range(k // hold + 1))
        chances[k] = (comb(m, k) - short) / comb(T, k)  # whole numbers up to here, so nothing cancels
    return chances
