"""Format alarms for the terminal, and decide whether they cause an error status."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.statistics.alarms.alarms import SEVERITIES

MAX_LINES = 40  # the table lists all alarms
_REFERENCES = {"predecessor": "the previous checkpoint", "best": "its best", "baseline": "the baseline"}
_SMALLEST_P = 1e-16


def selected_rows(table: pd.DataFrame, checkpoints: str) -> pd.DataFrame:
    """Return all rows (`all`), or those of the last checkpoint of each model (`last`)."""
    if checkpoints == "all" or table.empty:
        return table
    order = ["tokens", "step", "checkpoint"]
    last = table.sort_values(order).groupby("model")["checkpoint"].transform("last")
    return table[table["checkpoint"] == last.reindex(table.index)]


def fails(table: pd.DataFrame, fail_on: str, checkpoints: str) -> bool:
    """Whether a selected checkpoint has an alarm of severity `fail_on` or above. `never` never fails."""
    grave = SEVERITIES[SEVERITIES.index(fail_on) :] if fail_on in SEVERITIES else ()
    return bool(selected_rows(table, checkpoints)["severity"].isin(grave).any())


def lines(table: pd.DataFrame, checkpoints: str) -> list[str]:
    """Return a line per alarm of the selected checkpoints, worst first; then counts and detectable drops."""
    rows = selected_rows(table, checkpoints)
    if rows.empty:
        return ["No comparison: no two checkpoints have the same examples."]
    rank = rows["severity"].map({name: i for i, name in enumerate(SEVERITIES)})
    ranked = rows.assign(rank=rank, size=rows["effect"].abs())
    raised = ranked[rank.notna()].sort_values(["rank", "size"], ascending=False, kind="stable")
    width = max([len(name) for name in SEVERITIES])
    messages = [_line(row, width) for row in raised.head(MAX_LINES).to_dict("records")]
    if len(raised) > MAX_LINES:
        messages.append(f"… and {len(raised) - MAX_LINES} more, none more severe")
    counts = ", ".join(f"{(raised['severity'] == name).sum()} {name}" for name in reversed(SEVERITIES))
    messages.append(f"{len(rows)} comparisons of {_models(rows)}: {counts}")
    return messages + _detectable(rows[rank.isna()])


def _models(rows: pd.DataFrame) -> str:
    models, tasks = rows["model"].nunique(), rows["task"].nunique()
    return f"{models} model{'s' * (models > 1)} on {tasks} task{'s' * (tasks > 1)}"


def _line(row: Mapping[Hashable, Any], width: int) -> str:
    change, p = row["change"], row["p_adjusted"]
    where = "below" if change < 0 else "above"
    p_text = f"= {p:.2g}" if p >= _SMALLEST_P else f"< {_SMALLEST_P:g}"
    return (
        f"{row['severity']:<{width}}  {row['task']}  {row['model']}  {row['checkpoint']}: "
        f"{row['metric']} {row['value']:.3g}, {abs(change):.3g} {where} {_REFERENCES[row['against']]} "
        f"({row['reference']}): p_adj {p_text}"
    )


def _detectable(quiet: pd.DataFrame) -> list[str]:
    """Describe the minimum detectable drop of the comparisons without an alarm, one line per metric."""
    messages = []
    for metric, drops in quiet.groupby("metric")["minimum_detectable_drop"]:
        known = drops.dropna()
        if known.empty:
            messages.append(f"No comparison of {metric} has enough examples to detect any drop")
            continue
        middle, least, most = np.median(known), known.min(), known.max()
        messages.append(
            f"Comparisons without an alarm detect a change of {metric} by {middle:.2g} (median; {least:.2g} "
            f"to {most:.2g}) with 80 % power, before p is adjusted"
        )
    return messages
