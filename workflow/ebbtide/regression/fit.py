"""One regression per task, by ordinary least squares."""

import warnings

import numpy as np
import pandas as pd

from ebbtide.regression.design import (
    COEFFICIENTS,
    TERMS,
    Form,
    Size,
    cells_of,
    formed,
    predictors_of,
    reason_for_none,
)

COLUMNS = (
    *("task", "metric", "form", "cells", "term"),
    *("estimate", "stderr", "t", "df", "p", "p_adjusted", "note"),
)


def regress(
    metrics: pd.DataFrame,
    *,
    metric: str = "accuracy",
    parameters: Size = "non_embedding",
    form: Form = "standardised",
) -> pd.DataFrame:
    """One row per (task, term), columns `COLUMNS`.

    Parameters
    ----------
    metrics
        Long table (`tables.METRICS`). Rows without training tokens (step 0, or unknown) or parameters have no
        place on a logarithmic axis and are left out.
    form
        `standardised` or `raw`.

    Returns
    -------
    Where a task has no regression (too few cells, a constant metric, one size or one checkpoint only) its
    rows hold NaN and `note` says why.
    """
    rows = cells_of(metrics, metric, parameters)
    results = [
        _regress_task(task, rows[rows["task"] == task], metric, parameters, form)
        for task in metrics["task"].drop_duplicates()
    ]
    table = pd.concat(results, ignore_index=True)
    tested = table["p"].notna()
    table["p_adjusted"] = np.nan
    if tested.any():
        from statsmodels.stats.multitest import multipletests

        table.loc[tested, "p_adjusted"] = multipletests(table.loc[tested, "p"], method="fdr_bh")[1]
    return table[list(COLUMNS)]


def _regress_task(task: str, rows: pd.DataFrame, metric: str, parameters: Size, form: Form) -> pd.DataFrame:
    y = rows["value"].to_numpy(dtype=float)
    predictors = predictors_of(rows, parameters)
    note = reason_for_none(y, predictors)
    estimates = {name: np.full(3, np.nan) for name in ("estimate", "stderr", "t", "p")}
    if not note:
        estimates = _ols(*formed(y, predictors, form))
    if form == "raw" and not note:
        note = "main effects are slopes at N = 1, D = 1"
    return pd.DataFrame(
        {
            "task": task,
            "metric": metric,
            "form": form,
            "cells": len(rows),
            "term": list(TERMS),
            **estimates,
            "df": max(len(rows) - COEFFICIENTS, 0),
            "note": note,
        }
    )


def _ols(y: np.ndarray, design: np.ndarray) -> dict[str, np.ndarray]:
    import statsmodels.api as sm

    with warnings.catch_warnings():
        # A perfect fit makes statsmodels divide by zero; t is then infinite, as it should be.
        warnings.simplefilter("ignore", RuntimeWarning)
        fit = sm.OLS(y, design).fit()
        return {
            "estimate": fit.params[1:],
            "stderr": fit.bse[1:],
            "t": fit.tvalues[1:],
            "p": fit.pvalues[1:],
        }
