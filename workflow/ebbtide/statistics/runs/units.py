"""Curves of every run on every task and suite of a comparison, from examples or from means."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from ebbtide.notices import Notice, listed
from ebbtide.statistics.panel import Trajectory
from ebbtide.statistics.runs.curves import Curve, Unit, chance_levels, curve_of, curves_of_means, suite_curve

Curves = dict[Unit, dict[str, Curve]]  # unit → model → curve


def curves_of_units(
    trajectories: Iterable[Trajectory], metrics: pd.DataFrame, arms: pd.DataFrame, settings: Mapping[str, Any]
) -> tuple[Curves, list[Notice]]:
    """Return the curves of all models that are in an arm.

    Parameters
    ----------
    trajectories
        All models and tasks with examples.
    metrics
        Rows of `tables.METRICS`: chance levels, and models and tasks of which only means are known.
    arms
        `model, arm, size`.
    settings
        `metrics` and `suites`.
    """
    models = set(arms["model"])
    suites = settings.get("suites", {})
    of_suites = {(task, suite["metric"]) for suite in suites.values() for task in suite["tasks"]}
    tasks: Curves = {}  # also what only suites need
    compared: set[Unit] = set()
    lacking: dict[str, dict[str, list[str]]] = {}  # metric → task without it → those that it has
    seen = set()
    trained: dict[str, bool] = {}  # model → whether any of its checkpoints has training tokens
    for trajectory in trajectories:
        if trajectory.model not in models:
            continue
        seen.add((trajectory.model, trajectory.task))
        trained[trajectory.model] = trained.get(trajectory.model, False) or bool(
            (trajectory.checkpoints["tokens"] > 0).any()
        )
        available = trajectory.available(settings["metrics"])
        compared |= {Unit(trajectory.task, "", metric) for metric in available}
        for metric in set(settings["metrics"]) - set(trajectory.values):
            lacking.setdefault(metric, {})[trajectory.task] = list(trajectory.values)
        others_of = [m for task, m in of_suites if task == trajectory.task and m in trajectory.values]
        for metric in dict.fromkeys([*available, *others_of]):
            if curve := curve_of(trajectory, metric):
                tasks.setdefault(Unit(trajectory.task, "", metric), {})[trajectory.model] = curve
    others = metrics[metrics["model"].isin(models)]
    for (model, task), rows in others.groupby(["model", "task"], sort=False):
        if (model, task) in seen:
            continue
        trained[str(model)] = trained.get(str(model), False) or bool((rows["tokens"] > 0).any())
        names = list(rows["metric"].unique())
        wanted = [name for name in settings["metrics"] if name in names] or names[:1]
        compared |= {Unit(str(task), "", metric) for metric in wanted}
        wanted += [metric for of, metric in of_suites if of == task]
        for key, curve in curves_of_means(rows[rows["metric"].isin(wanted)]).items():
            tasks.setdefault(Unit(str(task), "", key[2]), {})[str(model)] = curve
    found = {unit: of for unit, of in tasks.items() if unit in compared}
    notices = [
        *(_lacking(metric, of) for metric, of in lacking.items()),
        *(_without_tokens(model) for model, known in trained.items() if not known),
    ]
    for name, suite in suites.items():
        of_models, said = _suite(name, suite, tasks, metrics, sorted(models))
        notices += said
        if of_models:
            found[Unit("", name, suite["metric"])] = of_models
    return found, notices


def _lacking(metric: str, tasks: Mapping[str, list[str]]) -> Notice:
    names = dict.fromkeys(name for of in tasks.values() for name in of)
    return Notice(
        "note",
        "not_compared",
        f"Runs are not compared by {metric} on {listed(tasks)}, where single examples have no values of it.",
        f"Metrics with values by example: {listed(names, 8)} (runs.metrics).",
        count=len(tasks),
    )


def _without_tokens(model: str) -> Notice:
    return Notice(
        "warning",
        "not_compared",
        f"{model} is not compared with other runs: none of its checkpoints has known training tokens.",
        "Set tokens_per_step in its row, or score a trained checkpoint.",
        model=model,
    )


def _suite(
    name: str, suite: Mapping[str, Any], tasks: Curves, metrics: pd.DataFrame, models: list[str]
) -> tuple[dict[str, Curve], list[Notice]]:
    units = [Unit(task, "", suite["metric"]) for task in suite["tasks"]]
    chances, unknown = chance_levels(suite["tasks"], suite["metric"], metrics)
    found, notices = {}, []
    for model in models:
        lacking = [unit.task for unit in units if model not in tasks.get(unit, {})]
        if lacking:
            scored = {unit.task for unit, of in tasks.items() if model in of}
            remedy = (
                f"Set a metric with values by example (runs.suites.{name}.metric)"
                if scored.issuperset(lacking)
                else f"Score these tasks, or remove them from runs.suites.{name}.tasks"
            )
            notices.append(
                Notice(
                    "warning",
                    "not_compared",
                    f"Suite {name} has no value for {model}, which lacks {suite['metric']} on "
                    f"{listed(lacking)}.",
                    f"{remedy}.",
                    model=model,
                    count=len(lacking),
                )
            )
            continue
        curve = suite_curve(
            [tasks[unit][model] for unit in units], chances, resample_tasks=suite.get("resample_tasks", False)
        )
        if curve:
            found[model] = curve
        else:
            notices.append(
                Notice(
                    "warning",
                    "not_compared",
                    f"Suite {name} has no value for {model}: no checkpoint has all its tasks.",
                    f"Score all tasks of runs.suites.{name} on the same checkpoints.",
                    model=model,
                )
            )
    if unknown and found:
        notices.append(
            Notice(
                "note",
                "defaulted",
                f"Suite {name} averages {suite['metric']} of {listed(unknown)} as it is, because the chance "
                "level is unknown.",
                "Set `chance:` of these tasks, so that their values are rescaled by it.",
                count=len(unknown),
            )
        )
    return found, notices
