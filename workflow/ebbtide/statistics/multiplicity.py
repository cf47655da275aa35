"""Multiple testing: adjust p-values within families of tests."""

from typing import Literal

import numpy as np

Adjust = Literal["bh", "by", "holm", "none"]


def adjusted(p: np.ndarray, adjust: Adjust, family: np.ndarray | None = None) -> np.ndarray:
    """Adjust p (tests,) within each family; by default all tests are one family.

    `bh` (Benjamini-Hochberg) and `by` (Benjamini-Yekutieli) control the false-discovery rate, `by` under any
    dependence. `holm` controls the family-wise error rate. NaN stays NaN and does not count as a test.
    """
    out: np.ndarray = np.array(p, dtype=float)
    families = np.zeros(len(out), dtype=int) if family is None else family
    for name in np.unique(families[~np.isnan(out)]):
        tests = (families == name) & ~np.isnan(out)
        out[tests] = _adjusted(out[tests], adjust)
    return out


def _adjusted(p: np.ndarray, adjust: Adjust) -> np.ndarray:
    if adjust == "none":
        return p
    if adjust == "holm":
        order = np.argsort(p)
        stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
        return np.minimum(1.0, stepped)[np.argsort(order)]
    from scipy.stats import false_discovery_control

    controlled: np.ndarray = false_discovery_control(p, method=adjust)
    return controlled
