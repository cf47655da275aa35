"""Tasks that differ only in their few-shot examples, by their definitions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ebbtide.files import digest
from ebbtide.tasks.definition import CATALOGUE, REQUEST_KEYS, Task, check_definition, read_definition

NONE = "0"  # no shots


@dataclass(frozen=True)
class Variant:
    """A task as a variant of another: the name of the task without few-shot examples, and their number.

    `shots` is a number as text, `prefix` for a fixed text, or `own` if lm-evaluation-harness decides.
    """

    base: str
    shots: str


def shots_of(tasks: Mapping[str, Task], others: Iterable[str] = ()) -> dict[str, Variant]:
    """Return the variant that each task is: its task without few-shot examples, and their number.

    Tasks are variants of each other if their definitions differ only in `few_shot` (in lm-eval,
    in `num_fewshot`) among the keys that change requests. The base is the one without shots, else the first.

    Parameters
    ----------
    tasks
        Tasks of the study, by name.
    others
        Names of imported tasks. Those that are not in the catalogue have no definition and are left out.
    """
    defined = {name: task.definition for name, task in tasks.items()}
    for name in others:
        file = CATALOGUE / f"{name}.yaml"
        # Only checked against the schema: files that scoring would need may be missing.
        if name not in defined and file.is_file():
            defined[name] = check_definition(read_definition(file), file)
    shots = {name: _shots(definition) for name, definition in defined.items()}
    groups: dict[str, list[str]] = {}
    for name, definition in defined.items():
        groups.setdefault(_without_shots(definition), []).append(name)
    found: dict[str, Variant] = {}
    for names in groups.values():
        first = next((name for name in names if shots[name] == NONE), names[0])
        found |= {name: Variant(first, shots[name]) for name in names}
    return found


def imported_tasks(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of the tasks in rows of `imported`."""
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
