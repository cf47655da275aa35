"""Tables of fairness: one row per model, checkpoint and task, and their spread over draws of shots."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.errors import CellError, nearest
from ebbtide.statistics.fairness.rates import RATE_COLUMNS, RATES, Answers, mcnemar, rates_of
from ebbtide.statistics.panel import Trajectory

Key = tuple[str, str, str]  # model, checkpoint, task
PLACE = ("model", "checkpoint", "step", "tokens", "parameters_non_embedding")
COLUMNS = (
    *PLACE,
    *("condition", "task", "shots", "first", "second"),
    *RATE_COLUMNS,
    *("against", "common", "better", "worse", "p", "note"),
)
SPREAD = (
    *PLACE,
    *("condition", "first", "second", "tasks", "quantity", "mean", "sd", "lowest", "highest"),
)
MOST_LEVELS = 20  # in a message
QUANTITIES = ("accuracy", *(f"{rate}_ratio" for rate in RATES))
YES, NO = "false_positive_rate", "false_negative_rate"


class Groups:
    """The levels of a group of the examples of a task, from its frozen requests."""

    def __init__(self, requests: pd.DataFrame, group: str, reference: str | None) -> None:
        wanted = [f"group_{name}" for name in (group, reference) if name]
        columns = [str(column) for column in requests]
        for column in wanted:
            if column not in columns:
                found = ", ".join(c for c in columns if c.startswith("group_")) or "none"
                raise CellError(f"fairness: the requests have no column {column} (found: {found}).")
        rows = requests.drop_duplicates("example").set_index("example")
        self.level = rows[wanted[0]].astype(str)
        self.reference = rows[wanted[1]].astype(str) if reference else None

    def check(self, levels: Sequence[str], positive: str | None, task: str) -> None:
        """Raise `CellError` for a level that no example of the task has: it would count nothing."""
        for key, wanted, found in (
            *(("levels", level, self.level) for level in levels),
            *([("reference.positive", positive, self.reference)] if self.reference is not None else []),
        ):
            known = sorted(found.unique())
            if wanted not in known:
                raise CellError(
                    f"fairness.{key}: found {wanted!r}, which no example of task {task} has; allowed: "
                    f"{', '.join(known[:MOST_LEVELS])}{nearest(str(wanted), known) or '.'}"
                )


def answers_of(trajectory: Trajectory, groups: Groups) -> list[Answers]:
    """Return the answers of a model at each of its checkpoints.

    Raises `CellError` for a task that is not of kind binary.
    """
    missing = [name for name in (YES, NO) if name not in trajectory.values]
    if missing:
        raise CellError(
            f"fairness: task {trajectory.task} has no {missing[0]}; allowed: tasks of kind binary."
        )
    wrong_yes, wrong_no = trajectory.values[YES], trajectory.values[NO]
    truth = np.isnan(wrong_yes)
    level = groups.level.reindex(trajectory.examples).to_numpy(dtype=object)
    return [
        Answers(
            trajectory.examples,
            np.where(truth[t], wrong_no[t] == 0, wrong_yes[t] == 1),
            truth[t],
            level,
            trajectory.clusters,
        )
        for t in range(len(trajectory.checkpoints))
    ]


class Collected:
    """Collects the answers of all models and tasks of some conditions."""

    def __init__(
        self,
        conditions: Mapping[str, Sequence[str]],
        levels: tuple[str, str],
        groups: Mapping[str, Groups],
        reference: Mapping[str, str] | None,
        alpha: float,
    ) -> None:
        self._conditions, self._levels, self._alpha = conditions, levels, alpha
        self._groups, self._reference = groups, reference
        self._places: dict[tuple[str, str], dict[str, Any]] = {}
        self._answers: dict[Key, Answers] = {}
        self._of_reference: dict[str, Answers] = {}  # task
        for task, of_task in groups.items():
            of_task.check(levels, reference["positive"] if reference else None, task)

    @property
    def tasks(self) -> dict[str, str]:
        """Task → condition."""
        return {task: name for name, tasks in self._conditions.items() for task in tasks}

    def add(self, trajectory: Trajectory) -> None:
        """Take a model on a task, if it is one of a condition."""
        task = trajectory.task
        if task not in self.tasks:
            return
        records = trajectory.checkpoints.to_dict("records")
        checkpoints = [{str(name): value for name, value in row.items()} for row in records]
        for row, answers in zip(checkpoints, answers_of(trajectory, self._groups[task]), strict=True):
            place = {**row, "model": trajectory.model}
            place["parameters_non_embedding"] = trajectory.parameters["non_embedding"]
            self._places.setdefault((trajectory.model, row["checkpoint"]), place)
            self._answers[trajectory.model, row["checkpoint"], task] = answers
            self._take_reference(task, answers)

    def _take_reference(self, task: str, answers: Answers) -> None:
        given = self._groups[task].reference
        if self._reference is None or given is None or task in self._of_reference:
            return
        yes = given.reindex(answers.examples).to_numpy() == self._reference["positive"]
        self._of_reference[task] = Answers(
            answers.examples, yes, answers.truth, answers.level, answers.clusters
        )

    def rows(self, shots: Mapping[Key, str]) -> Iterator[dict[str, Any]]:
        """Yield the rows of fairness.tsv; `shots` are those that each cell used."""
        nobody = {"checkpoint": "", "step": 0, "tokens": 0, "parameters_non_embedding": 0}
        for task, answers in self._of_reference.items():
            name = self._reference["name"] if self._reference else ""
            yield self._row({**nobody, "model": name}, task, answers, "")
        for model, checkpoint in self._places:
            for task in self.tasks:
                if (model, checkpoint, task) in self._answers:
                    answers = self._answers[model, checkpoint, task]
                    used = shots.get((model, checkpoint, task), "")
                    row = self._row(self._places[model, checkpoint], task, answers, used)
                    yield row | self._against(model, checkpoint, task)

    def _row(self, place: Mapping[str, Any], task: str, answers: Answers, shots: str) -> dict[str, Any]:
        first, second = self._levels
        empty = dict.fromkeys(COLUMNS, np.nan) | {"against": "", "note": ""}
        found = rates_of(answers, self._levels, self._alpha)
        note = "; ".join(
            f"no example is {level}" for level in self._levels if not (answers.level == level).any()
        )
        return {
            **empty,
            **{name: place[name] for name in PLACE},
            **{"condition": self.tasks[task], "task": task, "shots": shots},
            **{"first": first, "second": second, "note": note},
            **found,
        }

    def _against(self, model: str, checkpoint: str, task: str) -> dict[str, Any]:
        """Compare a task with that of the same place in the first condition."""
        first, *_ = self._conditions.values()
        place = list(self._conditions[self.tasks[task]]).index(task)
        if task in first or place >= len(first) or (model, checkpoint, first[place]) not in self._answers:
            return {}
        before, after = (self._answers[model, checkpoint, name] for name in (first[place], task))
        return {"against": first[place], **mcnemar(before, after)}


def fairness_table(collected: Collected, shots: Mapping[Key, str]) -> pd.DataFrame:
    """Return fairness.tsv: rates and ratios of each task, and of the reference; columns `COLUMNS`."""
    return pd.DataFrame(list(collected.rows(shots)), columns=list(COLUMNS))


def spread_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return fairness_spread.tsv: mean and spread over the tasks of a condition; columns `SPREAD`."""
    rows = []
    keys = [*PLACE, "condition", "first", "second"]
    for values, group in table.groupby(keys, sort=False, dropna=False):
        for quantity in QUANTITIES:
            known = group[quantity].dropna()
            rows.append(
                {
                    **dict(zip(keys, values, strict=True)),
                    **{"tasks": len(known), "quantity": quantity},
                    "mean": known.mean() if len(known) else np.nan,
                    "sd": known.std(ddof=1) if len(known) > 1 else np.nan,
                    "lowest": known.min() if len(known) else np.nan,
                    "highest": known.max() if len(known) else np.nan,
                }
            )
    return pd.DataFrame(rows, columns=list(SPREAD))


def shots_used(
    footers: Iterable[tuple[Key, Mapping[str, Any], Mapping[str, Any]]],
) -> dict[Key, str]:
    """Return what each cell used of the shots of its task, such as `24 of 50`.

    Takes model, checkpoint and task, the cell's footer, and the task's definition.
    """
    found = {}
    for key, footer, definition in footers:
        k = (definition.get("few_shot") or {}).get("k", 0)
        kept = footer.get("parts", {}).get("kept_least", k)
        found[key] = f"{kept} of {k}" if kept != k else str(k)
    return found
