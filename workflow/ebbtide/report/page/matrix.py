"""Matrices of changes: task × model over training, and task × checkpoint within each model."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ebbtide.metrics.direction import sign_of
from ebbtide.report.page.numbers import rounded

MOST_ALARMS = 40_000  # comparisons on the page; more are in alarms.tsv


def model_matrix(outcomes: pd.DataFrame, sizes: pd.Series) -> dict[str, Any]:
    """Return the change of each model over training, task by task: `models`, and rows with cells.

    Parameters
    ----------
    outcomes
        Rows of outcomes.tsv.
    sizes
        Parameters by model, which order the columns.

    Returns
    -------
    `models` in the order of size; `rows` of `task`, `metric` and `cells` by model: `change` is last minus
    first, missing for a model with one checkpoint; `outcome` is its evidence in words.
    """

    def alone(row: Mapping[Any, Any]) -> bool:
        return bool(row["first_checkpoint"] == row["last_checkpoint"])

    order = sizes.reindex(outcomes["model"].unique()).fillna(0).sort_values(kind="stable")
    rows = []
    for (task, metric), of in outcomes.groupby(["task", "metric"], sort=False):
        cells = {
            str(row["model"]): {
                "change": None if alone(row) else rounded(row["last"] - row["first"]),
                "first": rounded(row["first"]),
                "last": rounded(row["last"]),
                "outcome": row["outcome"],
            }
            for row in of.to_dict("records")
        }
        rows.append({"task": str(task), "metric": str(metric), "cells": cells})
    return {"models": [str(model) for model in order.index], "rows": rows}


def checkpoint_changes(alarms: pd.DataFrame | None) -> tuple[list[list[Any]], str]:
    """Return the comparisons of checkpoints, compact, and a sentence if some are left out.

    Each is `model, task, metric, checkpoint, against, reference, change, p_adjusted, severity, worse`.
    """
    if alarms is None or alarms.empty:
        return [], ""
    whole = alarms[alarms["group"] == ""]
    kept, left = whole, ""
    if len(whole) > MOST_ALARMS:
        kept = whole[(whole["severity"] != "") | (whole["against"] == "best")]
        kept = kept[kept["severity"] != ""] if len(kept) > MOST_ALARMS else kept
        left = f"{len(whole) - len(kept):,} comparisons without an alarm are in alarms.tsv only."
    signs = {metric: sign_of(metric) for metric in kept["metric"].unique()}
    return [
        [
            *(row[name] for name in ("model", "task", "metric", "checkpoint", "against", "reference")),
            rounded(row["change"]),
            rounded(row["p_adjusted"]),
            row["severity"],
            int(signs[row["metric"]] * row["change"] < 0),
        ]
        for row in kept.to_dict("records")
    ], left
