"""Chance levels of tasks of the catalogue (workflow/tasks), by their definitions."""

import math
from functools import cache

from ebbtide.metrics.direction import is_accuracy
from ebbtide.tasks.definition import CATALOGUE, read_definition


def chance_of_task(task: str, metric: str) -> float:
    """Chance level of an accuracy of a task of the catalogue, if its definition contains it; else NaN.

    That is `chance`, or 1/K if `fields.choices` lists K choices.
    """
    return _chance(task) if is_accuracy(metric) else math.nan


@cache
def _chance(task: str) -> float:
    file = CATALOGUE / f"{task}.yaml"
    if task.startswith("_") or not file.is_file():
        return math.nan
    definition = read_definition(file)
    if "chance" in definition:
        return float(definition["chance"])
    choices = definition.get("fields", {}).get("choices")
    single = definition.get("kind", "choice") in ("choice", "binary")
    return 1 / len(choices) if single and isinstance(choices, list) and len(choices) > 1 else math.nan
