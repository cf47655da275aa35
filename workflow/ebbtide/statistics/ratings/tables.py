"""The tables of ratings: errors of every checkpoint beside those of baselines, and a law over sizes."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.statistics.ratings.law import LAW, at_common_tokens, law_of
from ebbtide.statistics.ratings.predictions import Predictions
from ebbtide.statistics.two_way import two_way_error

# Baselines whose predictions a task may have; `bayes` is the best one where the truth is generated.
BASELINES = ("item_mean", "global_mean", "bayes")
COLUMNS = (
    *("model", "checkpoint", "task", "tokens", "parameters", "n", "users", "items"),
    *("rmse", "stderr", "low", "high", "coverage"),
    *BASELINES,
    *("random_guess", "constant_3"),
    *("kept_least", "kept_median", "kept_most", "kept_of"),
)


def rating_tables(
    predictions: Iterable[Predictions],
    metrics: pd.DataFrame,
    *,
    parameters: str,
    target: float,
    level: float,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return ratings.tsv (`COLUMNS`) and ratings_law.tsv (`LAW`).

    Parameters
    ----------
    predictions
        Those of all checkpoints, in the order of training.
    metrics
        Rows of `tables.METRICS`, which have the parameter counts.
    parameters
        Which count (`non_embedding`, `total`, `active` or `nominal`) is the size of a model.
    target
        RMSE whose size is extrapolated.
    level
        Confidence level of intervals.
    """
    sizes = metrics.groupby(["model", "checkpoint"])[f"parameters_{parameters}"].first().to_dict()
    rows: list[dict[str, Any]] = []
    squared: dict[tuple[str, str, str], Predictions] = {}
    for of in predictions:
        key = (of.task, of.place["model"], of.place["checkpoint"])
        squared[key] = of
        rows.append({**_row(of, level), "parameters": int(sizes.get(key[1:], 0))})
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    laws = []
    for task, own in table.groupby("task", sort=False):
        chosen, note = at_common_tokens(own)
        runs = [squared[str(task), row["model"], row["checkpoint"]] for row in chosen.to_dict("records")]
        laws.append(law_of(str(task), chosen, runs, note, target=target, level=level))
    return table, pd.DataFrame(laws, columns=list(LAW))


def _row(of: Predictions, level: float) -> dict[str, Any]:
    mse, error = float(of.squared.mean()), two_way_error(of.squared, of.users, of.items)
    reach = _quantile(level) * error
    known = {name: _rmse(of.baselines[name], of.target) for name in BASELINES if name in of.baselines}
    parts: Mapping[str, Any] = of.parts
    return {
        **{name: of.place[name] for name in ("model", "checkpoint", "tokens")},
        "task": of.task,
        "n": len(of.target),
        "users": len(np.unique(of.users)),
        "items": len(np.unique(of.items)),
        "rmse": np.sqrt(mse),
        "stderr": error / (2 * np.sqrt(mse)) if mse else np.nan,
        # Of the mean squared error, whose distribution is nearer to a normal one.
        "low": np.sqrt(max(0.0, mse - reach)),
        "high": np.sqrt(mse + reach),
        "coverage": float(of.coverage.mean()),
        **known,
        "random_guess": float(np.sqrt(np.mean((of.values - of.target[:, None]) ** 2))),
        "constant_3": _rmse(np.full(len(of.target), of.values.mean()), of.target),
        **{name: parts.get(name, np.nan) for name in ("kept_least", "kept_median", "kept_most")},
        "kept_of": parts.get("of", np.nan),
    }


def _rmse(predicted: np.ndarray, target: np.ndarray) -> float:
    return float(np.sqrt(np.mean((predicted - target) ** 2)))


def _quantile(level: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf((1 + level) / 2)
