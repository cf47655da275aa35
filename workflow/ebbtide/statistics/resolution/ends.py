"""Ends of runs: metrics by example at the last checkpoints, from their cells.

The tables of examples have only the metrics that other stages follow. Proxies may be any metric, but need
values by example only within the windows of `resolution.last` checkpoints.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ebbtide.metrics.measure import values_by_example
from ebbtide.metrics.of_cell import is_only_in_cells
from ebbtide.statistics.example_tables import named_of
from ebbtide.statistics.panel import CHECKPOINT_COLUMNS, Trajectory
from ebbtide.statistics.resolution.windows import Ends
from ebbtide.tables import EXAMPLES


class _End(NamedTuple):
    """A cell of a window: its checkpoint, files, and what it must be."""

    place: Mapping[str, Any]
    cell: str | Path
    requests: str | Path
    expected: Mapping[str, Any]


def ends_of(
    expected: Iterable[Mapping[str, Any]], cells: Sequence[str | Path], requests: Sequence[str | Path]
) -> Ends:
    """Return a function of model and task that reads the cells of its window; None if it has none.

    Parameters
    ----------
    expected
        For each checkpoint of the windows, in the order of training, that of `measure_checkpoint`.
    cells
        The files of all their cells, in the same order.
    requests
        Files of the frozen tasks, in the order of the cells of a checkpoint.
    """
    files = iter(cells)
    known: dict[tuple[str, str], list[_End]] = {}
    for place in expected:
        for of, asked in zip(place["cells"], requests, strict=True):
            end = _End(place, next(files), asked, of)
            known.setdefault((place["model"], of["task"]), []).append(end)

    def read(model: str, task: str) -> Trajectory | None:
        return _trajectory(known[model, task]) if (model, task) in known else None

    return lru_cache(maxsize=1)(read)


def _trajectory(ends: Sequence[_End]) -> Trajectory | None:
    found = [values_by_example(end.cell, end.requests, end.expected, is_only_in_cells) for end in ends]
    read = [columns for columns in found if columns is not None]
    if len(read) < len(ends):
        return None
    first = read[0]
    count = len(first["example"])
    task = str(ends[0].expected["task"])
    [named] = named_of({"task": np.full(count, task, object), **first}).values()
    return Trajectory(
        str(ends[0].place["model"]),
        task,
        pd.DataFrame([dict(end.place) for end in ends])[list(CHECKPOINT_COLUMNS)],
        {},
        named.names,
        named.clusters,
        {
            name: np.stack([columns[name][named.rows] for columns in read])
            for name in first
            if name not in EXAMPLES.columns
        },
    )
