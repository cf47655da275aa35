"""Runs that this study has scored itself: losses and errors from its table of metrics."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ebbtide.errors import ScalingError
from ebbtide.statistics.scaling_laws.runs import ERROR_OF, LOSS_OF, make_runs
from ebbtide.statistics.scaling_laws.subset import with_averages

_DIGITS = 3  # of M: 51 steps of 1,024 tokens are 9.997 tokens per parameter, and the run is called M = 10


def scored_runs(
    metrics: pd.DataFrame, *, train_set: str, loss: str, errors: Sequence[str], where: str = "scaling_laws"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table of runs, and the tasks of its errors, from metrics (`tables.METRICS`).

    `loss` is a task that has the metric `loss`; `errors` are tasks that have the metric `accuracy`, and
    err_avg is the mean of 1 − accuracy over them. N counts all parameters. The second table: task, chance.

    Raises `ScalingError` for a task or model without the number needed, and for a model with several
    checkpoints: the middle of a run's cosine is no run.
    """
    several = metrics.groupby("model")["checkpoint"].nunique()
    if (several > 1).any():
        name = several.index[several > 1][0]
        raise ScalingError(
            f"{where}: model {name!r} has {several[name]} checkpoints; a run counts at the end of its own "
            "cosine alone: name `steps: last`, and train other lengths as models of their own."
        )
    wanted = [(loss, "loss", LOSS_OF), *((task, "accuracy", ERROR_OF) for task in errors)]
    parts = [_rows(metrics, task, metric, f"{prefix}{task}", where) for task, metric, prefix in wanted]
    rows = pd.concat(parts, ignore_index=True)
    ratio = rows["tokens"] / rows["parameters"]
    runs = make_runs(rows.assign(train_set=train_set, M=[_rounded(M) for M in ratio]), where)
    chance = metrics[metrics["metric"] == "accuracy"].groupby("task")["chance"].first()
    return with_averages(runs, chance, None)


def _rows(metrics: pd.DataFrame, task: str, metric: str, quantity: str, where: str) -> pd.DataFrame:
    """One quantity of every model."""
    found = metrics[(metrics["task"] == task) & (metrics["metric"] == metric)]
    without = sorted(set(metrics["model"]) - set(found.loc[found["value"].notna(), "model"]))
    if without:
        raise ScalingError(f"{where}: {without[0]} has no metric {metric!r} of task {task!r}; is it scored?")
    untold = found[found["tokens"].isna() | (found["tokens"] <= 0)]
    if len(untold):
        model = untold["model"].iloc[0]
        raise ScalingError(f"{where}: the training tokens of {model} are unknown or 0, and a run needs them.")
    value = found["value"] if metric == "loss" else 1 - found["value"]
    return pd.DataFrame(
        {
            "model": found["model"],
            "parameters": found["parameters_total"].astype("int64"),
            "tokens": found["tokens"].astype("int64"),
            "quantity": quantity,
            "value": value.astype(float),
        }
    )


def _rounded(ratio: float) -> float:
    return float(np.format_float_positional(ratio, _DIGITS, fractional=False))
