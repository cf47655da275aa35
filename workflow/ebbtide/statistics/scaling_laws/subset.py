"""Select predictable tasks: those on which a small model is already above chance."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ebbtide.errors import ScalingError
from ebbtide.statistics.scaling_laws.runs import ERROR_PREFIX, RUN_KEY

AVERAGE, SUBSET = f"{ERROR_PREFIX}avg", f"{ERROR_PREFIX}avg_subset"


def task_subset(runs: pd.DataFrame, chance: pd.Series, *, model: str, margin: float = 0.10) -> list[str]:
    """Return the tasks on which a run of `model` (any train set, any M) has accuracy ≥ chance + `margin`.

    With the 0.154B model and 10 points, these are the 17 of 46 tasks of Gadre et al. 2024, Sec. 2.4. `chance`
    is the chance level of accuracy by task. Raises `ScalingError` for an unknown model or chance level.
    """
    errors = runs[runs["quantity"].str.startswith(ERROR_PREFIX) & (runs["model"] == model)]
    if errors.empty:
        known = ", ".join(sorted(runs["model"].unique()))
        raise ScalingError(f"subset: found no errors of model {model!r}; allowed models: {known}.")
    best = 1 - errors.groupby("quantity")["value"].min()
    best.index = best.index.str.removeprefix(ERROR_PREFIX)
    unknown = sorted(set(best.index) - set(chance.index))
    if unknown:
        raise ScalingError(f"subset: the chance level of task {unknown[0]!r} is unknown.")
    return sorted(best.index[best >= chance[best.index] + margin])


def with_average(runs: pd.DataFrame, tasks: Sequence[str], name: str) -> pd.DataFrame:
    """Add the unweighted mean of the errors of `tasks` to `runs`, as quantity `name`.

    Raises `ScalingError` if a run lacks one of the tasks.
    """
    wanted = [ERROR_PREFIX + task for task in tasks]
    errors = runs[runs["quantity"].isin(wanted)]
    counts = errors.groupby(RUN_KEY)["value"].size()
    if counts.empty or counts.min() < len(wanted):
        run = counts.sort_values().index[0] if len(counts) else "every run"
        raise ScalingError(f"{name}: {run} lacks some of the {len(wanted)} tasks to average.")
    means = errors.groupby(RUN_KEY, as_index=False)["value"].mean()
    labels = errors.drop(columns=["quantity", "value"]).drop_duplicates(RUN_KEY)
    average = labels.merge(means, on=RUN_KEY).assign(quantity=name)
    return pd.concat([runs, average[runs.columns]], ignore_index=True)


def chance_of_errors(tasks: pd.DataFrame) -> dict[str, float]:
    """Return the chance level of every error quantity, from the table of tasks of `with_averages`.

    That of an average is the mean; NaN if the chance level of one of its tasks is unknown.
    """
    chance = tasks["chance"].astype(float)
    known = dict(zip(ERROR_PREFIX + tasks["task"].astype(str), chance, strict=True))
    known[AVERAGE] = chance.mean(skipna=False)
    if "in_subset" in tasks:
        known[SUBSET] = chance[tasks["in_subset"].astype(bool)].mean(skipna=False)
    return known


def with_averages(
    runs: pd.DataFrame, chance: pd.Series, subset: Mapping[str, Any] | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Add `err_avg` over all tasks and, if `subset` is {model, margin}, `err_avg_subset` to `runs`.

    Returns the runs and a table of tasks: task, chance and, with `subset`, best (accuracy of the model's best
    run) and in_subset.
    """
    tasks = sorted(
        q.removeprefix(ERROR_PREFIX) for q in runs["quantity"].unique() if q.startswith(ERROR_PREFIX)
    )
    table = pd.DataFrame({"task": tasks, "chance": [chance.get(task) for task in tasks]})
    if not tasks:
        return runs, table
    averaged = with_average(runs, tasks, AVERAGE)
    if subset is None:
        return averaged, table
    chosen = task_subset(runs, chance, **subset)
    small = runs[runs["model"] == subset["model"]].groupby("quantity")["value"].min()
    table = table.assign(
        best=[1 - small[ERROR_PREFIX + task] for task in tasks], in_subset=[t in chosen for t in tasks]
    )
    return (with_average(averaged, chosen, SUBSET) if chosen else averaged), table
