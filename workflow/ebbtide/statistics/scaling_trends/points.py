"""Metrics over training compute: one point per model."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ebbtide.statistics.compute import compute
from ebbtide.statistics.example_tables import Part, read_parts

POINTS = (
    *("series", "model", "checkpoint", "tokens", "parameters", "flops", "task", "asked", "shots"),
    *("metric", "value", "stderr", "n", "chance", "source", "note"),
)


def scale_points(
    metrics: pd.DataFrame,
    wanted: Sequence[str],
    series_of: Callable[[str], str],
    shots: Mapping[str, tuple[str, str]],
    *,
    parameters: str = "non_embedding",
    tokens: int | None = None,
) -> pd.DataFrame:
    """One row per model, task and wanted metric, columns `POINTS`, sorted by series, task, shots and compute.

    A model is represented by its last checkpoint, or its last one with at most `tokens` training tokens.
    Compute is C = 6 N D FLOPs, with N parameters and D training tokens. A model that cannot be compared has a
    row as well, with `flops` NaN and the reason in `note`; unknown tokens are NaN. If a task has none of the
    wanted metrics, its `metric` is empty.

    Parameters
    ----------
    metrics
        Table of `tables.METRICS`.
    wanted
        Metrics. A task needs one of them; a metric that no model has in a task is skipped there.
    series_of
        Function from a model to its series.
    shots
        Task → (zero-shot version of the task, number of shots). Other tasks are their own zero-shot version.
    parameters
        Count used as N: `total`, `non_embedding`, `active`, `nominal`.
    tokens
        Largest number of training tokens; None is no limit.
    """
    rows = metrics[metrics["metric"].isin(list(wanted))]
    sizes = rows[f"parameters_{parameters}"].fillna(0).astype(float)
    D = rows["tokens"].fillna(0).astype(float)
    late = (np.inf if tokens is None else tokens) < D
    table = rows.assign(
        tokens=D.where((D > 0) | (rows["step"] <= 0)),
        parameters=sizes,
        flops=compute(sizes, D).where((sizes > 0) & (D > 0) & ~late & rows["value"].notna()),
        note=np.select(
            [late, (D <= 0) & (rows["step"] > 0), D <= 0, sizes <= 0, rows["value"].isna()],
            [
                f"no checkpoint of at most {tokens} training tokens (scaling_trends.tokens)",
                "training tokens are unknown; set tokens_per_step of the model",
                "its only checkpoint is untrained, or its step is unknown",
                f"{parameters} parameters are unknown; set parameters of the model, or regression.parameters",
                "the value is missing",
            ],
            "",
        ),
        order=np.where(late, -1.0, D),
    )
    table = table.sort_values(["order", "step"], kind="stable").drop_duplicates(
        ["model", "task", "metric"], keep="last"
    )
    table = pd.concat([table, _without_metric(metrics, wanted)], ignore_index=True)
    table = table.assign(
        series=table["model"].map(series_of),
        asked=[shots.get(task, (task, "0"))[0] for task in table["task"]],
        shots=[shots.get(task, (task, "0"))[1] for task in table["task"]],
    )
    table["asked"] = _in_order(table["asked"], [shots.get(t, (t, ""))[0] for t in metrics["task"].unique()])
    table["metric"] = _in_order(table["metric"], [*wanted, ""])
    table = table.sort_values(
        ["series", "metric", "asked", "shots", "flops", "model"], ignore_index=True, kind="stable"
    )
    return table.astype({"asked": str, "metric": str})[list(POINTS)]


def _without_metric(metrics: pd.DataFrame, wanted: Sequence[str]) -> pd.DataFrame:
    """Return a row for every model and task that lack a wanted metric which others have, or have none."""
    rows = []
    tasks = metrics.groupby("task", sort=False)
    common = {str(task): [m for m in wanted if m in set(of["metric"])] for task, of in tasks}
    for (_, task), of in metrics.groupby(["model", "task"], sort=False):
        has = ", ".join(sorted(of["metric"].unique()))
        lacking = [m for m in common[str(task)] if m not in set(of["metric"])]
        named = [(m, f"it has no {m}, only {has}") for m in lacking]
        if not common[str(task)]:
            named = [("", f"no metric {' or '.join(wanted)} (scaling_trends.metrics); the task has {has}")]
        last = of.assign(tokens=of["tokens"].where((of["tokens"] > 0) | (of["step"] <= 0))).iloc[-1]
        place = {name: last[name] for name in ("model", "checkpoint", "tokens", "task", "n", "source")}
        rows += [{**place, "metric": metric, "note": note} for metric, note in named]
    columns = ["model", "checkpoint", "tokens", "task", "n", "source", "metric", "note"]
    return pd.DataFrame(rows, columns=columns).assign(
        parameters=np.nan, flops=np.nan, value=np.nan, stderr=np.nan, chance=np.nan
    )


def _in_order(names: pd.Series, order: Sequence[str]) -> pd.Categorical:
    return pd.Categorical(names, list(dict.fromkeys(order)), ordered=True)


def parts_of(parts: Iterable[str | Path], points: pd.DataFrame) -> list[Part]:
    """Return the tables of examples that contain a point. Raises `CellError` for an invalid table."""
    wanted = set(zip(points["model"], points["checkpoint"], strict=True))
    return [part for part in read_parts(parts) if (part.place["model"], part.place["checkpoint"]) in wanted]
