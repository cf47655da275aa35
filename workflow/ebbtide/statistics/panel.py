"""Trajectories: every example of a task at every checkpoint of a model, as arrays."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.errors import CellError
from ebbtide.tables import EXAMPLES, read_footer, read_frame

PLACE = ("checkpoint", "step", "tokens")


@dataclass(frozen=True)
class Trajectory:
    """One model on one task.

    Attributes
    ----------
    places
        T rows in the order of training: `checkpoint, step, tokens` (tokens 0: untrained, or unknown).
    parameters
        `total, non_embedding, active, nominal`; 0 is unknown.
    examples
        Names of the n examples, sorted.
    clusters
        (n,) whole numbers; examples of one cluster are not independent of each other.
    values
        Metric → (T, n): the value of every example at every checkpoint. The mean over examples is the metric.
        Examples that a metric leaves out (the positives, of a false positive rate) are NaN throughout.
    """

    model: str
    task: str
    places: pd.DataFrame
    parameters: Mapping[str, int]
    examples: np.ndarray
    clusters: np.ndarray
    values: Mapping[str, np.ndarray]

    def trained(self) -> "Trajectory":
        """Without untrained checkpoints (step 0), whose answers are chance; all, if no step is above 0."""
        counts = (self.places["step"] > 0).to_numpy()
        if counts.all() or not counts.any():
            return self
        values = {name: of[counts] for name, of in self.values.items()}
        return replace(self, places=self.places[counts].reset_index(drop=True), values=values)

    def watched(self, wanted: Sequence[str]) -> list[str]:
        """Those of the wanted metrics that the task has; else the first it has; none if it has none."""
        return [name for name in wanted if name in self.values] or list(self.values)[:1]

    def counted(self, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """Values (T, n') and clusters (n',), numbered without gaps, of examples that count for a metric."""
        values = self.values[metric]
        counts = ~np.isnan(values).any(axis=0)
        return values[:, counts], np.unique(self.clusters[counts], return_inverse=True)[1]


def is_binary(values: np.ndarray) -> bool:
    """Whether all values are 0 or 1."""
    return bool(np.isin(values, (0.0, 1.0)).all())


def read_trajectories(parts: Iterable[str | Path]) -> Iterator[Trajectory]:
    """Trajectories of all models and tasks, one model in memory at a time.

    Parameters
    ----------
    parts
        Tables of examples (`tables.EXAMPLES`), one per checkpoint, those of a model next to each other.

    Raises
    ------
    CellError
        A table is missing, damaged or foreign, or a task does not have the same examples at every checkpoint.
    """
    described = ((path, _place(path)) for path in parts)
    for model, group in groupby(described, key=lambda described: described[1]["model"]):
        yield from _of_model(model, list(group))


def _of_model(model: str, parts: Sequence[tuple[str | Path, Mapping[str, Any]]]) -> Iterator[Trajectory]:
    ordered = sorted(parts, key=lambda part: (part[1]["tokens"], part[1]["step"], part[1]["checkpoint"]))
    places = pd.DataFrame([{name: place[name] for name in PLACE} for _, place in ordered])
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
                    f"{path}: task {task} does not have the same examples at every checkpoint of {model}; "
                    f"{EXAMPLES.remedy}."
                )
        metrics = [c for c in first.columns if c not in EXAMPLES.columns and first[c].notna().any()]
        yield Trajectory(
            model,
            task,
            places,
            parameters,
            first["example"].to_numpy(),
            pd.factorize(first["cluster"])[0],
            {name: np.stack([rows[name].to_numpy(dtype=float) for rows in found]) for name in metrics},
        )


def _place(path: str | Path) -> Mapping[str, Any]:
    place: Mapping[str, Any] | None = read_footer(path, EXAMPLES).get("place")
    if place is None:
        raise CellError(f"{path}: the footer has no 'place'; {EXAMPLES.remedy}.")
    return place
