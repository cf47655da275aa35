"""From trajectories to what the model of single answers takes: the answers of all models, task by task."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from ebbtide.statistics.panel import Trajectory, is_binary


def example_tasks(
    trajectories: Iterable[Trajectory], wanted: Iterable[tuple[str, str]], parameters: str
) -> list[dict[str, Any]]:
    """Per task and metric of `wanted` the arguments of `example_model`.

    Models of unknown size, and checkpoints without training tokens, are left out, as in `regression`; so are
    models with a single number of tokens, which have no slope. A metric that is not 0 or 1 for every
    example leaves a `note`.
    """
    tasks: dict[tuple[str, str], dict[str, Any]] = {
        (task, metric): {"task": task, "metric": metric, "sizes": [], "tokens": [], "answers": [], "note": ""}
        for task, metric in wanted
    }
    for trajectory in trajectories:
        for (name, metric), task in tasks.items():
            if name == trajectory.task:
                task["note"] = task["note"] or _add(task, trajectory, metric, parameters)
    return list(tasks.values())


def _add(task: dict[str, Any], trajectory: Trajectory, metric: str, parameters: str) -> str:
    """Add the answers of a model; why it cannot be, if so."""
    if metric not in trajectory.values:
        return f"no model of examples: {metric} has no value for an example"
    values, _ = trajectory.counted(metric)
    if not is_binary(values):
        return f"no model of examples: {metric} is not right or wrong, example by example"
    tokens = trajectory.places["tokens"].to_numpy(dtype=float)
    size = trajectory.parameters.get(parameters, 0)
    if size > 0 and len(np.unique(tokens[tokens > 0])) > 1:
        task["sizes"].append(size)
        task["tokens"].append(tokens[tokens > 0])
        task["answers"].append(values[tokens > 0].astype(np.int8))
    return ""
