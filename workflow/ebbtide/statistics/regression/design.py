"""Design of the regressions: their cells and predictors, and why a regression may be impossible."""

from typing import Literal

import numpy as np
import pandas as pd

from ebbtide.metrics.chosen import metrics_by_task

Form = Literal["standardised", "raw"]
Size = Literal["non_embedding", "total", "active", "nominal"]

SIZES: dict[Size, str] = {
    "non_embedding": "non-embedding parameters",
    "total": "parameters",
    "active": "active parameters",
    "nominal": "nominal parameters",
}
NO_REGRESSION = "no regression"  # how a note begins that gives the reason
TERMS = ("parameters", "tokens", "interaction")
COEFFICIENTS = 4  # intercept, two main effects, interaction


def cells_of(metrics: pd.DataFrame, metric: str, parameters: Size) -> pd.DataFrame:
    """Return the rows of `metric` with known training tokens and parameters, which have a logarithm."""
    return metrics[
        (metrics["metric"] == metric) & (metrics["tokens"] > 0) & (metrics[f"parameters_{parameters}"] > 0)
    ]


def predictors_of(cells: pd.DataFrame, parameters: Size) -> np.ndarray:
    """Return log10 N and log10 D of every cell, (cells, 2)."""
    predictors: np.ndarray = np.log10(cells[[f"parameters_{parameters}", "tokens"]].to_numpy(dtype=float))
    return predictors


def response_and_design(y: np.ndarray, predictors: np.ndarray, form: Form) -> tuple[np.ndarray, np.ndarray]:
    """Return y (cells,) and the design (cells, 4) of a form: intercept, size, tokens, interaction."""
    if form == "standardised":
        y, predictors = standardise(y), standardise(predictors)
    size, tokens = predictors.T
    return y, np.column_stack([np.ones_like(y), size, tokens, size * tokens])


def standardise(x: np.ndarray) -> np.ndarray:
    """Return (x - mean) / sd of every column; sd with ddof 1."""
    standardised: np.ndarray = (x - x.mean(axis=0)) / x.std(axis=0, ddof=1)
    return standardised


def reason_for_no_regression(rows: pd.DataFrame, metric: str, parameters: Size) -> str:
    """Return why a task has no regression of `metric`, with the key that changes it; empty if it has one.

    `rows` are all rows of the task in the table of metrics.
    """
    own = rows[rows["metric"] == metric]
    every = f"all {len(own)} cells"
    if own.empty:
        [(task, found)] = metrics_by_task(rows).items()
        reason = (
            f"the task has no metric {metric}; it has {', '.join(found)} "
            f"(set regression.metrics: {{{task}: [{found[0]}]}})"
        )
    elif not (own["tokens"] > 0).any() and (own["step"] > 0).any():
        reason = f"the training tokens of {every} are unknown; set tokens_per_step of the models"
    elif not (own["tokens"] > 0).any():
        reason = (
            f"the training tokens of {every} are 0 or unknown; add trained checkpoints, or set their steps "
            "and tokens_per_step"
        )
    elif not (own[f"parameters_{parameters}"] > 0).any():
        reason = (
            f"the {SIZES[parameters]} of {every} are unknown; set regression.parameters to another count, or "
            "the parameters of the imported models"
        )
    else:
        cells = cells_of(own, metric, parameters)
        return reason_of_arrays(cells["value"].to_numpy(dtype=float), predictors_of(cells, parameters))
    return f"{NO_REGRESSION}: {reason}"


def reason_of_arrays(y: np.ndarray, predictors: np.ndarray) -> str:
    """Return why y (cells,) and predictors (cells, 2) have no regression; empty if they have one."""
    count, missing = len(y), int((~np.isfinite(y)).sum())
    if not count:
        reason = "no cell has both training tokens and a size"
    elif missing:
        reason = f"the metric has no value in {missing} of {count} cells"
    elif np.ptp(predictors[:, 0]) == 0:
        reason = (
            "one model size only, but the regression is over sizes; see summary.txt for the trend of each "
            "model"
        )
    elif np.ptp(predictors[:, 1]) == 0:
        reason = "one number of training tokens only; add checkpoints of other steps"
    elif count <= COEFFICIENTS:
        reason = (
            f"{count} cells with training tokens and a size, more than {COEFFICIENTS} needed; add "
            "checkpoints or models"
        )
    elif np.ptp(y) == 0:
        reason = f"the metric is {y[0]:.6g} in every cell"
    elif not _separates(predictors):
        reason = (
            "the grid does not separate size, tokens and their interaction; add checkpoints, so that models "
            "of different sizes have equal tokens"
        )
    else:
        return ""
    return f"{NO_REGRESSION}: {reason}"


def left_out_note(rows: pd.DataFrame, metric: str, parameters: Size) -> str:
    """Return how many cells of a task's regression are left out, and why; untrained ones are not counted."""
    own = rows[rows["metric"] == metric]
    trained = own[(own["tokens"] > 0) | (own["step"] > 0)]
    unknown = {
        "training tokens unknown": trained["tokens"] <= 0,
        f"{SIZES[parameters]} unknown": (trained["tokens"] > 0) & ~(trained[f"parameters_{parameters}"] > 0),
    }
    return "; ".join(
        f"{which.sum()} of {len(trained)} cells left out: {reason}"
        for reason, which in unknown.items()
        if which.any()
    )


def _separates(predictors: np.ndarray) -> bool:
    size, tokens = (predictors - predictors.mean(axis=0)).T
    design = np.column_stack([np.ones_like(size), size, tokens, size * tokens])
    return bool(np.linalg.matrix_rank(design) == COEFFICIENTS)
