"""Many tests at once: p adjusted within families of tests."""

from typing import Literal

import numpy as np
import pandas as pd

Adjustment = Literal["bh", "by", "holm", "none"]
METHODS = {"bh": "fdr_bh", "by": "fdr_by", "holm": "holm"}


def adjusted(p: pd.Series, method: Adjustment, family: pd.Series | None = None) -> pd.Series:
    """p adjusted within each family (all are one if not given), with the index of `p`; NaN stays NaN.

    `bh` Benjamini–Hochberg and `by` Benjamini–Yekutieli bound the share of false discoveries (under
    any dependence only `by`), `holm` the chance of a single one.
    """
    if method == "none":
        return p.astype(float)
    from statsmodels.stats.multitest import multipletests

    known = p[p.notna()].astype(float)
    out = pd.Series(np.nan, p.index)
    families = pd.Series(0, known.index) if family is None else family.loc[known.index]
    for _, tests in known.groupby(families):
        out.loc[tests.index] = multipletests(tests.to_numpy(), method=METHODS[method])[1]
    return out
