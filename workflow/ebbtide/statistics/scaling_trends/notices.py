"""Notices of scaling trends: models and tasks that are left out."""

import pandas as pd

from ebbtide.notices import Notice, listed


def notices(points: pd.DataFrame) -> list[Notice]:
    """Return what readers of the table of `scale_points` should know: one notice per task and reason."""
    left = points[points["note"] != ""]
    found = []
    for (task, why), rows in left.groupby(["task", "note"], sort=True):
        models = list(rows["model"].unique())
        found.append(
            Notice(
                "note",
                "not_compared",
                f"Scaling trends leave out {listed(models)} on {task}: {why}.",
                model=models[0] if len(models) == 1 else "",
                task=str(task),
                count=len(models),
            )
        )
    return found
