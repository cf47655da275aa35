"""The design of the regressions: which cells take part, their predictors, why there may be no regression."""

from typing import Literal

import numpy as np
import pandas as pd

Form = Literal["standardised", "raw"]
Size = Literal["non_embedding", "total", "active", "nominal"]

TERMS = ("parameters", "tokens", "interaction")
COEFFICIENTS = 4  # intercept, two main effects, interaction


def cells_of(metrics: pd.DataFrame, metric: str, parameters: Size) -> pd.DataFrame:
    """Rows of `metric` that have a place on logarithmic axes: with training tokens and parameters."""
    return metrics[
        (metrics["metric"] == metric) & (metrics["tokens"] > 0) & (metrics[f"parameters_{parameters}"] > 0)
    ]


def predictors_of(cells: pd.DataFrame, parameters: Size) -> np.ndarray:
    """log10 N and log10 D of every cell, (cells, 2)."""
    predictors: np.ndarray = np.log10(cells[[f"parameters_{parameters}", "tokens"]].to_numpy(dtype=float))
    return predictors


def formed(y: np.ndarray, predictors: np.ndarray, form: Form) -> tuple[np.ndarray, np.ndarray]:
    """y (cells,) and the design (cells, 4): 1, size, tokens, their product, as the form has them."""
    if form == "standardised":
        y, predictors = standardise(y), standardise(predictors)
    size, tokens = predictors.T
    return y, np.column_stack([np.ones_like(y), size, tokens, size * tokens])


def standardise(x: np.ndarray) -> np.ndarray:
    """(x - mean) / sd, column by column; sd with ddof 1."""
    standardised: np.ndarray = (x - x.mean(axis=0)) / x.std(axis=0, ddof=1)
    return standardised


def reason_for_none(y: np.ndarray, predictors: np.ndarray) -> str:
    """Why these cells have no regression; empty when they have one."""
    if len(y) <= COEFFICIENTS:
        return f"no regression: {len(y)} cells with training tokens, more than {COEFFICIENTS} needed"
    reasons = {
        "a value is missing": not np.isfinite(y).all(),
        f"the metric is {y[0]:.6g} in every cell": np.ptp(y) == 0,
        "one model size only": np.ptp(predictors[:, 0]) == 0,
        "one number of training tokens only": np.ptp(predictors[:, 1]) == 0,
        "the grid does not separate size, tokens and their interaction": not _separates(predictors),
    }
    return next((f"no regression: {reason}" for reason, holds in reasons.items() if holds), "")


def _separates(predictors: np.ndarray) -> bool:
    size, tokens = (predictors - predictors.mean(axis=0)).T
    design = np.column_stack([np.ones_like(size), size, tokens, size * tokens])
    return bool(np.linalg.matrix_rank(design) == COEFFICIENTS)
