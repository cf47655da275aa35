"""Many tests at once: p adjusted within families of tests."""

from typing import Literal

import numpy as np

Adjust = Literal["bh", "by", "holm", "none"]
METHODS = {"bh": "fdr_bh", "by": "fdr_by", "holm": "holm"}


def adjusted(p: np.ndarray, adjust: Adjust, family: np.ndarray | None = None) -> np.ndarray:
    """p (tests,) adjusted within each family (one, if not given); NaN stays NaN and counts for nothing.

    `bh` Benjamini-Hochberg and `by` Benjamini-Yekutieli bound the share of false discoveries (under any
    dependence only `by`), `holm` the chance of a single one.
    """
    out: np.ndarray = p.copy()
    if adjust == "none":
        return out
    from statsmodels.stats.multitest import multipletests

    families = np.zeros(len(p), dtype=int) if family is None else family
    for name in np.unique(families[~np.isnan(p)]):
        tests = (families == name) & ~np.isnan(p)
        out[tests] = multipletests(p[tests], method=METHODS[adjust])[1]
    return out
