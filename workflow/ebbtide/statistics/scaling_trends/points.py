"""Metrics over training compute: one point per model."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ebbtide.statistics.compute import compute
from ebbtide.statistics.panel import Part, read_parts

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
    Compute is C = 6 N D FLOPs, with N parameters and D training tokens. If C is unknown, `flops` is NaN and
    `note` gives the reason.

    Parameters
    ----------
    metrics
        Table of `tables.METRICS`.
    wanted
        Metrics; those that a task does not have are skipped.
    series_of
        Function from a model to its series.
    shots
        Task → (zero-shot version of the task, number of shots). Other tasks are their own zero-shot version.
    parameters
        Count used as N: `total`, `non_embedding`, `active`, `nominal`.
    tokens
        Largest number of training tokens; None is no limit.
    """
    rows = metrics[metrics["metric"].isin(list(wanted)) & metrics["value"].notna()]
    sizes = rows[f"parameters_{parameters}"].fillna(0).astype(float)
    D = rows["tokens"].fillna(0).astype(float)
    late = (np.inf if tokens is None else tokens) < D
    table = rows.assign(
        tokens=D,
        parameters=sizes,
        flops=compute(sizes, D).where((sizes > 0) & (D > 0) & ~late),
        series=rows["model"].map(series_of),
        asked=[shots.get(task, (task, "0"))[0] for task in rows["task"]],
        shots=[shots.get(task, (task, "0"))[1] for task in rows["task"]],
        note=np.select(
            [late, D <= 0, sizes <= 0],
            [
                f"no checkpoint of at most {tokens} training tokens",
                "training tokens are unknown or 0",
                f"{parameters} parameters are unknown",
            ],
            "",
        ),
        order=np.where(late, -1.0, D),
    )
    table = table.sort_values(["order", "step"], kind="stable").drop_duplicates(
        ["model", "task", "metric"], keep="last"
    )
    table["asked"] = _in_order(table["asked"], [shots.get(t, (t, ""))[0] for t in metrics["task"].unique()])
    table["metric"] = _in_order(table["metric"], wanted)
    table = table.sort_values(
        ["series", "metric", "asked", "shots", "flops", "model"], ignore_index=True, kind="stable"
    )
    return table.astype({"asked": str, "metric": str})[list(POINTS)]


def _in_order(names: pd.Series, order: Sequence[str]) -> pd.Categorical:
    return pd.Categorical(names, list(dict.fromkeys(order)), ordered=True)


def parts_of(parts: Iterable[str | Path], points: pd.DataFrame) -> list[Part]:
    """Return the tables of examples that contain a point. Raises `CellError` for an invalid table."""
    wanted = set(zip(points["model"], points["checkpoint"], strict=True))
    return [part for part in read_parts(parts) if (part.place["model"], part.place["checkpoint"]) in wanted]
