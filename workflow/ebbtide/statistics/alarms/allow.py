"""Allowed alarms: drops that are known and accepted (`alarms.allow`), until a date."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

Entry = Mapping[str, Any]


def with_allowed(table: pd.DataFrame, allow: Sequence[Entry]) -> pd.DataFrame:
    """Add `allowed`, the reason of the entry that matches an alarm, and `allowed_until`, its date; or "".

    If several entries match, the one that lasts longest counts. Whether it has expired depends on the day,
    so `is_allowed` decides that.
    """
    table = table.assign(allowed="", allowed_until="")
    for entry in sorted(allow, key=lambda one: one["until"] or "9999"):
        matched = matches(table, entry)
        table.loc[matched, ["allowed", "allowed_until"]] = [entry["reason"], entry["until"] or ""]
    return table


def matches(table: pd.DataFrame, entry: Entry) -> np.ndarray:
    """Whether each row is an alarm that an entry names, expired or not."""
    found = (table["model"] == entry["model"]) & (table["task"] == entry["task"]) & (table["severity"] != "")
    wanted = entry["checkpoints"]
    if isinstance(wanted, Mapping):
        steps = table["step"]
        found &= (steps >= wanted.get("from", 0)) & (steps <= wanted.get("to", np.inf))
    elif wanted is not None:
        names = {str(one) for one in (wanted if isinstance(wanted, list) else [wanted])}
        found &= table["checkpoint"].isin(names) | table["step"].astype(str).isin(names)
    matched: np.ndarray = found.to_numpy(dtype=bool)
    return matched


def is_allowed(table: pd.DataFrame, today: date) -> pd.Series:
    """Whether each alarm is allowed on this day; the last day is included. Dates compare as ISO texts."""
    until = table["allowed_until"]
    return (table["allowed"] != "") & ((until == "") | (until >= today.isoformat()))


def in_words(entry: Entry) -> str:
    """Return what an entry names: model, task and checkpoints."""
    wanted = entry["checkpoints"]
    where = ""
    if isinstance(wanted, Mapping):
        first, last = wanted.get("from"), wanted.get("to")
        where = "".join(
            f" {word} {step}" for word, step in (("from", first), ("to", last)) if step is not None
        )
        where = f", steps{where}"
    elif wanted is not None:
        where = f", {', '.join(map(str, wanted if isinstance(wanted, list) else [wanted]))}"
    return f"{entry['model']}, {entry['task']}{where}"
