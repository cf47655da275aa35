"""Verdicts on abrupt abilities in sentences, for the page."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ebbtide.notices import counted
from ebbtide.statistics.abrupt.verdicts import ABRUPT, CANNOT_TELL, FALLS, NO_CHANGE, SMOOTH, THRESHOLD

WORDS = {
    ABRUPT: "abrupt: the log-probability, too, changes within one step of the grid",
    THRESHOLD: "a threshold on something smooth: before right answers begin, the log-probability has made",
    SMOOTH: "smooth: right answers and log-probability change together",
    NO_CHANGE: "no change of right answers",
    FALLS: "right answers become fewer",
    CANNOT_TELL: "cannot tell",
}


def verdict_sentences(verdicts: pd.DataFrame) -> list[str]:
    """Return a sentence per curve of abrupt.tsv over sizes, and the number of each verdict over training."""
    rows = verdicts[verdicts["form"] == "outcome"]
    found = [_sentence(row) for row in rows[rows["over"] == "size"].to_dict("records")]
    left = verdicts[verdicts["form"].fillna("") == ""]
    found += [f"{row['task']}: {row['note']}." for row in left.to_dict("records")]
    training = rows[rows["over"] == "tokens"]["verdict"].value_counts()
    if len(training):
        each = ", ".join(f"{count} {verdict}" for verdict, count in training.items())
        found.append(f"Over training, of {counted(int(training.sum()), 'curve')}: {each}.")
    return found


def _sentence(row: Mapping[Any, Any]) -> str:
    arm = f" ({row['arm']})" if row["arm"] else ""
    words = WORDS[row["verdict"]]
    if row["verdict"] == THRESHOLD:
        low, high = row["head_start_low"], row["head_start_high"]
        words += f" {100 * row['head_start']:.0f} % of its change ({100 * low:.0f} to {100 * high:.0f} %)"
    if row["verdict"] == ABRUPT:
        words += f", {row['jump_from']} to {row['jump_to']} ({10 ** row['gap']:.1f} times the size)"
    if row["note"]:
        words += f" ({row['note']})"
    return f"{row['task']}{arm}, {row['smallest']} to {row['largest']}: {words}."
