"""Design of the regressions: their cells and predictors, and why a regression may be impossible."""

from typing import Literal

import numpy as np
import pandas as pd

Form = Literal["standardised", "raw"]
Size = Literal["non_embedding", "total", "active", "nominal"]

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


def reason_for_no_regression(y: np.ndarray, predictors: np.ndarray) -> str:
    """Return why these cells have no regression; empty if they have one."""
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
