"""Checks of sections that compare tasks of the study by name."""

from collections.abc import Mapping
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
    """Raise `ConfigError` unless all tasks generate texts, and have the classifier and the group."""
    for name in section["tasks"]:
        check_named(name, tasks, f"{where}.tasks")
        task = tasks[name]
        if task.kind.needs != "samples":
            raise ConfigError(f"{where}.tasks: {name} is of kind {task.kind.name}; allowed: generation.")
        classifiers = [one.name for one in classifiers_of(task.definition.get("texts", {}))]
        for key, found, allowed in (
            ("classifier", section["classifier"], classifiers),
            ("group", section["group"], list(task.definition.get("groups", {}))),
        ):
            if found not in allowed:
                raise ConfigError(
                    f"{where}.{key}: found {found!r}; allowed, of task {name}: "
                    f"{', '.join(allowed) or 'none'}{nearest(found, allowed) or '.'}"
                )


def check_named(name: str, tasks: Mapping[str, "Task"], where: str) -> None:
    """Raise `ConfigError` unless a task is in the study."""
    if name not in tasks:
        allowed = ", ".join(tasks) or "none"
        raise ConfigError(f"{where}: found {name!r}; allowed: {allowed}{nearest(name, list(tasks)) or '.'}")
