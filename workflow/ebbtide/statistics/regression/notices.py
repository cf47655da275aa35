"""Notices of the regressions: tasks without one, cells that are left out, replicates, directions."""

from collections.abc import Iterable, Iterator

import pandas as pd

from ebbtide.metrics.direction import direction_of, find_metric
from ebbtide.notices import Notice, counted, listed
from ebbtide.statistics.regression.choices import LEAST_SQUARES
from ebbtide.statistics.regression.design import NO_REGRESSION, SIZES, Size
from ebbtide.statistics.regression.units import MIN_UNITS

LOW_DF = 2  # with as many degrees of freedom, only very large effects are significant
MOST_NAMES = 5  # tasks that a sentence lists


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
        *_replicates(tests[tests["t"].notna() & tests["runs"].notna()]),
    ]


def _replicates(tests: pd.DataFrame) -> Iterator[Notice]:
    """One notice per number of runs and sizes: what regressions with replicates compare."""
    for _, rows in tests.groupby(["runs", "sizes", "df"], sort=False):
        runs, sizes, df = (int(rows[name].iloc[0]) for name in ("runs", "sizes", "df"))
        by_run = sizes < MIN_UNITS
        units = "runs, not cells, and say nothing about other sizes" if by_run else "sizes, not runs or cells"
        yield Notice(
            "note",
            "low_power" if df <= LOW_DF else "defaulted",
            f"Some of {runs} runs of {sizes} sizes differ only by seed, so the regressions and verdicts of "
            f"{listed(rows['task'], MOST_NAMES)} compare {units}: df {df}.",
            f"The paper's regression, which counts all cells as independent, is {LEAST_SQUARES!r} in "
            f"robustness.tsv. Only more sizes{' or runs' if by_run else ''} give more degrees of freedom.",
            task=str(rows["task"].iloc[0]) if len(rows) == 1 else "",
            count=len(rows),
        )


def _without_regression(tests: pd.DataFrame) -> Iterator[Notice]:
    """One notice per reason; a metric that is the same in every cell is suspicious."""
    for note, rows in tests.groupby("note", sort=False):
        reason, _, remedy = str(note).removeprefix(f"{NO_REGRESSION}: ").partition("; ")
        constant = reason.startswith("the metric is ")
        yield Notice(
            "warning" if constant else "note",
            "suspicious" if constant else "not_compared",
            f"There is no regression of {listed(rows['task'], MOST_NAMES)}: {reason}.",
            "Check whether its answers are all the same, or set regression.metrics to another metric."
            if constant
            else f"{remedy[:1].upper()}{remedy[1:]}." * bool(remedy),
            task=str(rows["task"].iloc[0]) if len(rows) == 1 else "",
            count=len(rows),
        )


def _left_out(tests: pd.DataFrame, metrics: pd.DataFrame, parameters: Size) -> Iterator[Notice]:
    """One notice per model without a size, where other cells of the task have one.

    Where no cell of a task has a size, the reason for no regression says so. Unknown training tokens are in
    `metrics.notices`.
    """
    cells = metrics.merge(tests[["task", "metric"]], on=["task", "metric"])
    cells = cells[cells["tokens"] > 0]
    sized = cells[f"parameters_{parameters}"] > 0
    some = sized.groupby([cells["task"], cells["metric"]]).transform("any")
    for model, found in cells[some & ~sized].groupby("model", sort=False):
        yield Notice(
            "note",
            "dropped",
            f"{counted(len(found), 'cell')} are in no regression, because their {SIZES[parameters]} are "
            f"unknown; the first is {found['checkpoint'].iloc[0]}, {found['task'].iloc[0]}.",
            f"Set regression.parameters to a count that {model} has, or its parameters if it is imported.",
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
