"""Alarms as sentences for a terminal, and whether they are grave enough for an error status."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.statistics.alarms.alarms import SEVERITIES

MOST = 40  # lines; a long list is in the table
_PLACES = {"predecessor": "the checkpoint before", "best": "its best", "baseline": "the baseline"}
_FLOOR = 1e-16


def watched_rows(table: pd.DataFrame, watch: str) -> pd.DataFrame:
    """All rows, or (`last`) those of the last checkpoint of each model."""
    if watch == "all" or table.empty:
        return table
    order = ["tokens", "step", "checkpoint"]
    last = table.sort_values(order).groupby("model")["checkpoint"].transform("last")
    return table[table["checkpoint"] == last.reindex(table.index)]


def fails(table: pd.DataFrame, fail: str, watch: str) -> bool:
    """Whether a watched checkpoint has an alarm of severity `fail` or above; never, if `fail` is `never`."""
    grave = SEVERITIES[SEVERITIES.index(fail) :] if fail in SEVERITIES else ()
    return bool(watched_rows(table, watch)["severity"].isin(grave).any())


def lines(table: pd.DataFrame, watch: str) -> list[str]:
    """One line per alarm of the watched checkpoints, worst first; then counts, and what would be found."""
    rows = watched_rows(table, watch)
    if rows.empty:
        return ["No two checkpoints with the same examples: nothing was compared."]
    rank = rows["severity"].map({name: i for i, name in enumerate(SEVERITIES)})
    ranked = rows.assign(rank=rank, size=rows["effect"].abs())
    raised = ranked[rank.notna()].sort_values(["rank", "size"], ascending=False, kind="stable")
    width = max([len(name) for name in SEVERITIES])
    said = [_line(row, width) for row in raised.head(MOST).to_dict("records")]
    if len(raised) > MOST:
        said.append(f"… and {len(raised) - MOST} more, none of them worse")
    counts = ", ".join(f"{(raised['severity'] == name).sum()} {name}" for name in reversed(SEVERITIES))
    said.append(f"{len(rows)} comparisons of {_models(rows)}: {counts}")
    return said + _detectable(rows[rank.isna()])


def _models(rows: pd.DataFrame) -> str:
    models, tasks = rows["model"].nunique(), rows["task"].nunique()
    return f"{models} model{'s' * (models > 1)} on {tasks} task{'s' * (tasks > 1)}"


def _line(row: Mapping[Hashable, Any], width: int) -> str:
    change, p = row["change"], row["p_adjusted"]
    where = "below" if change < 0 else "above"
    shown = f"= {p:.2g}" if p >= _FLOOR else f"< {_FLOOR:g}"
    return (
        f"{row['severity']:<{width}}  {row['task']}  {row['model']}  {row['checkpoint']}: "
        f"{row['metric']} {row['value']:.3g}, {abs(change):.3g} {where} {_PLACES[row['against']]} "
        f"({row['reference']}): p_adj {shown}"
    )


def _detectable(quiet: pd.DataFrame) -> list[str]:
    """What the comparisons without an alarm would have found, metric by metric."""
    said = []
    for metric, drops in quiet.groupby("metric")["minimum_detectable_drop"]:
        known = drops.dropna()
        if known.empty:
            said.append(f"No comparison of {metric} has examples enough to find any drop")
            continue
        middle, least, most = np.median(known), known.min(), known.max()
        said.append(
            f"Without an alarm, a change of {metric} by {middle:.2g} (median, {least:.2g} to {most:.2g}) "
            "would have been found with a probability of 80 %, before p is adjusted"
        )
    return said
