"""The metrics by which a study looks at each of its tasks."""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from ebbtide.errors import ConfigError, nearest
from ebbtide.metrics.direction import is_of_group
from ebbtide.metrics.registry import METRICS
from ebbtide.tasks.generation.pipelines import without_filter


def main_metric(found: Iterable[str]) -> str:
    """Return the main metric among those that a task has: of its kind, by the order of the register.

    The first of each kind is a mean over examples, so that tables of metrics and of examples have the same.
    Of several pipelines of filters, the first; of metrics that are not registered, the first. Raises
    `ValueError` if there is none.
    """
    names = _overall(dict.fromkeys(found))
    names.sort(key=lambda name: without_filter(name) != name)  # first those without a filter
    registered = [(m, name) for m in METRICS.values() for name in names if without_filter(name) == m.name]
    main = [name for m, name in registered if m.main]
    for name in (*main, *(name for _, name in registered), *names):
        return name
    raise ValueError("a task without a metric has no main metric")


def followed_metrics(found: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Return the wanted metrics among those that a task has, or else its main one; empty if it has none."""
    names = list(found)
    return [name for name in wanted if name in names] or ([main_metric(names)] if names else [])


def metrics_by_task(metrics: pd.DataFrame) -> dict[str, list[str]]:
    """Return the metrics that each task has, without those of single groups, in the order of the table."""
    pairs = metrics[["task", "metric"]].drop_duplicates().groupby("task", sort=False)["metric"]
    return {str(task): _overall(names) for task, names in pairs}


def chosen_metrics(
    metrics: pd.DataFrame, metric: str | None = None, metrics_of: Mapping[str, Sequence[str]] | None = None
) -> dict[str, list[str]]:
    """Return the metrics of each task that a study asks for, whether or not the task has them.

    Parameters
    ----------
    metrics
        Table of `tables.METRICS`.
    metric, metrics_of
        `regression.metric` and `regression.metrics` of the study. Without them, the main metric of each task.

    Raises
    ------
    ConfigError
        `metrics_of` names a task that is not in `metrics`.
    """
    found, metrics_of = metrics_by_task(metrics), metrics_of or {}
    for task in metrics_of:
        if task not in found:
            raise ConfigError(
                f"regression.metrics: found {task!r}, which is not a task of the metrics; "
                f"allowed: {', '.join(found)}{nearest(task, list(found)) or '.'}"
            )
    return {task: list(metrics_of.get(task, [metric or main_metric(names)])) for task, names in found.items()}


def drawn_metrics(
    metrics: pd.DataFrame, metric: str | None = None, metrics_of: Mapping[str, Sequence[str]] | None = None
) -> dict[str, list[str]]:
    """Return the metrics of each task that figures show: those chosen that it has, or its main one."""
    pairs = metrics.loc[metrics["value"].notna(), ["task", "metric"]].drop_duplicates()
    found = {str(task): list(names) for task, names in pairs.groupby("task", sort=False)["metric"]}
    return {
        task: [name for name in chosen if name in found[task]] or [main_metric(found[task])]
        for task, chosen in chosen_metrics(metrics, metric, metrics_of).items()
        if task in found
    }


def _overall(names: Iterable[str]) -> list[str]:
    """Without the metrics of single groups (`accuracy[part=1]`), unless a task has no others."""
    names = list(names)
    return [name for name in names if not is_of_group(name)] or names
