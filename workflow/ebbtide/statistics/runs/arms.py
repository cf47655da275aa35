"""What a comparison of runs starts from: the table of arms, settings in full, and notices about both."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.errors import ConfigError
from ebbtide.notices import Notice, counted, listed
from ebbtide.statistics.replicates import with_sizes
from ebbtide.study.arms import (
    SEED_COLUMNS,
    UNKNOWN,
    Run,
    arms_of,
    arms_table,
    check_sizes,
    left_out,
    reference_of,
    suites_of,
)

WHERE = "runs"


def comparison_of(
    stated: Sequence[Run],
    metrics: pd.DataFrame,
    section: Mapping[str, Any],
    seed_table: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, dict[str, Any], list[Notice]]:
    """Return the table of arms, the settings of `compare.compare_runs`, and notices.

    Parameters
    ----------
    stated
        Models of the grid with the arms and seeds that their rows state.
    metrics
        Rows of `tables.METRICS`; its models are compared, with their sizes.
    section
        The section `runs` of the study, valid by its schema.
    seed_table
        Rows of seeds.tsv of another study, if `seed_sd` names it.

    Raises
    ------
    ConfigError
        Arms, sizes or suites that do not fit the models and tasks of `metrics`.
    """
    runs = with_sizes(stated, metrics)
    arms = arms_of(runs, section["arms"], WHERE)
    reference = reference_of(arms, section["reference"], WHERE)
    check_sizes(arms, reference, WHERE)
    suites = suites_of(section)
    tasks = set(metrics["task"])
    for name, suite in suites.items():
        unknown = [task for task in suite["tasks"] if task not in tasks]
        if unknown:
            raise ConfigError(
                f"{WHERE}.suites.{name}: found {', '.join(map(repr, unknown))}, without any metrics; "
                f"allowed: {', '.join(sorted(tasks))}."
            )
    settings = {**section, "reference": reference, "suites": suites}
    if seed_table is not None:
        settings["seed_sd"] = {**section["seed_sd"], "table": seed_noise(seed_table)}
    table = arms_table(arms)
    chosen = _chosen(section, reference, list(arms), left_out(runs, arms))
    return table, settings, [*chosen, *_doubtful(table, reference)]


def seed_noise(table: pd.DataFrame) -> pd.DataFrame:
    """Return the noise between seeds by task, metric and size from seeds.tsv of another study.

    Its arms have other names, so that their variances are averaged, weighted by degrees of freedom. Suites
    are named like tasks. Estimates of 0 are left out: a noise below the other noise is not known to be 0.
    Columns `task, metric, size, sd, df`. Raises `ConfigError` for another table.
    """
    if missing := set(SEED_COLUMNS) - set(table):
        raise ConfigError(
            f"{WHERE}.seed_sd.table: found a table without {', '.join(sorted(missing))}; allowed: seeds.tsv "
            "of a study with a section runs."
        )
    rows = table[table["sd_seeds"].notna() & (table["runs"] > 1)]
    if rows.empty:
        raise ConfigError(
            f"{WHERE}.seed_sd.table: found no arm with two or more runs of a size, so no noise of seeds."
        )
    df = rows["runs"] - 1
    rows = rows.assign(
        task=rows["task"].where(rows["task"] != "", rows["suite"]), df=df, sum=df * rows["sd_seeds"] ** 2
    )
    found = rows.groupby(["task", "metric", "size"], as_index=False)[["df", "sum"]].sum()
    found = found.assign(sd=np.sqrt(found["sum"] / found["df"])).drop(columns="sum")
    return found[found["sd"] > 0]


def _chosen(
    section: Mapping[str, Any], reference: str, arms: Sequence[str], without_arm: str
) -> list[Notice]:
    notices = []
    if len(arms) == 1:
        detail = f"{reference} is the only arm: no runs are compared. seeds.tsv has the noise of its seeds."
        notices.append(Notice("note", "not_compared", detail, "Name a second arm in runs.arms."))
    elif section["reference"] is None:
        detail = f"Arms are compared with {reference}, the first."
        notices.append(Notice("note", "defaulted", detail, "Set runs.reference to choose another."))
    if without_arm:
        detail = f"Models without an arm are not in the comparison of runs: {without_arm}."
        notices.append(Notice("note", "dropped", detail, "Name them in runs.arms, or set arm in their rows."))
    return notices


def _doubtful(table: pd.DataFrame, reference: str) -> list[Notice]:
    """Sizes that are not compared or unknown, and runs that may not be replicates."""
    notices = []
    sizes = set(table.loc[table["arm"] == reference, "size"])
    for arm, rows in table[table["arm"] != reference].groupby("arm", sort=False):
        alone = rows[~rows["size"].isin(sizes)]
        if len(alone):
            detail = (
                f"{arm} at {listed(alone['size'].unique())} is not compared, because {reference} has no run "
                "of this size."
            )
            notices.append(Notice("note", "not_compared", detail, count=len(alone)))
    unknown = table[table["size"] == UNKNOWN]
    if len(unknown):
        detail = f"{listed(unknown['model'])} of unknown size are compared as if they had the same size."
        notices.append(
            Notice(
                "warning",
                "defaulted",
                detail,
                "Give their rows `nominal` or `parameters`.",
                count=len(unknown),
            )
        )
    seeded = table[table["seed"].notna()]
    of_reference = seeded[seeded["arm"] == reference]
    shared = seeded.merge(of_reference, on=["size", "seed"])
    shared = shared[shared["arm_x"] != reference]
    if len(shared):
        detail = (
            f"{counted(shared['model_x'].nunique(), 'run')} ({listed(shared['model_x'].unique())}) have the "
            f"seed of a run of {reference}; they are compared as independent runs. What the same seed has in "
            "common in two arms is then in the intervals, which are too wide rather than too narrow."
        )
        remedy = "Use other seeds in each arm for intervals without it."
        notices.append(Notice("note", "defaulted", detail, remedy, count=shared["model_x"].nunique()))
    same = seeded[seeded.duplicated(["arm", "size", "seed"], keep=False)]
    if len(same):
        detail = (
            f"{counted(len(same), 'model')} ({listed(same['model'])}) have the same seed as another of their "
            "arm and size, but count as independent runs."
        )
        notices.append(
            Notice(
                "warning",
                "suspicious",
                detail,
                "Leave one out of runs.arms if they are one run.",
                count=len(same),
            )
        )
    return notices
