"""Convert trajectories to the input of `example_model`: the answers of all models, per task."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from ebbtide.statistics.panel import Trajectory, is_binary

NO_SIZE = "of unknown size"
NO_SLOPE = "with fewer than two known numbers of training tokens"


def example_tasks(
    trajectories: Iterable[Trajectory], wanted: Iterable[tuple[str, str]], parameters: str
) -> list[dict[str, Any]]:
    """Return the input of `example_model` for each (task, metric) of `wanted`.

    Models of unknown size and checkpoints without training tokens are left out, as in `regression`. So are
    models with a single token count, which have no slope. `left_out` counts these models by reason. If a
    metric is not 0/1, `note` gives the reason.
    """
    tasks: dict[tuple[str, str], dict[str, Any]] = {
        (task, metric): {
            "task": task,
            "metric": metric,
            "models": [],
            "sizes": [],
            "tokens": [],
            "answers": [],
        }
        | {"left_out": {}, "note": ""}
        for task, metric in wanted
    }
    for trajectory in trajectories:
        for (name, metric), task in tasks.items():
            if name == trajectory.task:
                task["note"] = task["note"] or _add(task, trajectory, metric, parameters)
    return list(tasks.values())


def _add(task: dict[str, Any], trajectory: Trajectory, metric: str, parameters: str) -> str:
    """Add the answers of a model. Returns why they cannot be added, or an empty string."""
    if metric not in trajectory.values:
        return f"no model of examples: {metric} has no value per example"
    values, _ = trajectory.counted(metric)
    if not is_binary(values):
        return f"no model of examples: {metric} is not a 0/1 metric"
    tokens = trajectory.checkpoints["tokens"].to_numpy(dtype=float)
    size = trajectory.parameters.get(parameters, 0)
    reason = NO_SIZE if size <= 0 else NO_SLOPE if len(np.unique(tokens[tokens > 0])) < 2 else ""
    if reason:
        task["left_out"][reason] = task["left_out"].get(reason, 0) + 1
    else:
        task["models"].append(trajectory.model)
        task["sizes"].append(size)
        task["tokens"].append(tokens[tokens > 0])
        task["answers"].append(values[tokens > 0].astype(np.int8))
    return ""
