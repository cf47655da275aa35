"""The pipelines of filters of a task of lm-eval that generates text, and the metric after each.

In version 0.4, `filter_list` is followed by the metrics of the task. In version 0.5, each entry is a scorer,
with metrics of its own.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ebbtide.errors import TaskError
from ebbtide.tasks.generation.filters import FILTERS
from ebbtide.tasks.generation.pipelines import NONE
from ebbtide.tasks.lm_eval.harness import module, scorers_of

METRIC = "exact_match"
LAST, NOOP = "take_first", "noop"


class Pipeline(NamedTuple):
    """Name and filters of a pipeline, and the options of `exact_match` after it."""

    name: str
    filters: list[dict[str, Any]]
    options: dict[str, Any]


def pipelines_of_task(task: Any, where: str) -> list[Pipeline]:
    """Return the pipelines of a built task.

    Raises `TaskError` for a metric or filter that does not run here.
    """
    found = (_of_metrics if scorers_of(task) is None else _of_scorers)(task, where)
    for pipeline in found:
        _check(pipeline, task.config.repeats, f"{where}: filter_list: {pipeline.name}")
    return found


def _of_metrics(task: Any, where: str) -> list[Pipeline]:
    """Pipelines of version 0.4."""
    own = module("lm_eval.api.metrics", where)
    metrics = [
        (name, function, task._aggregation_list[name]) for name, function in task._metric_fn_list.items()
    ]
    _check_metrics(metrics, own.exact_match_fn, own.mean, where)
    options = _options(task._metric_fn_kwargs[METRIC])
    listed = task.config.filter_list or [{"name": NONE, "filter": [{"function": LAST}]}]
    found = [Pipeline(str(one["name"]), [dict(each) for each in one["filter"]], options) for one in listed]
    for name, filters, _ in found:
        names = [each["function"] for each in filters]
        # Others see letters, not texts, after it, and without it the metric would get a list.
        if names[-1:] != [LAST] or LAST in names[:-1]:
            raise TaskError(
                f"{where}: filter_list: {name}: allowed: the filter {LAST} once, as the last one."
            )
    return found


def _of_scorers(task: Any, where: str) -> list[Pipeline]:
    """Pipelines of version 0.5, whose filters always give a list. Of one answer, it reports `exact_match`."""
    kind = module("lm_eval.scorers", where).GenScorer
    own, mean = module("lm_eval.api.metrics.generation", where), module("lm_eval.api.metrics", where).mean
    found = []
    for scorer, given in zip(scorers_of(task) or (), task.config.filter_list, strict=True):
        if type(scorer) is not kind:
            raise TaskError(f"{where}: scorer: {type(scorer).__name__} does not run here; remove the key.")
        metrics = scorer.metrics or []
        _check_metrics(
            [(one.name, one.fn, one.aggregation) for one in metrics], own.exact_match_fn, mean, where
        )
        filters = [
            {"function": each["function"], **each.get("kwargs", {})}
            for each in given["filter"]
            if each["function"] != NOOP
        ]
        reductions = {each.get("reduction") for each in given["metric_list"]} - {None, "pass@k"}
        if reductions and task.config.repeats > 1:
            raise TaskError(
                f"{where}: metric_list: reduction: found {min(map(str, reductions))}; allowed: pass@k, or "
                f"the filter {LAST}."
            )
        found.append(Pipeline(str(scorer.name), filters, _options(metrics[0].kwargs)))
    if other := [one.name for one in found if one.options != found[0].options]:
        raise TaskError(
            f"{where}: filter_list: {other[0]} has other options of {METRIC} than {found[0].name}; allowed: "
            "the same."
        )
    return found


def _check_metrics(metrics: Iterable[tuple[str, Any, Any]], function: Any, mean: Any, where: str) -> None:
    """Raise `TaskError` unless there is one metric (name, function, aggregation), the mean exact match."""
    found = list(metrics)
    for name, own, _ in found:
        if name != METRIC or own is not function:
            raise TaskError(
                f"{where}: metric_list: {name} does not run here; allowed: {METRIC}, without hf_evaluate or "
                "code of the task."
            )
    if len(found) != 1 or found[0][2] is not mean:
        raise TaskError(f"{where}: metric_list: allowed: {METRIC} with aggregation mean.")


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if value not in (None, False, [])}


def _check(pipeline: Pipeline, repeats: int, where: str) -> None:
    for each in pipeline.filters:
        if each["function"] not in FILTERS:
            raise TaskError(
                f"{where}: the filter {each['function']!r} does not run here; allowed: {', '.join(FILTERS)}."
            )
        if each["function"] == "take_first_k" and not 1 <= each.get("k", 0) <= repeats:
            raise TaskError(
                f"{where}: take_first_k: found k {each.get('k')}; allowed: 1 to repeats, {repeats}."
            )
