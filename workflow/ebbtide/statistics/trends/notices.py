"""Notices of the curves of recipes: those that are left out."""

from collections.abc import Iterator

import pandas as pd

from ebbtide.notices import Notice, counted, listed


def curve_notices(seed_curves: pd.DataFrame) -> Iterator[Notice]:
    """Yield one notice per recipe and reason for which its runs have no common curve.

    Parameters
    ----------
    seed_curves
        Rows of seed_curves.tsv.
    """
    for (recipe, note), rows in seed_curves[seed_curves["tokens"].isna()].groupby(["recipe", "note"]):
        tasks = list(dict.fromkeys(rows["task"]))
        runs = int(rows["runs"].max())
        yield Notice(
            "note",
            "not_compared",
            f"The {counted(runs, 'run')} of {recipe} have no common curve on {listed(tasks)}: {note}."
            if runs > 1
            else f"{recipe} has no curve over its runs on {listed(tasks)}: {note}.",
            "Score the runs at the same checkpoints and on the same examples, or set runs.tolerance."
            if runs > 1
            else "",
            task=tasks[0] if len(tasks) == 1 else "",
            count=len(rows),
        )
