"""Trajectories: arrays of every example of a task at every checkpoint of a model."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ebbtide.errors import CellError
from ebbtide.grid import Checkpoint, Model
from ebbtide.metrics.chosen import followed_metrics
from ebbtide.notices import Notice, listed
from ebbtide.statistics.example_tables import Named, Part, Tables, read_parts
from ebbtide.tables import EXAMPLES

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
        """Return the wanted metrics that the task has, or else its main one; empty if it has none."""
        return followed_metrics(list(self.values), wanted)

    def counted(self, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """Return values (T, n') and consecutive cluster numbers (n',) of the examples in a metric."""
        values = self.values[metric]
        counts = ~np.isnan(values).any(axis=0)
        return values[:, counts], np.unique(self.clusters[counts], return_inverse=True)[1]


def in_training_order(rows: pd.DataFrame) -> pd.DataFrame:
    """Sort checkpoints of a model by training tokens, or by steps if those of a trained one are unknown."""
    known = ((rows["tokens"] > 0) | (rows["step"] == 0)).all()
    return rows.sort_values((["tokens"] if known else []) + ["step", "checkpoint"], kind="stable")


def trained_in_order(rows: pd.DataFrame) -> pd.DataFrame:
    """Return checkpoints of a model in the order of training; if some are trained, these only."""
    ordered = in_training_order(rows)
    later = (ordered["tokens"] > 0) | (ordered["step"] > 0)
    return ordered[later] if later.any() else ordered


def is_binary(values: np.ndarray) -> bool:
    """Whether all values are 0 or 1."""
    return bool(np.isin(values, (0.0, 1.0)).all())


def read_trajectories(parts: Iterable[str | Path | Part]) -> Iterator[Trajectory]:
    """Yield the trajectories of all models and tasks, with one model in memory at a time.

    A checkpoint may have several tables. A task that some checkpoints lack has a trajectory of the others. If
    its texts differ between checkpoints, which only happens in imported results, the trajectory has the
    checkpoints that share theirs with most others; `not_compared` lists the rest.

    Parameters
    ----------
    parts
        Tables of examples (`tables.EXAMPLES`), as paths or as read by `read_parts`.

    Raises
    ------
    CellError
        A table is missing, damaged or of another kind, or the examples of a task differ between checkpoints.
    """
    read = [one for part in parts for one in ([part] if isinstance(part, Part) else read_parts([part]))]
    tables = Tables()
    for model, of_model in _by_model(read).items():
        yield from _of_model(model, of_model, tables)


def models_of(parts: Iterable[Part]) -> dict[str, Model]:
    """Return models and checkpoints of tables of examples, in the order of training; without weights."""
    found = {}
    for model, of_model in _by_model(parts).items():
        checkpoints = [
            Checkpoint(model, str(row["checkpoint"]), int(row["step"]), int(row["tokens"]), "", "", "", 0, "")
            for row in _ordered(of_model).to_dict("records")
        ]
        found[model] = Model(model, tuple(checkpoints))
    return found


def having_examples(parts: Iterable[Part]) -> set[tuple[str, str, str]]:
    """Return model, checkpoint and task of all tables of examples."""
    return {(str(p.place["model"]), str(p.place["checkpoint"]), task) for p in parts for task in p.requests}


def not_compared(parts: Iterable[Part]) -> list[Notice]:
    """Return the checkpoints that `read_trajectories` leaves out, because their examples are others."""
    notices = []
    for model, of_model in _by_model(parts).items():
        order = list(_ordered(of_model)["checkpoint"])
        tasks = dict.fromkeys(task for part in of_model for task in part.requests)
        for task in tasks:
            having = [part for part in of_model if task in part.requests]
            having.sort(key=lambda part: order.index(part.place["checkpoint"]))
            kept = _most_common([part.texts(task) for part in having])
            left = [part for part in having if part.texts(task) != kept]
            if left:
                notices.append(_left_out(model, task, left, [p for p in having if p.texts(task) == kept]))
    return notices


def _left_out(model: str, task: str, left: Sequence[Part], kept: Sequence[Part]) -> Notice:
    names = listed(f"{p.place['checkpoint']} ({p.requests[task]['examples']})" for p in left)
    others = f"{len(kept)} checkpoints" if len(kept) > 1 else str(kept[0].place["checkpoint"])
    number = kept[0].requests[task]["examples"]
    return Notice(
        "warning",
        "not_compared",
        f"The examples of {names} are not the {number} of {others}, so alarms, "
        "trends and forgetting leave them out.",
        "Evaluate all checkpoints on the same examples with the same prompts (--limit, --num_fewshot), or "
        "import only those that are.",
        model=model,
        checkpoint=str(left[0].place["checkpoint"]) if len(left) == 1 else "",
        task=task,
        count=len(left),
    )


def _by_model(parts: Iterable[Part]) -> dict[str, list[Part]]:
    models: dict[str, list[Part]] = {}
    for part in parts:
        models.setdefault(str(part.place["model"]), []).append(part)
    return models


def _ordered(parts: Sequence[Part]) -> pd.DataFrame:
    """One row per checkpoint of a model, in the order of training: `checkpoint`, `step`, `tokens`, sizes.

    Of several tables of one checkpoint, some may not know its tokens or sizes (0).
    """
    rows = pd.DataFrame([dict(part.place) for part in parts]).groupby("checkpoint", sort=False).max()
    return in_training_order(rows.reset_index()).reset_index(drop=True)


def _most_common(texts: Sequence[str]) -> str:
    """The value that occurs most often; of several, the one that occurs last."""
    return max(texts, key=lambda one: (texts.count(one), len(texts) - texts[::-1].index(one)))


def _of_model(model: str, parts: Sequence[Part], tables: Tables) -> Iterator[Trajectory]:
    ordered = _ordered(parts)
    parameters = {
        name.removeprefix("parameters_"): int(ordered[name].max())
        for name in map(str, ordered)
        if name.startswith("parameters_")
    }
    found: dict[str, dict[str, _Values]] = {}  # task → checkpoint → what is known of it
    for part in parts:
        checkpoint = str(part.place["checkpoint"])
        tasks, metrics = tables.read(part)
        for task, named in tasks.items():
            of_task = found.setdefault(task, {})
            if checkpoint in of_task:
                raise CellError(
                    f"{part.path} and {of_task[checkpoint].part.path}: two results for model {model}, "
                    f"checkpoint {checkpoint}, task {task}; import or score only one."
                )
            of_task[checkpoint] = _Values(part, named, {n: v[named.rows] for n, v in metrics.items()})
    for task in list(found):
        of_task = found.pop(task)
        having = ordered[ordered["checkpoint"].isin(of_task)]
        kept = _most_common([of_task[name].part.texts(task) for name in having["checkpoint"]])
        same = [of_task[name].part.texts(task) == kept for name in having["checkpoint"]]
        checkpoints = having[same].reset_index(drop=True)[list(CHECKPOINT_COLUMNS)]
        yield _trajectory(
            model, task, checkpoints, parameters, [of_task[name] for name in checkpoints["checkpoint"]]
        )


class _Values(NamedTuple):
    """What a table knows of a task."""

    part: Part
    named: Named
    metrics: Mapping[str, np.ndarray]


def _trajectory(
    model: str,
    task: str,
    checkpoints: pd.DataFrame,
    parameters: Mapping[str, int],
    found: Sequence[_Values],
) -> Trajectory:
    first = found[0]
    for part, named, _ in found:
        if named is not first.named and not np.array_equal(named.names, first.named.names):
            raise CellError(
                f"{part.path}: the examples of task {task} differ between the checkpoints of {model}; "
                f"{EXAMPLES.remedy}."
            )
    missing = np.full(len(first.named.names), np.nan)
    return Trajectory(
        model,
        task,
        checkpoints,
        parameters,
        first.named.names,
        first.named.clusters,
        {
            name: np.stack([one.metrics.get(name, missing) for one in found])
            for name, values in first.metrics.items()
            if not np.isnan(values).all()
        },
    )
