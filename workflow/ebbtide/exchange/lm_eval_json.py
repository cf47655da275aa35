"""Results of lm-evaluation-harness, as rows of the metrics table.

Two shapes: version 0.3 (`"acc"`, `"acc_stderr"`) and since 0.4 (`"acc,none"`, `"acc_stderr,none"`, where
`none` is the filter). A file is one model at one revision, with any number of tasks and groups of tasks.
Version 0.5 calls the tasks of a group `group::task`, and has formats of a task.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebbtide.errors import CellError
from ebbtide.exchange.names import KIND, ours
from ebbtide.exchange.runs import Resolved, resolve, run_of
from ebbtide.exchange.specification import CheckpointRow, Specification, sizes
from ebbtide.files import read_json
from ebbtide.metrics.direction import is_accuracy
from ebbtide.tasks.generation.pipelines import NONE, of_filter

OWN = "ebbtide"  # key of the block that Ebbtide adds to the files it exports
_NO_METRICS = ("name", "alias", "sample_len", "sample_count", "samples", " ")


@dataclass(frozen=True)
class Measured:
    """One metric of one task of a results file."""

    task: str  # as `task_names` calls it
    metric: str  # our name
    logged: str  # lm-eval's name: `acc`, or `exact_match,strict-match` with a filter other than none
    key: str  # of the value in the file
    value: float
    stderr: float  # NaN is unknown
    n: int  # 0 is unknown
    chance: float  # NaN is unknown
    shots: int | None


@dataclass(frozen=True)
class Results:
    """A results file."""

    source: str
    document: Mapping[str, Any]
    measured: tuple[Measured, ...]
    skipped: tuple[str, ...] = ()  # results.task.key of values that are not numbers

    @property
    def names(self) -> dict[str, str]:
        """Return names of tasks in the file → their names here."""
        return task_names(self.document)

    def parts(self) -> dict[str, frozenset[str]]:
        """Return groups of tasks that have a result of their own → their parts, directly or not."""
        names = self.names
        listed = {
            names.get(str(group), str(group)): [names.get(str(part), str(part)) for part in parts]
            for group, parts in _get(self.document, "group_subtasks").items()
            if isinstance(parts, list)
        }
        measured = {m.task for m in self.measured}

        def below(group: str, seen: frozenset[str]) -> frozenset[str]:
            found = set(listed.get(group, ())) - seen
            return frozenset(found).union(*(below(name, seen | found) for name in found))

        found = {group: below(group, frozenset({group})) for group in listed if group in measured}
        return {group: parts for group, parts in found.items() if parts}

    def examples(self, task: str) -> int:
        """Return the number of examples that were scored, of a task by its name in the file; 0 is unknown."""
        return _examples(self.document, task, _get(self.document, "results", task))

    def definition(self, task: str) -> dict[str, Any]:
        """The definition of a task, in a file exported by Ebbtide; else empty."""
        return dict(_get(self.document, "configs", task, "metadata", "definition"))

    def checkpoint(self, given: Specification) -> Resolved:
        """The checkpoint that was scored; a file exported by Ebbtide contains it."""
        own = self.document.get(OWN)
        if isinstance(own, Mapping):
            row = own_checkpoint(own, self.source)
            return Resolved(row, "")
        return resolve(run_of(self.document, self.source), given)


def read_results(path: str | Path) -> Results:
    """Read a results file of version 0.3, 0.4 or 0.5.

    Raises `CellError` if it is not JSON, has no results, or a value is not a finite number.
    """
    document = read_json(path, CellError)
    results = document.get("results")
    if not isinstance(results, Mapping) or not results:
        found = ", ".join(document) or "nothing"
        raise CellError(
            f"{path}: results: missing or empty (found: {found}); expected tasks and their metrics."
        )
    groups = document.get("groups")
    tasks = {**(groups if isinstance(groups, Mapping) else {}), **results}
    skipped: list[str] = []
    names = task_names(document)
    measured = [
        m
        for task, values in tasks.items()
        for m in _measured(document, task, values, str(path), name=names[task], skipped=skipped)
    ]
    if not measured:
        texts = f" that is a number ({skipped[0]} is not)" if skipped else ""
        raise CellError(f"{path}: results: no task has a metric{texts}.")
    return Results(str(path), document, tuple(measured), tuple(skipped))


def task_names(document: Mapping[str, Any]) -> dict[str, str]:
    """Return names of tasks in a results file → their names here.

    A task of a group (`group::task`) loses the group, unless another task then has its name. A format
    (`--tasks task@mcqa`) is part of the name, because the file does not name the task by it.
    """
    listed = [str(task) for task in {**_get(document, "groups"), **_get(document, "results")}]
    bare = {task: task.rpartition("::")[2] for task in listed}
    alike = Counter(bare.values())
    found = {}
    for task in listed:
        form = _get(document, "configs", task).get("_formats_selection")
        name = bare[task] if alike[bare[task]] == 1 else task
        suffix = f"@{form}" if form else ""
        found[task] = name.removesuffix(suffix) + suffix
    return found


def own_checkpoint(own: Mapping[str, Any], source: str) -> CheckpointRow:
    """The checkpoint in the block of an exported file. Raises `CellError` if a key is missing."""
    try:
        return CheckpointRow(
            str(own["model"]),
            str(own["checkpoint"]),
            int(own["step"]),
            int(own["tokens"]),
            sizes(own["parameters"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CellError(f"{source}: {OWN}: damaged ({error!r}). Export it again.") from None


def _measured(
    document: Mapping[str, Any], task: str, values: Any, source: str, *, name: str, skipped: "list[str]"
) -> "list[Measured]":
    if not isinstance(values, Mapping):
        raise CellError(f"{source}: results.{task}: found {values!r}, expected metrics and their values.")
    config = _get(document, "configs", task)
    kind = str(_get(config, "metadata").get("kind") or KIND.get(str(config.get("output_type")), ""))
    own = _get(document, OWN)
    measured = []
    for key, value in values.items():
        metric, filter_ = _split(key)
        if metric in _NO_METRICS or metric.endswith("_stderr"):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            if filter_:
                skipped.append(f"results.{task}.{key}")
            continue
        if not math.isfinite(value):
            raise CellError(
                f"{source}: results.{task}.{key}: found {value}, allowed: a finite number. To import other "
                "tasks only, list them under tasks."
            )
        filtered = filter_ not in ("", "none")
        called = of_filter(ours(metric, kind=kind, task="" if own else name), filter_ or NONE)
        measured.append(
            Measured(
                task=name,
                metric=called,
                logged=key if filtered else metric,
                key=key,
                value=float(value),
                stderr=_number_or_nan(
                    values.get(f"{metric}_stderr,{filter_}" if filter_ else f"{metric}_stderr")
                ),
                n=int(_get(own, "n", task).get(called, _examples(document, task, values))),
                chance=_number_or_nan(_get(own, "chance", task).get(called, _chance(config, called))),
                shots=_shots(document, task),
            )
        )
    return measured


def _split(key: str) -> tuple[str, str]:
    """Metric and filter. The level of a group may contain a comma: `acc[part=1,2],none`."""
    before, comma, after = key.rpartition(",")
    return (before, after) if comma and "]" not in after else (key, "")


def _number_or_nan(value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number else math.nan


def _chance(config: Mapping[str, Any], metric: str) -> float | None:
    """The chance level of an accuracy of a task whose choices are listed in its config."""
    choices = config.get("doc_to_choice")
    if not isinstance(choices, list) or len(choices) < 2 or config.get("output_type") != "multiple_choice":
        return None
    return 1 / len(choices) if is_accuracy(metric) else None


def _examples(document: Mapping[str, Any], task: str, values: Mapping[str, Any]) -> int:
    found = _get(document, "n-samples", task).get("effective", values.get("sample_len"))
    return found if isinstance(found, int) and found > 0 else 0


def _shots(document: Mapping[str, Any], task: str) -> int | None:
    found = _get(document, "n-shot").get(task, _get(document, "config").get("num_fewshot"))
    return found if isinstance(found, int) else None


def _get(document: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """The mapping at these keys; empty if there is none."""
    found: Any = document
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}
