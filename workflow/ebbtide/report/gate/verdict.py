"""From the tables of alarms to the structure of the gate."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.notices import counted
from ebbtide.report.gate.examples import Examples
from ebbtide.report.gate.gate import (
    ALARMS,
    PASSED,
    WRONG,
    Case,
    Detectable,
    Drop,
    Fall,
    Gate,
    NotCompared,
    Part,
)
from ebbtide.statistics.alarms.alarms import SEVERITIES
from ebbtide.statistics.alarms.allow import is_allowed
from ebbtide.statistics.alarms.notices import stale
from ebbtide.statistics.alarms.seeds import in_words
from ebbtide.statistics.panel import in_training_order

Row = Mapping[Any, Any]
_DROP = ("model", "task", "metric", "checkpoint")


def selected_rows(table: pd.DataFrame, missing: pd.DataFrame, checkpoints: str) -> pd.DataFrame:
    """Return the comparisons of all checkpoints (`all`), or of the last of each model (`last`).

    The last is that of all results, also if it was not compared (`missing`, see `not_compared`).
    """
    if checkpoints == "all" or table.empty:
        return table
    last = _last(table, missing)
    return table[table["checkpoint"] == table["model"].map(last)]


def gate_of(
    table: pd.DataFrame,
    missing: pd.DataFrame,
    settings: Mapping[str, Any],
    today: date,
    *,
    study: str = "",
    examples: Examples | None = None,
) -> Gate:
    """Return the verdict.

    The status is 2 if nothing was compared, also if that holds for the last checkpoint of a model with
    several and `checkpoints` is `last`; 1 if a selected checkpoint has an alarm of severity `fail_on` or
    above that is not allowed; else 0.

    Parameters
    ----------
    table
        Rows of alarms.tsv.
    missing
        Rows of not_compared.tsv.
    settings
        `fail_on`, `checkpoints` and `allow` of the config section `alarms`.
    today
        The day on which entries of `alarms.allow` are judged.
    examples
        The examples that got worse; without them, drops have none.
    """
    fail_on, checkpoints = settings["fail_on"], settings["checkpoints"]
    grave = () if fail_on == "never" else SEVERITIES[SEVERITIES.index(fail_on) :]
    rows = selected_rows(table, missing, checkpoints).reset_index(drop=True)
    unwatched = _unwatched(table, missing) if checkpoints == "last" else {}
    drops = tuple(_drops(rows, today, grave, examples))
    whole = rows[rows["group"] == ""]
    status, reason = _status(whole, unwatched, drops, fail_on, grave)
    return Gate(
        study,
        today,
        fail_on,
        checkpoints,
        status,
        reason,
        comparisons=len(whole),
        models=whole["model"].nunique(),
        tasks=whole["task"].nunique(),
        drops=drops,
        cases=tuple(_cases(whole, missing, drops, grave, unwatched)),
        detectable=tuple(_detectable(whole[whole["severity"] == ""])),
        not_compared=tuple(_not_compared(missing)),
        allowances=tuple(
            f"{one.detail} {one.remedy}" for one in stale(table, settings.get("allow", ()), today)
        ),
    )


def not_checked(study: str, settings: Mapping[str, Any], today: date, causes: Sequence[str]) -> Gate:
    """Return the verdict on a run that failed before alarms were checked; `causes` say what failed."""
    reason = f"A job failed, so alarms were not checked: exit status {WRONG}."
    return Gate(
        study, today, settings["fail_on"], settings["checkpoints"], WRONG, reason, causes=tuple(causes)
    )


def _status(
    rows: pd.DataFrame,
    unwatched: Mapping[str, str],
    drops: Sequence[Drop],
    fail_on: str,
    grave: Sequence[str],
) -> tuple[int, str]:
    if rows.empty or unwatched:
        names = ", ".join(f"{model} ({checkpoint})" for model, checkpoint in unwatched.items())
        at = f" at the last checkpoint of {names}" if unwatched else ""
        return WRONG, f"Nothing was compared{at}, so the gate fails: exit status {WRONG}."
    if fail_on == "never":
        return PASSED, f"alarms.fail_on is never: exit status {PASSED}."
    raised = sum(drop.fails for drop in drops)
    allowed = sum(drop.severity in grave and drop.is_allowed for drop in drops)
    also = f" ({allowed} allowed)" if allowed else ""
    if not raised:
        return PASSED, f"No alarm at or above {fail_on}{also}: exit status {PASSED}."
    return ALARMS, f"{counted(raised, 'alarm')} at or above {fail_on}{also}: exit status {ALARMS}."


def _drops(rows: pd.DataFrame, today: date, grave: Sequence[str], examples: Examples | None) -> list[Drop]:
    """Return the alarms, one per metric and checkpoint, worst first and allowed ones last."""
    raised = rows[rows["severity"] != ""]
    raised = raised.assign(
        rank=raised["severity"].map({name: i for i, name in enumerate(SEVERITIES)}),
        size=raised["effect"].abs(),
        is_allowed=is_allowed(raised, today),
    )
    ordered = raised.sort_values(["rank", "size"], ascending=False, kind="stable")
    by_drop = _by(ordered.to_dict("records"), _DROP)
    parts = _by(rows[rows["group"] != ""].to_dict("records"), (*_DROP, "against"))
    # Of equal drops, the one that comes first in the table is the first.
    places = {key: number for number, key in enumerate(_by(raised.to_dict("records"), _DROP))}
    found = [
        (
            (alarms[0]["is_allowed"], -alarms[0]["rank"], -alarms[0]["size"], places[key]),
            _drop(alarms, parts.get((*key, alarms[0]["against"]), ()), grave),
        )
        for key, alarms in by_drop.items()
    ]
    drops = [drop for _, drop in sorted(found, key=lambda pair: pair[0])]
    return drops if examples is None else [replace(one, examples=examples.of(one)) for one in drops]


def _by(rows: Iterable[Row], names: Sequence[str]) -> dict[tuple[Any, ...], list[Row]]:
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names), []).append(row)
    return found


def _drop(alarms: Sequence[Row], parts: Iterable[Row], grave: Sequence[str]) -> Drop:
    worst = alarms[0]
    step, tokens = _whole(worst["step"]), _whole(worst["tokens"])
    own = sorted(parts, key=lambda part: -abs(part["effect"]))
    return Drop(
        model=str(worst["model"]),
        task=str(worst["task"]),
        metric=str(worst["metric"]),
        checkpoint=str(worst["checkpoint"]),
        step=step,
        tokens=None if not tokens and step else tokens,  # 0 is the tokens of an untrained checkpoint
        value=float(worst["value"]),
        severity=str(worst["severity"]),
        allowed=str(worst["allowed"]),
        allowed_until=str(worst["allowed_until"]),
        is_allowed=bool(worst["is_allowed"]),
        fails=worst["severity"] in grave and not worst["is_allowed"],
        falls=tuple(_fall(of) for of in _by(alarms, ["reference"]).values()),
        parts=tuple(Part(str(part["group"]), float(part["change"])) for part in own),
    )


def _fall(alarms: Sequence[Row]) -> Fall:
    worst = alarms[0]
    return Fall(
        tuple(str(one["against"]) for one in alarms),
        str(worst["reference"]),
        _real(worst["reference_value"]),
        float(worst["change"]),
        _real(worst["low"]),
        _real(worst["high"]),
        int(worst["n"]),
        _whole(worst["discordant"]),
        max(float(one["p_adjusted"]) for one in alarms),
        _real(worst["effect"]),
        in_words(worst),
    )


def _cases(
    rows: pd.DataFrame,
    missing: pd.DataFrame,
    drops: Sequence[Drop],
    grave: Sequence[str],
    unwatched: Mapping[str, str],
) -> Iterable[Case]:
    """Yield a case for each model and task: those that were compared, then those that were not."""
    by_case: dict[tuple[str, str], list[Drop]] = {}
    for drop in drops:
        by_case.setdefault((drop.model, drop.task), []).append(drop)
    compared = Counter(zip(rows["model"], rows["task"], strict=True))
    for (model, task), count in compared.items():
        own = tuple(by_case.get((model, task), ()))
        outcome = "passed"
        if any(drop.fails for drop in own):
            outcome = "failed"
        elif any(drop.severity in grave for drop in own):
            outcome = "allowed"
        yield Case(model, task, outcome, count, own)
    names = missing[["model", "task"]].itertuples(index=False)
    reasons = dict(zip(names, missing["reason"], strict=True))  # the last row: the last checkpoint
    for (model, task), reason in reasons.items():
        if (model, task) not in compared:
            is_wrong = not compared or model in unwatched
            outcome = "error" if is_wrong else "not_compared"
            yield Case(str(model), str(task), outcome, 0, (), str(reason))


def _last(table: pd.DataFrame, missing: pd.DataFrame) -> dict[str, str]:
    """Return the last checkpoint of each model, compared or not."""
    names = ["model", "checkpoint", "step", "tokens"]
    places = pd.concat([table[names], missing[names]]).drop_duplicates(["model", "checkpoint"])
    last = {model: in_training_order(rows)["checkpoint"].iloc[-1] for model, rows in places.groupby("model")}
    return {str(model): str(name) for model, name in last.items()}


def _unwatched(table: pd.DataFrame, missing: pd.DataFrame) -> dict[str, str]:
    """Return models that have comparisons, but none of their last checkpoint, with its name."""
    last = _last(table, missing)
    compared = set(zip(table["model"], table["checkpoint"], strict=True))
    return {m: last[m] for m in map(str, table["model"].unique()) if (m, last[m]) not in compared}


def _not_compared(missing: pd.DataFrame) -> Iterable[NotCompared]:
    """Yield one item per model and reason."""
    for (model, reason, remedy), rows in missing.groupby(["model", "reason", "remedy"], sort=False):
        checkpoints, tasks = (tuple(dict.fromkeys(map(str, rows[name]))) for name in ("checkpoint", "task"))
        yield NotCompared(str(model), checkpoints, tasks, str(reason), str(remedy))


def _detectable(quiet: pd.DataFrame) -> Iterable[Detectable]:
    for metric, drops in quiet.groupby("metric")["minimum_detectable_drop"]:
        known = drops.dropna().to_numpy(dtype=float)
        sizes = (np.median(known), known.min(), known.max()) if known.size else (None, None, None)
        yield Detectable(str(metric), len(drops), *(None if size is None else float(size) for size in sizes))


def _real(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)


def _whole(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)
