"""RMSE = a N^-b over models of different sizes N, and the size at which a target is reached.

log RMSE = log a - b log N by least squares, one point per model. The interval of b has the noise of the
ratings and the scatter of models about the line. Each draw resamples users and items, the same for all models
(`statistics.two_way`). It adds an error of the line, Student's t with two degrees of freedom fewer than
models, of the part of the residuals that the noise of the ratings does not explain: the draws say how much it
does. Where the interval contains 0, any size might reach the target or none, so none is given.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.notices import counted
from ebbtide.statistics.ratings.predictions import Predictions
from ebbtide.statistics.resampling import named_rng
from ebbtide.statistics.two_way import two_way_bootstrap

LAW = (
    *("task", "tokens", "sizes", "smallest_size", "largest_size", "a", "b", "b_low", "b_high", "residual"),
    *("target_rmse", "crossing", "crossing_low", "crossing_high", "reason", "note"),
)
FEWEST = 3  # sizes: through two points, every line is exact


def at_common_tokens(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return the row of every model at the last training tokens that all models have, and a note.

    `rows` are those of ratings.tsv of one task. If no tokens are common or known, the rows are the last ones,
    and the note says so. Models without a parameter count are left out.
    """
    known = rows[rows["parameters"] > 0]
    tokens = [set(of["tokens"]) - {0} for _, of in known.groupby("model")]
    common = set.intersection(*tokens) if tokens else set()
    if common:
        return known[known["tokens"] == max(common)].drop_duplicates("model", keep="last"), ""
    note = "no training tokens are common to all models, so the last checkpoint of each is used"
    return known.drop_duplicates("model", keep="last"), note if len(known) else "no model has a known size"


def law_of(
    task: str,
    rows: pd.DataFrame,
    runs: Sequence[Predictions],
    note: str,
    *,
    target: float,
    level: float,
) -> dict[str, Any]:
    """Return the row of ratings_law.tsv (`LAW`) of one task; numbers that are unknown are missing.

    `rows` are those of the models, and `runs` their predictions of the same ratings.
    """
    sizes = rows["parameters"].to_numpy(dtype=float)
    tokens = rows["tokens"].unique()
    found: dict[str, Any] = {
        "task": task,
        "tokens": tokens[0] if len(tokens) == 1 and tokens[0] else np.nan,
        "sizes": len(np.unique(sizes)),
        "smallest_size": sizes.min(initial=np.inf) if len(sizes) else np.nan,
        "largest_size": sizes.max(initial=0.0) if len(sizes) else np.nan,
        "target_rmse": target,
        "note": note,
        "reason": "",
    }
    if found["sizes"] < FEWEST:
        return {**found, "reason": f"{counted(found['sizes'], 'size')}; a line over sizes needs {FEWEST}"}
    squared = np.stack([run.squared for run in runs])
    x = np.log(sizes)
    slope, intercept, residual = _line(x, 0.5 * np.log(squared.mean(axis=1)))
    drawn = two_way_bootstrap(squared, runs[0].users, runs[0].items, task)
    slopes, intercepts, residuals = _line(x, 0.5 * np.log(drawn))
    noise = max(0.0, float(np.mean(residuals**2)) - residual**2)  # what resampling adds to the scatter
    excess = np.sqrt(max(0.0, residual**2 - noise))
    turn, shift = _scatter(task, len(x), len(slopes), excess)
    turn /= np.sqrt(np.sum((x - x.mean()) ** 2))
    slopes, intercepts = slopes + turn, intercepts + shift - turn * x.mean()
    tails = (0.5 - level / 2, 0.5 + level / 2)
    b_low, b_high = np.quantile(-slopes, tails)
    found |= {"a": np.exp(intercept), "b": -slope, "b_low": b_low, "b_high": b_high, "residual": residual}
    if b_low <= 0:
        return {**found, "reason": f"the interval of b, {b_low:.2g} to {b_high:.2g}, contains 0"}
    with np.errstate(over="ignore", divide="ignore"):
        crossing = np.exp((np.log(target) - intercept) / slope)
        exact = np.where(slopes < 0, (np.log(target) - intercepts) / np.minimum(slopes, -1e-300), np.inf)
        low, high = np.exp(np.quantile(exact, tails, method="inverted_cdf"))
    return {**found, "crossing": crossing, "crossing_low": low, "crossing_high": high}


def _scatter(task: str, models: int, draws: int, residual: float) -> np.ndarray:
    """Errors of a line from its residuals (2, draws): of its slope at a spread of 1, and of its height."""
    errors = named_rng(f"{task} scatter").standard_t(models - 2, (2, draws)) * residual
    errors[1] /= np.sqrt(models)
    return np.asarray(errors)


def _line(x: np.ndarray, y: np.ndarray) -> tuple[Any, Any, Any]:
    """Slope, intercept and standard deviation of residuals of least squares: x (M,), y (…, M) → (…,)."""
    centred = x - x.mean()
    slope = y @ centred / (centred @ centred)
    intercept = y.mean(axis=-1) - slope * x.mean()
    left = y - intercept[..., None] - slope[..., None] * x
    return slope, intercept, np.sqrt(np.sum(left**2, axis=-1) / (len(x) - 2))
