"""Alignment: where the windows of the runs of one size end, so that they are compared at the same tokens.

The end is the last checkpoint that all of them have at the same training tokens, up to a tolerance; if there
is none, that which the most have, and the others are left out. Where tokens are unknown, steps are compared.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from ebbtide.statistics.panel import trained_in_order
from ebbtide.statistics.replicates import Place
from ebbtide.statistics.same_tokens import nearest

Stops = Mapping[tuple[str, str, str], float]  # (model, task, metric) → tokens (or steps) at the end


class Axis(NamedTuple):
    """The checkpoints of one run, in the order of training: tokens, or steps where tokens are unknown."""

    in_tokens: bool
    at: tuple[float, ...]


def axis_of(checkpoints: pd.DataFrame) -> Axis:
    """Return the axis of checkpoints with the columns `tokens` and `step`."""
    known = bool((checkpoints["tokens"] > 0).all())
    return Axis(known, tuple(checkpoints["tokens" if known else "step"].astype(float)))


def stops_of(
    means: Mapping[tuple[str, str], pd.DataFrame], places: Mapping[str, Place], tolerance: float
) -> dict[tuple[str, str, str], float]:
    """Return where the window of every run ends, of those that have checkpoints in common with others.

    Parameters
    ----------
    means
        (model, task) → rows of `tables.METRICS` with values.
    tolerance
        Largest difference of tokens, as a share of them.
    """
    axes: dict[tuple[str, str, str], dict[str, Axis]] = {}
    for (model, task), rows in means.items():
        for metric, axis in _axes(rows).items():
            axes.setdefault((task, metric, places[model].size), {})[model] = axis
    return {
        (model, task, metric): end
        for (task, metric, _), of in axes.items()
        for model, end in zip(of, common_ends(tuple(of.values()), tolerance), strict=True)
        if end is not None
    }


def _axes(rows: pd.DataFrame) -> dict[str, Axis]:
    """Return metric → axis of the metrics of one model and task whose values are finite."""
    every = trained_in_order(rows.drop_duplicates("checkpoint"))
    shared, trained = axis_of(every), rows[rows["checkpoint"].isin(every["checkpoint"])]
    by_metric = trained.assign(finite=np.isfinite(trained["value"].astype(float))).groupby(
        "metric", sort=False
    )
    finite = by_metric["finite"].agg(["all", "size"])
    return {
        str(metric): shared if size == len(every) else axis_of(trained_in_order(by_metric.get_group(metric)))
        for metric, known, size in finite.itertuples()
        if known
    }


@lru_cache(maxsize=1000)
def common_ends(axes: tuple[Axis, ...], tolerance: float) -> tuple[float | None, ...]:
    """Return the last tokens (or steps) that the most runs have in common, as each run has them.

    Returns
    -------
    None for runs that do not have them; for all of several runs if no two have any in common.
    """
    if len(set(axes)) == 1:
        return tuple(axis.at[-1] for axis in axes)
    most = (1, -np.inf)
    found: tuple[float | None, ...] = (None,) * len(axes)
    for base in dict.fromkeys(axes):
        rows = np.stack([_rows(base, axis, tolerance) for axis in axes])
        runs = (rows >= 0).sum(axis=0)
        last = int(np.flatnonzero(runs == runs.max())[-1])
        if (reached := (int(runs[last]), base.at[last])) > most and runs[last] > 1:
            most = reached
            at = zip(axes, rows[:, last], strict=True)
            found = tuple(axis.at[row] if row >= 0 else None for axis, row in at)
    return found


def _rows(base: Axis, axis: Axis, tolerance: float) -> np.ndarray:
    if base.in_tokens != axis.in_tokens:
        return np.full(len(base.at), -1)
    return nearest(np.array(base.at), np.array(axis.at), tolerance)
