"""One regression per task, by ordinary least squares, or over sizes where models differ only by seed."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.metrics.chosen import chosen_metrics
from ebbtide.statistics.multiplicity import Adjust, adjusted
from ebbtide.statistics.regression.design import (
    COEFFICIENTS,
    NO_REGRESSION,
    TERMS,
    Form,
    Size,
    cells_of,
    left_out_note,
    predictors_of,
    reason_for_no_regression,
    response_and_design,
)
from ebbtide.statistics.regression.mixed import random_slopes
from ebbtide.statistics.regression.units import Units, units_of_cells
from ebbtide.statistics.replicates import Place
from ebbtide.titles import Ability, abilities

RAW_NOTE = "main effects are effects at N = 1, D = 1"

COLUMNS = (
    *("task", "metric", "form", "cells", "term"),
    *("estimate", "stderr", "t", "df", "p", "p_adjusted", "runs", "sizes", "note"),
)


def regress(
    metrics: pd.DataFrame,
    *,
    metric: str | None = None,
    metrics_of: Mapping[str, Sequence[str]] | None = None,
    parameters: Size = "non_embedding",
    form: Form = "standardised",
    adjust: Adjust = "bh",
    places: Mapping[str, Place] | None = None,
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
    places
        Which models differ only by seed (`replicates.places_of_study`); None: none do.

    Returns
    -------
    `runs` and `sizes` are empty without replicates: least squares over cells. With them, the terms are
    estimated in two stages (`mixed`), with (sizes − 2) degrees of freedom, or (runs − 2) of two sizes.

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
        results.append(_regress_task(of_tasks[ability.task], ability, parameters, form, places or {}))
    table = pd.concat(results, ignore_index=True)
    table["p_adjusted"] = adjusted(table["p"].to_numpy(dtype=float), adjust)
    table = table.astype({"runs": "Int64", "sizes": "Int64"})
    return table[list(COLUMNS)]


def _regress_task(
    rows: pd.DataFrame, ability: Ability, parameters: Size, form: Form, places: Mapping[str, Place]
) -> pd.DataFrame:
    cells = cells_of(rows, ability.metric, parameters)
    note = reason_for_no_regression(rows, ability.metric, parameters)
    units = units_of_cells(cells["model"], cells["tokens"].to_numpy(dtype=float), places)
    estimates: dict[str, Any] = {name: np.full(3, np.nan) for name in ("estimate", "stderr", "t", "p")}
    estimates["df"] = max(len(cells) - COEFFICIENTS, 0) if units is None else np.nan
    if not note:
        y, design = response_and_design(
            cells["value"].to_numpy(dtype=float), predictors_of(cells, parameters), form
        )
        found = _ols(y, design) if units is None else _two_stages(y, design, cells["model"], units)
        if isinstance(found, str):
            note = f"{NO_REGRESSION}: {found}"
        else:
            estimates = found
            notes = (
                RAW_NOTE if form == "raw" else "",
                left_out_note(rows, ability.metric, parameters),
                found.pop("note", ""),
            )
            note = "; ".join(filter(None, notes))
    return pd.DataFrame(
        {
            "task": ability.task,
            "metric": ability.metric,
            "form": form,
            "cells": len(cells),
            "term": list(TERMS),
            **estimates,
            "runs": pd.NA if units is None else units.runs,
            "sizes": pd.NA if units is None else units.sizes,
            "note": note,
        }
    )


def _two_stages(y: np.ndarray, design: np.ndarray, models: pd.Series, units: Units) -> dict[str, Any] | str:
    found = random_slopes(y, design[:, 1], design[:, 2], models.to_numpy(dtype=object), units)
    if isinstance(found, str):
        return found
    return {name: getattr(found, name) for name in ("estimate", "stderr", "t", "p", "df", "note")}


def _ols(y: np.ndarray, design: np.ndarray) -> dict[str, Any]:
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
            "df": len(y) - COEFFICIENTS,
        }
