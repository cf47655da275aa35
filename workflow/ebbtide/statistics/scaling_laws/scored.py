"""Training runs from the scores of this study: losses and errors from its table of metrics."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ebbtide.errors import ScalingError
from ebbtide.statistics.scaling_laws.runs import ERROR_PREFIX, LOSS_PREFIX, make_runs
from ebbtide.statistics.scaling_laws.subset import with_averages

_M_DIGITS = 3  # significant digits of M: 9.997 tokens per parameter are labelled M = 10


def own_runs(
    metrics: pd.DataFrame, *, train_set: str, loss: str, errors: Sequence[str], where: str = "scaling_laws"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the table of runs, and a table (task, chance) of their error tasks.

    Parameters
    ----------
    metrics
        Long table (`tables.METRICS`). N counts all parameters.
    train_set
        Name of the train set of all runs.
    loss
        Task with the metric `loss`, in nats per token.
    errors
        Tasks with the metric `accuracy`; err_avg is the mean of 1 − accuracy over them.
    where
        Config key for error messages.

    Raises
    ------
    ScalingError
        A required metric is missing, or a model has several checkpoints: only the end of a run's cosine
        schedule counts as a run.
    """
    several = metrics.groupby("model")["checkpoint"].nunique()
    if (several > 1).any():
        name = several.index[several > 1][0]
        raise ScalingError(
            f"{where}: model {name!r} has {several[name]} checkpoints; only the end of its cosine schedule "
            "counts as a run. Set `steps: last`, and train other lengths as separate models."
        )
    wanted = [(loss, "loss", LOSS_PREFIX), *((task, "accuracy", ERROR_PREFIX) for task in errors)]
    parts = [_rows(metrics, task, metric, f"{prefix}{task}", where) for task, metric, prefix in wanted]
    rows = pd.concat(parts, ignore_index=True)
    ratio = rows["tokens"] / rows["parameters"]
    runs = make_runs(rows.assign(train_set=train_set, M=[_rounded(M) for M in ratio]), where)
    chance = metrics[metrics["metric"] == "accuracy"].groupby("task")["chance"].first()
    return with_averages(runs, chance, None)


def _rows(metrics: pd.DataFrame, task: str, metric: str, quantity: str, where: str) -> pd.DataFrame:
    """Return one quantity of every model."""
    found = metrics[(metrics["task"] == task) & (metrics["metric"] == metric)]
    without = sorted(set(metrics["model"]) - set(found.loc[found["value"].notna(), "model"]))
    if without:
        why = _why_missing(metrics[(metrics["model"] == without[0]) & (metrics["task"] == task)], metric)
        raise ScalingError(f"{where}: {without[0]} has no metric {metric!r} of task {task!r}: {why}.")
    for column, name, key in (
        ("tokens", "training tokens", "tokens_per_step"),
        ("parameters_total", "parameters", "parameters.total"),
    ):
        unknown = found[found[column].isna() | (found[column] <= 0)]
        if len(unknown):
            model = unknown["model"].iloc[0]
            raise ScalingError(
                f"{where}: {name} of {model} are unknown or 0; a run needs them. Set `{key}` of the model."
            )
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


def _why_missing(rows: pd.DataFrame, metric: str) -> str:
    """Say why a model's rows of a task lack a metric."""
    if metric in set(rows["metric"]):
        return "its value is missing"
    if len(rows):
        return f"the task has the metrics {', '.join(sorted(rows['metric'].unique()))}"
    return "this model has no results of the task"


def _rounded(ratio: float) -> float:
    return float(np.format_float_positional(ratio, _M_DIGITS, fractional=False))
