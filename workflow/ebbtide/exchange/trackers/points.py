"""Rows of the metrics table as points of trackers: a name, a training step and a value."""

import re
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.errors import TrackerError
from ebbtide.metrics.direction import with_properties
from ebbtide.notices import counted, listed

Z = NormalDist().inv_cdf(0.975)  # standard errors of a normal interval with a coverage of 95 %
STEP, TOKENS = "training_step", "training_tokens"
COLUMNS = ("name", "step", "value", "tokens", "checkpoint")
LONGEST = 250  # characters of a name: the least that a tracker allows

_TO_READ = str.maketrans({"[": "/", "]": "", "=": ":", "/": "_"})
_FORBIDDEN = re.compile(r"[^A-Za-z0-9_./: -]")


def points_of(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the points of one model, in the order of training.

    Every metric with a value has the point `TASK/METRIC`. If its standard error is known, it also has
    `TASK/METRIC/low` and `TASK/METRIC/high`: the 95 % interval of the figures, value ± 1.96 standard errors
    over examples, clipped to 0 and 1 for shares. `training_tokens` has the tokens of checkpoints, if known.

    Parameters
    ----------
    metrics
        Rows of the table of metrics (`tables.METRICS`) of one model.

    Returns
    -------
    Table with `COLUMNS`: `step` in training steps, `tokens` in training tokens (0 is untrained or unknown).
    Equal points are listed once.

    Raises
    ------
    TrackerError
        Two metrics have the same name in trackers, or a name is too long for them.
    """
    rows = with_properties(metrics).dropna(subset="value")
    rows = rows.assign(name=_names(rows))
    reach = Z * rows["stderr"]
    ends = {"low": rows["value"] - reach, "high": rows["value"] + reach}
    parts = [rows]
    for end, values in ends.items():
        clipped = values.clip(0, 1).where(rows["is_share"], values)
        parts.append(rows.assign(name=rows["name"] + f"/{end}", value=clipped).dropna(subset="value"))
    known = metrics[(metrics["tokens"] > 0) | (metrics["step"] == 0)]
    seen = known.drop_duplicates("checkpoint")
    parts.append(seen.assign(name=TOKENS, value=seen["tokens"].astype(float)))
    points = pd.concat([part[list(COLUMNS)] for part in parts], ignore_index=True)
    finite = points[np.isfinite(points["value"])]
    ordered = finite.sort_values(["step", "tokens", "checkpoint"], kind="stable")
    unique: pd.DataFrame = ordered.drop_duplicates(["name", "step", "value"], ignore_index=True)
    return unique


def left_out(metrics: pd.DataFrame) -> list[str]:
    """Return sentences about the rows of a model that trackers cannot show as they are."""
    found = []
    if undefined := int((~np.isfinite(metrics["value"])).sum()):
        found.append(f"{counted(undefined, 'undefined value')} not published")
    checkpoints = metrics.drop_duplicates("checkpoint")
    unknown = checkpoints[(checkpoints["tokens"] == 0) & (checkpoints["step"] > 0)]
    if len(unknown):
        found.append(f"training tokens unknown at {counted(len(unknown), 'checkpoint')}")
    for step, of_step in checkpoints.groupby("step"):
        if len(of_step) > 1:
            found.append(f"step {step} has {len(of_step)} checkpoints ({listed(of_step['checkpoint'])})")
    return found


def tracker_name(task: str, metric: str) -> str:
    """Return the name of a metric in trackers: `t/accuracy/part:1` for `accuracy[part=1]` of task t.

    Only characters that every tracker allows are in it; others become `_`.
    """
    base, bracket, group = metric.partition("[")
    named = base.translate(_TO_READ) + ("/" + group.replace("]", "").translate(_TO_READ) if bracket else "")
    return _FORBIDDEN.sub("_", f"{task}/{named}")


def history_rows(points: pd.DataFrame) -> list[tuple[int, dict[str, Any]]]:
    """Return a step and a row per checkpoint, in the order of training: points, name and tokens."""
    found = []
    for checkpoint, of in points.sort_values(["step", "tokens"], kind="stable").groupby(
        "checkpoint", sort=False
    ):
        step, tokens = int(of["step"].iloc[0]), int(of["tokens"].iloc[0])
        known = {TOKENS: float(tokens)} if tokens > 0 or step == 0 else {}
        values = dict(zip(of["name"], of["value"], strict=True))
        found.append((step, {"checkpoint": checkpoint, **known, **values}))
    return found


def _names(rows: pd.DataFrame) -> pd.Series:
    """The name of every row. Raises `TrackerError` for one that is not usable."""
    names: dict[tuple[str, str], str] = {}
    owners: dict[str, tuple[str, str]] = {}
    for task, metric in rows[["task", "metric"]].drop_duplicates().itertuples(index=False):
        name = tracker_name(task, metric)
        if len(name) + len("/high") > LONGEST:
            raise TrackerError(
                f"task {task}: metric {metric[:60]}…: its name has {len(name)} characters, and trackers "
                f"allow {LONGEST - len('/high')}; give the task or the group a shorter name."
            )
        other, other_metric = owners.setdefault(name, (task, metric))
        if (other, other_metric) != (task, metric):
            raise TrackerError(
                f"task {task}: the metrics {other_metric!r} and {metric!r} would both be {name!r} in "
                "trackers; rename a level of the group."
            )
        names[task, metric] = name
    keys = zip(rows["task"], rows["metric"], strict=True)
    return pd.Series([names[key] for key in keys], rows.index, dtype=object)
