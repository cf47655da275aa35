"""Which tasks can be predicted at all: those that a small model already learns."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ebbtide.errors import ScalingError
from ebbtide.statistics.scaling_laws.runs import ERROR_OF, ONE_RUN

AVERAGE, SUBSET = f"{ERROR_OF}avg", f"{ERROR_OF}avg_subset"


def task_subset(runs: pd.DataFrame, chance: pd.Series, *, model: str, margin: float = 0.10) -> list[str]:
    """Tasks where some run of `model` (any train set, any M) has accuracy ≥ chance + `margin`.

    With the 0.154B model and 10 points this is the paper's 17 of 46 (Gadre et al. 2024, Sec. 2.4).
    `chance` is accuracy at chance by task. Raises `ScalingError` for an unknown model or level of chance.
    """
    errors = runs[runs["quantity"].str.startswith(ERROR_OF) & (runs["model"] == model)]
    if errors.empty:
        known = ", ".join(sorted(runs["model"].unique()))
        raise ScalingError(f"subset: there is no error of a run of model {model!r} (models: {known}).")
    best = 1 - errors.groupby("quantity")["value"].min()
    best.index = best.index.str.removeprefix(ERROR_OF)
    unknown = sorted(set(best.index) - set(chance.index))
    if unknown:
        raise ScalingError(f"subset: the level of chance of task {unknown[0]!r} is unknown.")
    return sorted(best.index[best >= chance[best.index] + margin])


def with_average(runs: pd.DataFrame, tasks: Sequence[str], name: str) -> pd.DataFrame:
    """`runs` with one more quantity: the plain mean of the errors of `tasks`.

    Raises `ScalingError` when a run lacks one of them.
    """
    wanted = [ERROR_OF + task for task in tasks]
    errors = runs[runs["quantity"].isin(wanted)]
    counts = errors.groupby(ONE_RUN)["value"].size()
    if counts.empty or counts.min() < len(wanted):
        run = counts.sort_values().index[0] if len(counts) else "every run"
        raise ScalingError(f"{name}: {run} lacks some of the {len(wanted)} tasks to be averaged.")
    means = errors.groupby(ONE_RUN, as_index=False)["value"].mean()
    places = errors.drop(columns=["quantity", "value"]).drop_duplicates(ONE_RUN)
    average = places.merge(means, on=ONE_RUN).assign(quantity=name)
    return pd.concat([runs, average[runs.columns]], ignore_index=True)


def with_averages(
    runs: pd.DataFrame, chance: pd.Series, subset: Mapping[str, Any] | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`runs` with `err_avg` over all tasks and, given {model, margin}, `err_avg_subset`; and the tasks.

    The second table: task, chance, best (accuracy of the best run of that model), in_subset.
    """
    tasks = sorted(q.removeprefix(ERROR_OF) for q in runs["quantity"].unique() if q.startswith(ERROR_OF))
    table = pd.DataFrame({"task": tasks, "chance": [chance.get(task) for task in tasks]})
    if not tasks:
        return runs, table
    averaged = with_average(runs, tasks, AVERAGE)
    if subset is None:
        return averaged, table
    chosen = task_subset(runs, chance, **subset)
    small = runs[runs["model"] == subset["model"]].groupby("quantity")["value"].min()
    table = table.assign(
        best=[1 - small[ERROR_OF + task] for task in tasks], in_subset=[t in chosen for t in tasks]
    )
    return (with_average(averaged, chosen, SUBSET) if chosen else averaged), table
