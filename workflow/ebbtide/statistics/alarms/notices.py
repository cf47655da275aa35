"""Notices of alarms and trends: what was not compared or could not be seen, and stale entries of allow."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.metrics.direction import is_share, unit_of
from ebbtide.notices import Notice, counted, listed
from ebbtide.statistics.alarms.allow import in_words, matches
from ebbtide.statistics.alarms.not_compared import ONLY_BASELINE, has_own_notice
from ebbtide.statistics.alarms.seeds import MISSING_SEEDS

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
        *stale(alarms, config["alarms"]["allow"], today),
        *_blunt(alarms, config["trends"]["equivalence_margin"]),
        *_untested(trends, missing),
        *_without_early_warning(metrics, trends),
        *without_seeds(alarms),
    ]


def _not_compared(missing: pd.DataFrame) -> Iterator[Notice]:
    left = missing[~has_own_notice(missing)]
    for (model, reason, remedy), rows in left.groupby(["model", "reason", "remedy"], sort=False):
        tasks, checkpoints = (list(dict.fromkeys(rows[name])) for name in ("task", "checkpoint"))
        of = tasks[0] if len(tasks) == 1 else f"{len(tasks)} tasks ({listed(tasks)})"
        what = "alarms" if reason == ONLY_BASELINE else "alarms, trends or forgetting"
        yield Notice(
            "note",
            "not_compared",
            f"No {what} for {of}: {reason}.",
            str(remedy),
            str(model),
            _only(checkpoints),
            _only(tasks),
            len(rows),
        )


def _not_followed(alarms: pd.DataFrame, wanted: Sequence[str]) -> Iterator[Notice]:
    """The task has none of the metrics that are followed."""
    other = alarms[~alarms["metric"].isin(list(wanted))].drop_duplicates(["task", "metric"])
    if other.empty:
        return
    tasks = list(dict.fromkeys(other["task"]))
    pairs = [f"{metric} of {task}" for task, metric in zip(other["task"], other["metric"], strict=True)]
    detail = (
        f"Alarms and trends follow {listed(pairs)}, which "
        f"{'has' if len(tasks) == 1 else 'have'} no values of {' or '.join(wanted)} by example."
    )
    remedy = "Add the metric to follow to trajectories.metrics, if it is another."
    yield Notice("note", "defaulted", detail, remedy, task=_only(tasks), count=len(tasks))


def stale(alarms: pd.DataFrame, allow: Sequence[Mapping[str, Any]], today: date) -> Iterator[Notice]:
    """Entries of `alarms.allow` that have expired, or that match no alarm."""
    for number, entry in enumerate(allow):
        found = int(matches(alarms, entry).sum())
        name = f"alarms.allow[{number}] ({in_words(entry)})"
        of = {"model": entry["model"], "task": entry["task"]}
        if entry["until"] and entry["until"] < today.isoformat():
            counts = f"and {counted(found, 'alarm')} count again" if found else "and it matches no alarm"
            detail = f"{name} expired on {entry['until']}, {counts}."
            kind = "suspicious" if found else "unused"
            yield Notice("warning", kind, detail, "Remove the entry, or set until to a later day.", **of)
        elif not found:
            models, tasks = set(alarms["model"]), set(alarms["task"])
            why = "there is no such alarm"
            if entry["model"] not in models:
                why = f"no model {entry['model']} was compared"
            elif entry["task"] not in tasks:
                why = f"no task {entry['task']} was compared"
            yield Notice(
                "note", "unused", f"{name} matches nothing: {why}.", "Correct or remove the entry.", **of
            )


def _blunt(alarms: pd.DataFrame, margin: float) -> Iterator[Notice]:
    """Comparisons that could not have seen a change by the margin of equivalence."""
    quiet = alarms[(alarms["group"] == "") & (alarms["severity"] == "")]
    for metric, rows in quiet.groupby("metric", sort=False):
        drop, of = rows["minimum_detectable_drop"].to_numpy(dtype=float), ""  # in the unit of the metric
        if is_share(str(metric), rows["value"]):
            in_margins = drop  # in the unit of the margin
        else:
            with np.errstate(divide="ignore", invalid="ignore"):
                sd = np.abs(rows["change"].to_numpy(float) / rows["effect"].to_numpy(float))
            in_margins = drop / np.where(np.isfinite(sd) & (sd > 0), sd, np.inf)
            of = " standard deviations of examples"
        blunt = np.isnan(drop) | (in_margins > margin)
        if not blunt.any():
            continue
        tasks = list(dict.fromkeys(rows["task"][blunt]))
        which = f" ({listed(tasks)})" if len(tasks) > 1 else ""
        known = blunt & ~np.isnan(drop)
        seen = "no drop of any size"
        if known.any():
            seen = f"only drops above {np.median(in_margins[known]):.2g}{of} (median"
            if of:
                seen += f"; {np.median(drop[known]):.2g} {unit_of(str(metric)) or 'in its own unit'}"
            seen += ")"
        detail = (
            f"{int(blunt.sum())} of {len(rows)} comparisons of {metric} without an alarm detect {seen} with "
            f"80 % probability, more than trends.equivalence_margin {margin:g}{of}{which}: no alarm "
            "does not mean no change."
        )
        remedy = "Use more examples, or judge by the intervals in alarms.tsv."
        yield Notice("note", "low_power", detail, remedy, task=_only(tasks), count=int(blunt.sum()))


def without_seeds(alarms: pd.DataFrame) -> Iterator[Notice]:
    """Comparisons that some run of the same recipe says nothing about."""
    alarms = alarms[alarms["group"] == ""]
    noted = alarms[alarms["note"].str.contains(f"{MISSING_SEEDS} ", regex=False, na=False)]
    for model, rows in noted.groupby("model", sort=False):
        note = next(one for one in rows["note"].iloc[0].split("; ") if one.startswith(MISSING_SEEDS))
        of = int((alarms["model"] == model).sum())
        yield Notice(
            "note",
            "not_compared",
            f"{len(rows)} of {of} comparisons are put beside fewer seeds than its recipe has: {note}.",
            "Score the runs at the same checkpoints and on the same examples, or set runs.tolerance.",
            model=str(model),
            count=len(rows),
        )


def _untested(trends: pd.DataFrame, missing: pd.DataFrame) -> Iterator[Notice]:
    """Trends that were not tested, of models and tasks that have alarms."""
    absent = set(zip(missing["model"], missing["task"], strict=True))
    pairs = zip(trends["model"], trends["task"], strict=True)
    kept = trends[np.array([pair not in absent for pair in pairs], dtype=bool)]
    if kept.empty:
        return
    notes = kept["note"].str.split("; ").explode()
    why = notes[notes.str.contains("|".join(_UNTESTED), regex=True, na=False)]
    for reason, rows in why.groupby(why, sort=False):
        of = kept.loc[rows.index]
        names = list(dict.fromkeys(f"{m} on {t}" for m, t in zip(of["model"], of["task"], strict=True)))
        detail = f"No trend of {listed(names)}: {str(reason).split(':')[0]}."
        yield Notice("note", "not_compared", detail, "Add checkpoints or examples.", count=len(names))


def _without_early_warning(metrics: pd.DataFrame, trends: pd.DataFrame) -> Iterator[Notice]:
    having = set(metrics.loc[metrics["metric"] == "accuracy", "task"])
    tasks = [task for task in dict.fromkeys(trends["task"]) if task not in having]
    if tasks:
        detail = f"No early warning for {listed(tasks)}: it compares signals with accuracy."
        yield Notice("note", "not_compared", detail, task=_only(tasks), count=len(tasks))


def _only(names: Sequence[str]) -> str:
    """Return the name if there is only one, else the empty text, which means several."""
    return names[0] if len(names) == 1 else ""
