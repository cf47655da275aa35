"""Checks of sections that compare tasks of the study by name."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ebbtide.errors import ConfigError, nearest
from ebbtide.tasks.generation.classifiers import classifiers_of

if TYPE_CHECKING:
    from ebbtide.tasks.definition import Task


def check_fairness(section: Mapping[str, Any], tasks: Mapping[str, "Task"], where: str) -> None:
    """Raise `ConfigError` unless all tasks of conditions are in the study, binary, and have the groups."""
    seen: dict[str, str] = {}
    for condition, names in section["conditions"].items():
        for name in names:
            check_named(name, tasks, f"{where}.conditions.{condition}")
            if name in seen:
                raise ConfigError(
                    f"{where}.conditions: {name} is in {seen[name]!r} and {condition!r}; allowed: in one."
                )
            seen[name] = condition
            task = tasks[name]
            if task.kind.name != "binary":
                key, kind = f"{where}.conditions.{condition}", task.kind.name
                raise ConfigError(f"{key}: task {name} is of kind {kind}; allowed: binary.")
            groups = task.definition.get("groups", {})
            wanted = {"group": section["group"]}
            if section["reference"]:
                wanted["reference.group"] = section["reference"]["group"]
            for key, group in wanted.items():
                if group not in groups:
                    raise ConfigError(
                        f"{where}.{key}: found {group!r}; allowed, as groups of task {name}: "
                        f"{', '.join(groups) or 'none'}{nearest(group, list(groups)) or '.'}"
                    )


def check_toxicity(section: Mapping[str, Any], tasks: Mapping[str, "Task"], where: str) -> None:
    """Raise `ConfigError` unless all tasks are of the right kind, and have the classifier and the groups."""
    for name in section["tasks"]:
        task = _of_kind("generation", name, tasks, f"{where}.tasks")
        classifiers = [one.name for one in classifiers_of(task.definition.get("texts", {}))]
        _check_one_of(section["classifier"], classifiers, f"{where}.classifier", name)
        _check_group(section["group"], task, f"{where}.group", name)
    continuations = section["continuations"] or {"tasks": []}
    for name in continuations["tasks"]:
        task = _of_kind("sequence", name, tasks, f"{where}.continuations.tasks")
        _check_group(section["group"], task, f"{where}.group", name)
        _check_group(continuations["group"], task, f"{where}.continuations.group", name)


def _of_kind(kind: str, name: str, tasks: Mapping[str, "Task"], where: str) -> "Task":
    """Return a task of the study. Raises `ConfigError` if it is not there, or of another kind."""
    check_named(name, tasks, where)
    if tasks[name].kind.name != kind:
        raise ConfigError(f"{where}: {name} is of kind {tasks[name].kind.name}; allowed: {kind}.")
    return tasks[name]


def _check_group(group: str, task: "Task", where: str, name: str) -> None:
    _check_one_of(group, list(task.definition.get("groups", {})), where, name)


def _check_one_of(found: str, allowed: Sequence[str], where: str, task: str) -> None:
    if found not in allowed:
        raise ConfigError(
            f"{where}: found {found!r}; allowed, of task {task}: "
            f"{', '.join(allowed) or 'none'}{nearest(found, list(allowed)) or '.'}"
        )


def check_named(name: str, tasks: Mapping[str, "Task"], where: str) -> None:
    """Raise `ConfigError` unless a task is in the study."""
    if name not in tasks:
        allowed = ", ".join(tasks) or "none"
        raise ConfigError(f"{where}: found {name!r}; allowed: {allowed}{nearest(name, list(tasks)) or '.'}")
