"""Notices of the regressions: tasks without one, cells that are left out, metrics of assumed direction."""

from collections.abc import Iterable, Iterator

import pandas as pd

from ebbtide.metrics.direction import direction_of, find_metric
from ebbtide.notices import Notice
from ebbtide.statistics.regression.design import NO_REGRESSION, SIZES, Size

MOST_NAMES = 5  # tasks and models that a sentence lists


def regression_notices(
    regressions: pd.DataFrame, metrics: pd.DataFrame, parameters: Size = "non_embedding"
) -> list[Notice]:
    """Return the notices of a study's regressions.

    Parameters
    ----------
    regressions, metrics
        Tables of `regress` and `tables.METRICS`.
    parameters
        `regression.parameters` of the study.
    """
    tests = regressions.drop_duplicates(["task", "metric"])
    return [
        *_without_regression(tests[tests["t"].isna()]),
        *_left_out(tests, metrics, parameters),
        *_directions(tests["metric"].unique().tolist()),
    ]


def _without_regression(tests: pd.DataFrame) -> Iterator[Notice]:
    """One notice per reason; a metric that is the same in every cell is suspicious."""
    for note, rows in tests.groupby("note", sort=False):
        reason, _, remedy = str(note).removeprefix(f"{NO_REGRESSION}: ").partition("; ")
        constant = reason.startswith("the metric is ")
        yield Notice(
            "warning" if constant else "note",
            "suspicious" if constant else "not_compared",
            f"There is no regression of {_listed(rows['task'])}: {reason}.",
            "Check whether its answers are all the same, or set regression.metrics to another metric."
            if constant
            else f"{remedy[:1].upper()}{remedy[1:]}." * bool(remedy),
            task=str(rows["task"].iloc[0]) if len(rows) == 1 else "",
            count=len(rows),
        )


def _left_out(tests: pd.DataFrame, metrics: pd.DataFrame, parameters: Size) -> Iterator[Notice]:
    """One notice per model with trained cells that are left out where other cells of the task are not.

    Where all cells of a task are left out, the reason for no regression says so.
    """
    cells = metrics.merge(tests[["task", "metric"]], on=["task", "metric"])
    usable = (cells["tokens"] > 0) & (cells[f"parameters_{parameters}"] > 0)
    some = usable.groupby([cells["task"], cells["metric"]]).transform("any")
    trained = cells[some & ((cells["tokens"] > 0) | (cells["step"] > 0))]
    unknown = trained["tokens"] <= 0
    sizeless = ~unknown & ~(trained[f"parameters_{parameters}"] > 0)
    size = SIZES[parameters]
    for rows, where, what, remedy in (
        (
            trained[unknown],
            "no regression, nor on the axes of training tokens",
            "training tokens",
            "Set tokens_per_step of {model}.",
        ),
        (
            trained[sizeless],
            "no regression",
            size,
            "Set regression.parameters to a count that {model} has, or its parameters if it is imported.",
        ),
    ):
        for model, found in rows.groupby("model", sort=False):
            yield Notice(
                "note",
                "dropped",
                f"{len(found)} cells of {model} are in {where}, because their {what} are unknown; "
                f"the first is {found['checkpoint'].iloc[0]}, {found['task'].iloc[0]}.",
                remedy.format(model=model),
                model=str(model),
                count=len(found),
            )


def _directions(names: Iterable[str]) -> Iterator[Notice]:
    """Notices of metrics whose direction is inferred from their name, or that have none."""
    for name in names:
        if find_metric(name) is None:
            yield Notice(
                "note",
                "defaulted",
                f"{name} is not a metric of Ebbtide, so its direction is {direction_of(name)}.",
                "If it is one under another name, map it with `metrics` of the imported row.",
            )
        elif not direction_of(name):
            yield Notice(
                "note",
                "not_compared",
                f"Neither a higher nor a lower {name} is better, so no change of it is a verdict.",
                "Read its slopes in regressions.tsv, or choose another metric (regression.metrics).",
            )


def _listed(tasks: Iterable[str]) -> str:
    names = list(tasks)
    return ", ".join(names[:MOST_NAMES]) + (
        f" and {len(names) - MOST_NAMES} more" * (len(names) > MOST_NAMES)
    )
