"""Break an alarm down by the groups of its task, to show which examples fell.

The parts of an alarm are not further tests of the study: their p is not adjusted, they have no severity, and
they do not enter the family over which p is adjusted.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from ebbtide.metrics.direction import sign_of
from ebbtide.metrics.examples import GROUP
from ebbtide.metrics.of_cell import MAX_LEVELS
from ebbtide.statistics.alarms.paired import compare
from ebbtide.statistics.panel import Trajectory

NOTE = "part of the examples of an alarm: p is not adjusted"


def read_levels(requests: Mapping[str, str | Path]) -> dict[str, pd.DataFrame]:
    """Return the levels of every group, a column per group, by example; only of tasks with groups.

    Parameters
    ----------
    requests
        Task → frozen requests.
    """
    found = {}
    for task, path in requests.items():
        names = [name for name in pq.read_schema(path).names if name.startswith(GROUP)]
        if names:
            rows = pq.read_table(path, columns=["example", *names]).to_pandas()
            levels = rows.drop_duplicates("example").astype({"example": str}).set_index("example")
            found[task] = levels.rename(columns=lambda name: name.removeprefix(GROUP))
    return found


def parts(
    trajectory: Trajectory, levels: pd.DataFrame, row: Mapping[Any, Any], alpha: float
) -> Iterator[dict[Any, Any]]:
    """Yield the comparison of a row of alarms in every level of every group of its task.

    Groups with one level, or more than `MAX_LEVELS`, are left out, and rows that compare with another model.
    """
    metric, names = row["metric"], list(trajectory.checkpoints["checkpoint"])
    if row["reference"] not in names:
        return
    counts = ~np.isnan(trajectory.values[metric]).any(axis=0)
    values, clusters = trajectory.counted(metric)
    both = values[[names.index(row["checkpoint"])]], values[[names.index(row["reference"])]]
    of_examples = levels.reindex(trajectory.examples[counts].astype(str))
    for group in levels:
        texts = of_examples[group].astype("object")
        found = sorted({str(level) for level in texts.dropna()})
        if not 2 <= len(found) <= MAX_LEVELS:
            continue
        for level in found:
            inside = (texts.notna() & (texts.astype(str) == level)).to_numpy()
            own = np.unique(clusters[inside], return_inverse=True)[1]
            new, old = (of[:, inside] for of in both)
            [compared] = compare(new, old, own, alpha, sign=sign_of(metric)).to_dict("records")
            means = {"value": float(new.mean()), "reference_value": float(old.mean())}
            own_row = {"group": f"{group}={level}", "p_adjusted": np.nan, "severity": "", "note": NOTE}
            yield {**row, **compared, **means, **own_row}
