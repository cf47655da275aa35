"""Notices of alarms and trends: what was not compared or could not be seen, and stale entries of allow."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.metrics.direction import is_share
from ebbtide.notices import Notice
from ebbtide.statistics.alarms.allow import in_words, matches

_UNTESTED = ("nothing is tested", "no trend", "too few examples")  # in notes of trends that were not tested


def alarm_notices(
    alarms: pd.DataFrame,
    missing: pd.DataFrame,
    trends: pd.DataFrame,
    metrics: pd.DataFrame,
    *,
    config: Mapping[str, Any],
    today: date,
) -> list[Notice]:
    """Return the notices of the stages alarms and trends.

    Parameters
    ----------
    alarms, missing, trends
        Rows of alarms.tsv, not_compared.tsv and trends.tsv; empty if the study has none.
    metrics
        Rows of `tables.METRICS`.
    config
        Configuration of the study: sections `alarms`, `trajectories` and `trends`.
    today
        The day on which entries of `alarms.allow` are judged.
    """
    return [
        *_not_compared(missing),
        *_not_followed(alarms, config["trajectories"]["metrics"]),
        *_stale(alarms, config["alarms"]["allow"], today),
        *_blunt(alarms, config["trends"]["equivalence_margin"]),
        *_untested(trends),
        *_untrained(metrics),
        *_without_early_warning(metrics, trends),
    ]


def _not_compared(missing: pd.DataFrame) -> Iterator[Notice]:
    for (model, reason, remedy), rows in missing.groupby(["model", "reason", "remedy"], sort=False):
        tasks, checkpoints = (list(dict.fromkeys(rows[name])) for name in ("task", "checkpoint"))
        what = tasks[0] if len(tasks) == 1 else f"{len(tasks)} tasks ({', '.join(tasks[:3])}{_more(tasks)})"
        yield Notice(
            "warning",
            "not_compared",
            f"No alarms for {what} of {model}: {reason}.",
            str(remedy),
            str(model),
            _only(checkpoints),
            _only(tasks),
            len(rows),
        )


def _not_followed(alarms: pd.DataFrame, wanted: Sequence[str]) -> Iterator[Notice]:
    """The task has none of the metrics that are followed."""
    other = alarms[~alarms["metric"].isin(list(wanted))]
    for metric, rows in other.groupby("metric", sort=False):
        tasks = list(dict.fromkeys(rows["task"]))
        detail = (
            f"Alarms and trends follow {metric} of {', '.join(tasks[:3])}{_more(tasks)}, which "
            f"{'has' if len(tasks) == 1 else 'have'} no values of {' or '.join(wanted)} by example."
        )
        remedy = "Add the metric to follow to trajectories.metrics, if it is another."
        yield Notice(
            "note", "defaulted", detail, remedy, task=tasks[0] if len(tasks) == 1 else "", count=len(tasks)
        )


def _stale(alarms: pd.DataFrame, allow: Sequence[Mapping[str, Any]], today: date) -> Iterator[Notice]:
    """Entries of `alarms.allow` that have expired, or that match no alarm."""
    for number, entry in enumerate(allow):
        found = int(matches(alarms, entry).sum())
        name = f"alarms.allow[{number}] ({in_words(entry)})"
        of = {"model": entry["model"], "task": entry["task"]}
        if entry["until"] and entry["until"] < today.isoformat():
            counts = f"and {found} alarms count again" if found else "and it matches no alarm"
            detail = f"{name} expired on {entry['until']}, {counts}."
            yield Notice(
                "warning", "suspicious", detail, "Remove the entry, or set until to a later day.", **of
            )
        elif not found:
            models, tasks = set(alarms["model"]), set(alarms["task"])
            why = "there is no such alarm"
            if entry["model"] not in models:
                why = f"no model {entry['model']} was compared"
            elif entry["task"] not in tasks:
                why = f"no task {entry['task']} was compared"
            yield Notice(
                "note", "suspicious", f"{name} matches nothing: {why}.", "Correct or remove the entry.", **of
            )


def _blunt(alarms: pd.DataFrame, margin: float) -> Iterator[Notice]:
    """Comparisons that could not have seen a change by the margin of equivalence."""
    quiet = alarms[(alarms["group"] == "") & (alarms["severity"] == "")]
    for (task, metric), rows in quiet.groupby(["task", "metric"], sort=False):
        drop = rows["minimum_detectable_drop"].to_numpy(dtype=float)
        unit = np.ones(len(rows))
        if not is_share(str(metric), rows["value"]):
            with np.errstate(divide="ignore", invalid="ignore"):  # the margin is in standard deviations
                unit = np.abs(rows["change"].to_numpy(float) / rows["effect"].to_numpy(float))
        blunt = np.isnan(drop) | (drop > margin * np.where(np.isfinite(unit), unit, np.inf))
        if not blunt.any():
            continue
        known = drop[blunt & ~np.isnan(drop)]
        seen = f"only drops above {np.median(known):.2g} (median)" if len(known) else "no drop of any size"
        detail = (
            f"{int(blunt.sum())} of {len(rows)} comparisons of {metric} without an alarm detect {seen} with "
            f"80 % probability, more than the margin {margin:g}: no alarm does not mean no change."
        )
        remedy = "Use more examples, or judge by the intervals in alarms.tsv."
        yield Notice("note", "not_compared", detail, remedy, task=str(task), count=int(blunt.sum()))


def _untested(trends: pd.DataFrame) -> Iterator[Notice]:
    if trends.empty:
        return
    notes = trends["note"].str.split("; ").explode()
    why = notes[notes.str.contains("|".join(_UNTESTED), regex=True, na=False)]
    for reason, rows in why.groupby(why, sort=False):
        of = trends.loc[rows.index]
        names = list(dict.fromkeys(f"{m} on {t}" for m, t in zip(of["model"], of["task"], strict=True)))
        detail = f"No trend of {', '.join(names[:3])}{_more(names)}: {str(reason).split(':')[0]}."
        yield Notice("note", "not_compared", detail, "Add checkpoints or examples.", count=len(names))


def _untrained(metrics: pd.DataFrame) -> Iterator[Notice]:
    places = metrics[["model", "checkpoint", "step", "tokens"]].drop_duplicates(["model", "checkpoint"])
    for model, rows in places.groupby("model", sort=False):
        untrained = rows[(rows["step"] == 0) & (rows["tokens"] == 0)]
        if len(untrained) and len(untrained) < len(rows):
            first = str(untrained["checkpoint"].iloc[0])
            detail = f"{first} is untrained: trends leave it out, and alarms use it as a baseline only."
            yield Notice("note", "dropped", detail, "", str(model), first)
        unknown = rows[(rows["step"] > 0) & (rows["tokens"] == 0)]
        if len(unknown) and (rows["tokens"] > 0).any():
            names = list(unknown["checkpoint"])
            listed = f"{', '.join(names[:3])}{_more(names)}"
            detail = f"The training tokens of {listed} are unknown, so trends leave them out."
            remedy = "Set tokens_per_step, or tokens, for all checkpoints of the model."
            yield Notice("warning", "dropped", detail, remedy, str(model), count=len(names))


def _without_early_warning(metrics: pd.DataFrame, trends: pd.DataFrame) -> Iterator[Notice]:
    having = set(metrics.loc[metrics["metric"] == "accuracy", "task"])
    tasks = [task for task in dict.fromkeys(trends["task"]) if task not in having]
    if tasks:
        detail = (
            f"No early warning for {', '.join(tasks[:3])}{_more(tasks)}: it compares signals with accuracy."
        )
        yield Notice(
            "note", "not_compared", detail, "", task=tasks[0] if len(tasks) == 1 else "", count=len(tasks)
        )


def _only(names: Sequence[str]) -> str:
    """Return the name if there is only one, else the empty text, which means several."""
    return names[0] if len(names) == 1 else ""


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - 3} more" if len(names) > 3 else ""
