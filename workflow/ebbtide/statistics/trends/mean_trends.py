"""Classes and slopes of curves of which only means are known, such as imported tables.

The examples behind two means are unknown, so the means count as independent, with their standard errors. If
the examples are the same, as is usual, this overstates the error of a change: a class is missed rather than
invented.
"""

import numpy as np
import pandas as pd
from scipy.stats import norm

from ebbtide.metrics.direction import is_share
from ebbtide.statistics.panel import trained_in_order
from ebbtide.statistics.shape import EQUIVALENCE_MARGIN, ability_of, shape_of
from ebbtide.statistics.simultaneous import all_pairs, means_with
from ebbtide.statistics.trends.slopes import slope_weights

KEY = ("model", "task", "metric")
COLUMNS = (*KEY, "slope", "low", "high", "class", "ability", "reach", "note")
UNPAIRED = "only means are known, so checkpoints are compared as if their examples differed"


def mean_trends(
    metrics: pd.DataFrame, alpha: float = 0.05, equivalence_margin: float = EQUIVALENCE_MARGIN
) -> pd.DataFrame:
    """Return the trend of every curve of means, columns `COLUMNS`, in the units of `trends.tsv`.

    Parameters
    ----------
    metrics
        Rows of `tables.METRICS`. Untrained checkpoints are left out if others are trained.
    equivalence_margin
        Largest change of a share that is considered negligible; other metrics are never called flat.
    """
    curves = [(key, rows) for key, rows in metrics.groupby(list(KEY), sort=False)]
    found = [
        _trend(key, trained_in_order(rows), alpha, equivalence_margin, len(curves)) for key, rows in curves
    ]
    return pd.DataFrame(found, columns=list(COLUMNS))


def _trend(key: object, rows: pd.DataFrame, alpha: float, margin: float, curves: int) -> dict[str, object]:
    model, task, metric = (str(part) for part in key)  # type: ignore[attr-defined]
    values, errors = rows["value"].to_numpy(dtype=float), rows["stderr"].to_numpy(dtype=float)
    slope = (np.nan, np.nan, np.nan)
    shape, reach = "undecided", np.nan
    problem = _problem(values, errors)
    if not problem:
        pairs = all_pairs(means_with(values, errors, task))
        found = shape_of(pairs, alpha, margin if is_share(metric, values) else 0, curves)
        shape, reach = found.name, found.reach
        problem = "; ".join(filter(None, (found.note, UNPAIRED)))
        slope = _slope(rows["tokens"].to_numpy(dtype=float), values, errors, alpha)
    ability = ability_of(shape, metric)
    return dict(zip(COLUMNS, (model, task, metric, *slope, shape, ability, reach, problem), strict=True))


def _problem(values: np.ndarray, errors: np.ndarray) -> str:
    if len(values) < 2:
        return "one trained checkpoint: nothing to compare; add checkpoints"
    if np.isnan(values).any():
        return "a checkpoint has no value"
    if np.isnan(errors).any() or not errors.any():
        return "no standard errors (stderr or n) are known, so no change can be judged"
    return ""


def _slope(
    tokens: np.ndarray, values: np.ndarray, errors: np.ndarray, alpha: float
) -> tuple[float, float, float]:
    """Return slope per decade of tokens and its interval; NaN if fewer than two token counts are known."""
    known = tokens > 0
    if len(np.unique(tokens[known])) < 2:
        return np.nan, np.nan, np.nan
    weights = slope_weights(np.log10(tokens[known]))
    slope = float(weights @ values[known])
    reach = float(norm.isf(alpha / 2) * np.sqrt(weights**2 @ errors[known] ** 2))
    return slope, slope - reach, slope + reach
