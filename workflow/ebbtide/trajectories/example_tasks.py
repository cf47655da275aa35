"""From trajectories to what the model of single answers takes: the answers of all models, task by task."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ebbtide.trajectories.panel import Trajectory, is_binary


def example_tasks(
    trajectories: Iterable[Trajectory], metrics: Mapping[str, str], parameters: str
) -> list[dict[str, Any]]:
    """Per task of `metrics` (task → metric) the arguments of `example_model`.

    Models of unknown size, and checkpoints without training tokens, are left out, as in `regression`; so are
    models with a single number of tokens, which have no slope. A metric that is not 0 or 1 for every
    example leaves a `note`.
    """
    tasks: dict[str, dict[str, Any]] = {
        task: {"task": task, "metric": metric, "sizes": [], "tokens": [], "answers": [], "note": ""}
        for task, metric in metrics.items()
    }
    for trajectory in trajectories:
        task = tasks.get(trajectory.task)
        if task is None:
            continue
        if task["metric"] not in trajectory.values:
            task["note"] = f"no model of examples: {task['metric']} has no value for an example"
            continue
        values, _ = trajectory.counted(task["metric"])
        if not is_binary(values):
            task["note"] = f"no model of examples: {task['metric']} is not right or wrong, example by example"
            continue
        tokens = trajectory.places["tokens"].to_numpy(dtype=float)
        size = trajectory.parameters.get(parameters, 0)
        if size > 0 and len(np.unique(tokens[tokens > 0])) > 1:
            task["sizes"].append(size)
            task["tokens"].append(tokens[tokens > 0])
            task["answers"].append(values[tokens > 0].astype(np.int8))
    return list(tasks.values())
