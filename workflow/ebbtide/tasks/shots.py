"""Tasks that differ in their few-shot examples only, by their definitions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ebbtide.files import digest
from ebbtide.schema import check
from ebbtide.tasks.definition import CATALOGUE, REQUEST_KEYS, Task, read_definition, task_schema

NONE = "0"  # no shots


@dataclass(frozen=True)
class Shown:
    """A task without its few-shot examples, by the name of the task that has none, and their number.

    `shots` is a number as text, `prefix` for a fixed text, or `own` where lm-evaluation-harness decides.
    """

    asked: str
    shots: str


def shots_of(tasks: Mapping[str, Task], others: Iterable[str] = ()) -> dict[str, Shown]:
    """For each task, the task without few-shot examples, and their number.

    Two tasks are variants of one if their definitions agree in all that makes requests but the shots (of
    lm-evaluation-harness: but `num_fewshot`). The name is that of the one without shots, else of the first.

    Parameters
    ----------
    tasks
        By name.
    others
        Names of imported results; those of the catalogue have definitions, and of the rest nothing is known.
    """
    defined = {name: task.definition for name, task in tasks.items()}
    for name in others:
        file = CATALOGUE / f"{name}.yaml"
        if (
            name not in defined and file.is_file()
        ):  # checked alone: what it would be scored with may not be there
            defined[name] = check(read_definition(file), task_schema(), str(file))
    shots = {name: _shots(definition) for name, definition in defined.items()}
    groups: dict[str, list[str]] = {}
    for name, definition in defined.items():
        groups.setdefault(_without_shots(definition), []).append(name)
    found: dict[str, Shown] = {}
    for names in groups.values():
        first = next((name for name in names if shots[name] == NONE), names[0])
        found |= {name: Shown(first, shots[name]) for name in names}
    return found


def imported_tasks(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names that rows of `imported` give to tasks."""
    return list(dict.fromkeys(name for row in rows for name in row.get("tasks", {}).values()))


def _shots(definition: Mapping[str, Any]) -> str:
    if "lm_eval" in definition["source"]:
        return str(definition["source"].get("num_fewshot", "own"))
    few_shot = definition.get("few_shot")
    return NONE if few_shot is None else str(few_shot.get("k", "prefix"))


def _without_shots(definition: Mapping[str, Any]) -> str:
    source = {k: v for k, v in definition["source"].items() if k != "num_fewshot"}
    rest = {key: definition.get(key, absent) for key, absent in REQUEST_KEYS.items() if key != "few_shot"}
    return digest({"source": source, "fields": definition["fields"], **rest})
