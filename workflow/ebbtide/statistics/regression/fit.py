"""One regression per task, by ordinary least squares."""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ebbtide.metrics.chosen import chosen_metrics
from ebbtide.statistics.multiplicity import Adjust, adjusted
from ebbtide.statistics.regression.design import (
    COEFFICIENTS,
    TERMS,
    Form,
    Size,
    cells_of,
    left_out_note,
    predictors_of,
    reason_for_no_regression,
    response_and_design,
)
from ebbtide.titles import Ability, abilities

RAW_NOTE = "main effects are effects at N = 1, D = 1"

COLUMNS = (
    *("task", "metric", "form", "cells", "term"),
    *("estimate", "stderr", "t", "df", "p", "p_adjusted", "note"),
)


def regress(
    metrics: pd.DataFrame,
    *,
    metric: str | None = None,
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
        logarithm and are left out; `note` counts those that are not untrained.
    metric, metrics_of
        The metric of all tasks (None: the main metric of each), and metrics of individual tasks that override
        it, each with its own regression.
    parameters
        Count used as N.
    form
        `standardised` or `raw`.
    adjust
        Correction of p over all tests of the table: Benjamini-Hochberg, Benjamini-Yekutieli, Holm, or none.

    Returns
    -------
    If a task has no regression (`design.reason_for_no_regression`), its rows contain NaN and `note` gives the
    reason.

    Raises
    ------
    ConfigError
        `metrics_of` names a task that is not in `metrics`.
    """
    results = []
    of_tasks = {str(task): rows for task, rows in metrics.groupby("task", sort=False)}
    for ability in abilities(chosen_metrics(metrics, metric, metrics_of)):
        results.append(_regress_task(of_tasks[ability.task], ability, parameters, form))
    table = pd.concat(results, ignore_index=True)
    table["p_adjusted"] = adjusted(table["p"].to_numpy(dtype=float), adjust)
    return table[list(COLUMNS)]


def _regress_task(rows: pd.DataFrame, ability: Ability, parameters: Size, form: Form) -> pd.DataFrame:
    cells = cells_of(rows, ability.metric, parameters)
    note = reason_for_no_regression(rows, ability.metric, parameters)
    estimates = {name: np.full(3, np.nan) for name in ("estimate", "stderr", "t", "p")}
    if not note:
        y = cells["value"].to_numpy(dtype=float)
        estimates = _ols(*response_and_design(y, predictors_of(cells, parameters), form))
        notes = (RAW_NOTE if form == "raw" else "", left_out_note(rows, ability.metric, parameters))
        note = "; ".join(filter(None, notes))
    return pd.DataFrame(
        {
            "task": ability.task,
            "metric": ability.metric,
            "form": form,
            "cells": len(cells),
            "term": list(TERMS),
            **estimates,
            "df": max(len(cells) - COEFFICIENTS, 0),
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
