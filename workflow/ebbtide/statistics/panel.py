"""Trajectories: arrays of every example of a task at every checkpoint of a model."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.errors import CellError
from ebbtide.tables import EXAMPLES, read_footer, read_frame

CHECKPOINT_COLUMNS = ("checkpoint", "step", "tokens")


@dataclass(frozen=True)
class Trajectory:
    """One model on one task.

    Attributes
    ----------
    checkpoints
        T rows in training order: `checkpoint, step, tokens`; 0 tokens means untrained or unknown.
    parameters
        Counts `total, non_embedding, active, nominal`; 0 means unknown.
    examples
        Sorted names of the n examples.
    clusters
        (n,) integers; examples of the same cluster are dependent.
    values
        Metric → (T, n): the value of every example at every checkpoint. The metric is the mean over examples.
        Examples that a metric excludes (such as positives in a false-positive rate) are NaN throughout.
    """

    model: str
    task: str
    checkpoints: pd.DataFrame
    parameters: Mapping[str, int]
    examples: np.ndarray
    clusters: np.ndarray
    values: Mapping[str, np.ndarray]

    def trained(self) -> "Trajectory":
        """Return the trajectory without untrained checkpoints (step 0); unchanged if no step is above 0."""
        counts = (self.checkpoints["step"] > 0).to_numpy()
        if counts.all() or not counts.any():
            return self
        values = {name: of[counts] for name, of in self.values.items()}
        return replace(self, checkpoints=self.checkpoints[counts].reset_index(drop=True), values=values)

    def available(self, wanted: Sequence[str]) -> list[str]:
        """Return the wanted metrics that the task has, or else its first metric; empty if it has none."""
        return [name for name in wanted if name in self.values] or list(self.values)[:1]

    def counted(self, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """Return values (T, n') and consecutive cluster numbers (n',) of the examples in a metric."""
        values = self.values[metric]
        counts = ~np.isnan(values).any(axis=0)
        return values[:, counts], np.unique(self.clusters[counts], return_inverse=True)[1]


def is_binary(values: np.ndarray) -> bool:
    """Whether all values are 0 or 1."""
    return bool(np.isin(values, (0.0, 1.0)).all())


def read_trajectories(parts: Iterable[str | Path]) -> Iterator[Trajectory]:
    """Yield the trajectories of all models and tasks, with one model in memory at a time.

    Parameters
    ----------
    parts
        Paths of tables of examples (`tables.EXAMPLES`), one per checkpoint, grouped by model.

    Raises
    ------
    CellError
        A table is missing, damaged or of another kind, or the examples of a task differ between checkpoints.
    """
    described = ((path, _checkpoint(path)) for path in parts)
    for model, group in groupby(described, key=lambda described: described[1]["model"]):
        yield from _of_model(model, list(group))


def _of_model(model: str, parts: Sequence[tuple[str | Path, Mapping[str, Any]]]) -> Iterator[Trajectory]:
    ordered = sorted(parts, key=lambda part: (part[1]["tokens"], part[1]["step"], part[1]["checkpoint"]))
    checkpoints = pd.DataFrame([{name: row[name] for name in CHECKPOINT_COLUMNS} for _, row in ordered])
    parameters = {
        name.removeprefix("parameters_"): int(size)
        for name, size in ordered[-1][1].items()
        if name.startswith("parameters_")
    }
    tables: dict[str, list[pd.DataFrame]] = {}
    for path, _ in ordered:
        for task, rows in read_frame(path, EXAMPLES).groupby("task", sort=False):
            tables.setdefault(str(task), []).append(rows.sort_values("example", ignore_index=True))
    for task, found in tables.items():
        first = found[0]
        for (path, _), rows in zip(ordered, found, strict=False):
            if len(found) != len(ordered) or not rows["example"].equals(first["example"]):
                raise CellError(
                    f"{path}: the examples of task {task} differ between the checkpoints of {model}; "
                    f"{EXAMPLES.remedy}."
                )
        metrics = [c for c in first.columns if c not in EXAMPLES.columns and first[c].notna().any()]
        yield Trajectory(
            model,
            task,
            checkpoints,
            parameters,
            first["example"].to_numpy(),
            pd.factorize(first["cluster"])[0],
            {name: np.stack([rows[name].to_numpy(dtype=float) for rows in found]) for name in metrics},
        )


def _checkpoint(path: str | Path) -> Mapping[str, Any]:
    checkpoint: Mapping[str, Any] | None = read_footer(path, EXAMPLES).get("place")
    if checkpoint is None:
        raise CellError(f"{path}: the footer has no 'place'; {EXAMPLES.remedy}.")
    return checkpoint
