"""Alarms in words for the terminal, and the exit status of the gate."""

from collections.abc import Hashable, Iterable, Mapping
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.notices import counted, listed
from ebbtide.statistics.alarms.alarms import SEVERITIES
from ebbtide.statistics.alarms.allow import is_allowed
from ebbtide.statistics.alarms.seeds import in_words
from ebbtide.statistics.panel import in_training_order

MAX_LINES = 40  # the table lists all alarms
ALARMS, WRONG = 1, 2  # exit statuses
_REFERENCES = {"predecessor": "the previous checkpoint", "best": "its best", "baseline": "the baseline"}
_DROP = ["model", "task", "metric", "checkpoint"]
_SMALLEST_P = 1e-16
_MOST_PARTS = 6  # levels of groups in the line of a drop


def selected_rows(table: pd.DataFrame, missing: pd.DataFrame, checkpoints: str) -> pd.DataFrame:
    """Return the comparisons of all checkpoints (`all`), or of the last of each model (`last`).

    The last is that of all results, also if it was not compared (`missing`, see `not_compared`).
    """
    if checkpoints == "all" or table.empty:
        return table
    last = _last(table, missing)
    return table[table["checkpoint"] == table["model"].map(last)]


def status(
    table: pd.DataFrame, missing: pd.DataFrame, settings: Mapping[str, Any], today: date
) -> tuple[int, str]:
    """Return the exit status and the reason for it in words.

    2 if nothing was compared, also if that holds for the last checkpoint of a model with several and
    `checkpoints` is `last`; 1 if a selected checkpoint has an alarm of severity `fail_on` or above that is
    not allowed; else 0.

    Parameters
    ----------
    table
        Rows of alarms.tsv.
    missing
        Rows of not_compared.tsv.
    settings
        `fail_on` and `checkpoints` of the config section `alarms`.
    """
    rows = selected_rows(table, missing, settings["checkpoints"])
    unwatched = _unwatched(table, missing) if settings["checkpoints"] == "last" else []
    if rows.empty or unwatched:
        at = f" at the last checkpoint of {', '.join(unwatched)}" if unwatched else ""
        return WRONG, f"Nothing was compared{at}, so the gate fails: exit status {WRONG}."
    fail_on = settings["fail_on"]
    if fail_on == "never":
        return 0, "alarms.fail_on is never: exit status 0."
    grave = SEVERITIES[SEVERITIES.index(fail_on) :]
    drops = _drops(rows, today)
    raised = sum(drop["severity"] in grave and not drop["is_allowed"] for drop in drops)
    allowed = sum(drop["severity"] in grave and drop["is_allowed"] for drop in drops)
    also = f" ({allowed} allowed)" if allowed else ""
    if not raised:
        return 0, f"No alarm at or above {fail_on}{also}: exit status 0."
    return ALARMS, f"{counted(raised, 'alarm')} at or above {fail_on}{also}: exit status {ALARMS}."


def lines(table: pd.DataFrame, missing: pd.DataFrame, settings: Mapping[str, Any], today: date) -> list[str]:
    """Return a line per drop, worst first; counts; detectable drops; what was not compared, and why.

    A drop is one metric at one checkpoint, whatever it was compared with. Parameters as for `status`.
    """
    rows = selected_rows(table, missing, settings["checkpoints"])
    left = _missing_lines(missing)
    if rows.empty:
        return ["No comparison.", *left]
    drops = _drops(rows, today)
    width = max(len(name) for name in (*SEVERITIES, "allowed"))
    messages = [_line(drop, width) for drop in drops[:MAX_LINES]]
    if len(drops) > MAX_LINES:
        messages.append(f"… and {len(drops) - MAX_LINES} more, none more severe")
    whole = rows[rows["group"] == ""]
    open_drops = [drop["severity"] for drop in drops if not drop["is_allowed"]]
    counts = [f"{open_drops.count(name)} {name}" for name in reversed(SEVERITIES)]
    if len(open_drops) < len(drops):
        counts.append(f"{len(drops) - len(open_drops)} allowed")
    compared = f"{counted(len(whole), 'comparison')} of {_models(whole)}"
    messages.append(f"{counted(len(drops), 'drop')} ({', '.join(counts)}) in {compared}")
    return [*messages, *_detectable(whole[whole["severity"] == ""]), *left]


def _drops(rows: pd.DataFrame, today: date) -> list[dict[Hashable, Any]]:
    """Return the alarms, one per metric and checkpoint, worst first and allowed ones last."""
    rows = rows.reset_index(drop=True)
    raised = rows[rows["severity"] != ""].assign(
        rank=rows["severity"].map({name: i for i, name in enumerate(SEVERITIES)}),
        size=rows["effect"].abs(),
        is_allowed=is_allowed(rows, today),
    )
    parts = dict(iter(rows[rows["group"] != ""].groupby([*_DROP, "against"])))
    drops: list[dict[Hashable, Any]] = []
    for key, alarms in raised.groupby(_DROP, sort=False):
        ordered = alarms.sort_values(["rank", "size"], ascending=False, kind="stable")
        worst = ordered.iloc[0].to_dict()
        own = parts.get((*key, worst["against"]), rows.iloc[:0])
        drops.append({**worst, "alarms": ordered.to_dict("records"), "parts": own.to_dict("records")})
    return sorted(drops, key=lambda drop: (drop["is_allowed"], -drop["rank"], -drop["size"]))


def _line(drop: Mapping[Hashable, Any], width: int) -> str:
    label = "allowed" if drop["is_allowed"] else drop["severity"]
    falls = " and ".join(_fall(group) for group in _same_reference(drop["alarms"]))
    line = (
        f"{label:<{width}}  {drop['task']}  {drop['model']}  {drop['checkpoint']}: "
        f"{drop['metric']} {drop['value']:.3g}, {falls}"
    )
    if drop["parts"]:
        parts = sorted(drop["parts"], key=lambda part: -abs(part["effect"]))
        named = ", ".join(f"{part['group']} {part['change']:+.2g}" for part in parts[:_MOST_PARTS])
        line += f"; {named}{', …' if len(parts) > _MOST_PARTS else ''}"
    if drop["allowed"]:
        until = f" until {drop['allowed_until']}" if drop["allowed_until"] else ""
        expired = "" if drop["is_allowed"] else ", which has expired"
        line += f" [{drop['severity']}, allowed{until}{expired}: {drop['allowed']}]"
    return line


def _same_reference(alarms: Iterable[Mapping[Hashable, Any]]) -> list[list[Mapping[Hashable, Any]]]:
    """Group the alarms of a drop by the checkpoint they were compared with."""
    groups: dict[object, list[Mapping[Hashable, Any]]] = {}
    for one in alarms:
        groups.setdefault(one["reference"], []).append(one)
    return list(groups.values())


def _fall(alarms: list[Mapping[Hashable, Any]]) -> str:
    change, p = alarms[0]["change"], max(one["p_adjusted"] for one in alarms)
    names = " and ".join(_REFERENCES[one["against"]] for one in alarms)
    p_text = f"= {p:.2g}" if p >= _SMALLEST_P else f"< {_SMALLEST_P:g}"
    where = "below" if change < 0 else "above"
    fall = f"{abs(change):.3g} {where} {names} ({alarms[0]['reference']}): p_adj {p_text}"
    return ", ".join(filter(None, (fall, in_words(alarms[0]))))


def _last(table: pd.DataFrame, missing: pd.DataFrame) -> dict[str, str]:
    """Return the last checkpoint of each model, compared or not."""
    names = ["model", "checkpoint", "step", "tokens"]
    places = pd.concat([table[names], missing[names]]).drop_duplicates(["model", "checkpoint"])
    last = {model: in_training_order(rows)["checkpoint"].iloc[-1] for model, rows in places.groupby("model")}
    return {str(model): str(name) for model, name in last.items()}


def _unwatched(table: pd.DataFrame, missing: pd.DataFrame) -> list[str]:
    """Return models (with the checkpoint) that have comparisons, but none of their last checkpoint."""
    last = _last(table, missing)
    compared = set(zip(table["model"], table["checkpoint"], strict=True))
    return [f"{m} ({last[m]})" for m in table["model"].unique() if (m, last[m]) not in compared]


def _missing_lines(missing: pd.DataFrame) -> list[str]:
    """Return a line per model and reason."""
    messages = []
    for (model, reason, remedy), rows in missing.groupby(["model", "reason", "remedy"], sort=False):
        checkpoints = list(dict.fromkeys(rows["checkpoint"]))
        tasks = list(dict.fromkeys(rows["task"]))
        where = f"{model} {listed(checkpoints)}, {listed(tasks)}"
        messages.append(f"Not compared: {where}: {reason}. {remedy}")
    more = len(messages) - MAX_LINES
    return [*messages[:MAX_LINES], f"… and {more} more in not_compared.tsv"] if more > 0 else messages


def _models(rows: pd.DataFrame) -> str:
    return f"{counted(rows['model'].nunique(), 'model')} on {counted(rows['task'].nunique(), 'task')}"


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
