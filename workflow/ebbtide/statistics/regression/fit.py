"""One regression per task, by ordinary least squares."""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ebbtide.statistics.multiplicity import Adjust, adjusted
from ebbtide.statistics.regression.design import (
    COEFFICIENTS,
    TERMS,
    Form,
    Size,
    cells_of,
    predictors_of,
    reason_for_no_regression,
    response_and_design,
)
from ebbtide.titles import abilities

RAW_NOTE = "main effects are effects at N = 1, D = 1"

COLUMNS = (
    *("task", "metric", "form", "cells", "term"),
    *("estimate", "stderr", "t", "df", "p", "p_adjusted", "note"),
)


def regress(
    metrics: pd.DataFrame,
    *,
    metric: str = "accuracy",
    metrics_of: Mapping[str, Sequence[str]] | None = None,
    parameters: Size = "non_embedding",
    form: Form = "standardised",
    adjust: Adjust = "bh",
) -> pd.DataFrame:
    """One row per (task, metric, term), columns `COLUMNS`.

    Parameters
    ----------
    metrics
        Long table (`tables.METRICS`). Rows with zero or unknown training tokens or parameters have no
        logarithm and are left out.
    metric, metrics_of
        The default metric, and metrics of individual tasks that override it, each with its own regression.
    parameters
        Count used as N.
    form
        `standardised` or `raw`.
    adjust
        Correction of p over all tests of the table: Benjamini-Hochberg, Benjamini-Yekutieli, Holm, or none.

    Returns
    -------
    If a task has no regression (too few cells, a constant metric, a single size or checkpoint), its rows
    contain NaN and `note` gives the reason.

    Raises
    ------
    ConfigError
        `metrics_of` names a task that is not in `metrics`.
    """
    results = []
    for ability in abilities(metrics["task"], metric, metrics_of):
        rows = cells_of(metrics, ability.metric, parameters)
        own = rows[rows["task"] == ability.task]
        results.append(_regress_task(ability.task, own, ability.metric, parameters, form))
    table = pd.concat(results, ignore_index=True)
    table["p_adjusted"] = adjusted(table["p"].to_numpy(dtype=float), adjust)
    return table[list(COLUMNS)]


def _regress_task(task: str, rows: pd.DataFrame, metric: str, parameters: Size, form: Form) -> pd.DataFrame:
    y = rows["value"].to_numpy(dtype=float)
    predictors = predictors_of(rows, parameters)
    note = reason_for_no_regression(y, predictors)
    estimates = {name: np.full(3, np.nan) for name in ("estimate", "stderr", "t", "p")}
    if not note:
        estimates = _ols(*response_and_design(y, predictors, form))
    if form == "raw" and not note:
        note = RAW_NOTE
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
        # For a perfect fit, statsmodels divides by zero and returns the correct infinite t.
        warnings.simplefilter("ignore", RuntimeWarning)
        fit = sm.OLS(y, design).fit()
        return {
            "estimate": fit.params[1:],
            "stderr": fit.bse[1:],
            "t": fit.tvalues[1:],
            "p": fit.pvalues[1:],
        }
