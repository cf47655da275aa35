"""The outcome of training for every model and task: what got worse, turned, got better, or is undecided."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.metrics.chosen import followed_metrics
from ebbtide.metrics.direction import sign_of
from ebbtide.statistics.panel import in_training_order, trained_in_order
from ebbtide.statistics.shape import EQUIVALENCE_MARGIN
from ebbtide.statistics.trends.mean_trends import KEY, mean_trends

# Column `ability` of the trends → its outcome, in the order of the summary.
OUTCOMES = {
    "worsens": "got worse",
    "improves, then worsens": "peaked, then got worse",
    "worsens, then improves": "got worse, then better",
    "undecided": "undecided",
    "improves": "got better",
    "flat": "no change",
    # Of metrics of which neither more nor less is better.
    "falls": "fell",
    "rises, then falls": "rose, then fell",
    "falls, then rises": "fell, then rose",
    "rises": "rose",
}
_ABOUT_BENDS = ("no bend", "a bend")  # notes that are no reason for an undecided class
COLUMNS = (
    *("outcome", "task", "metric", "model", "first_checkpoint", "first", "last_checkpoint", "last"),
    *("best_checkpoint", "best", "worst_checkpoint", "worst"),
    *("slope", "low", "high", "evidence", "minimum_detectable_drop", "reason"),
)


def outcomes(
    metrics: pd.DataFrame,
    trends: pd.DataFrame | None,
    alarms: pd.DataFrame | None,
    *,
    followed: Sequence[str],
    alpha: float = 0.05,
    equivalence_margin: float = EQUIVALENCE_MARGIN,
) -> pd.DataFrame:
    """Return one row per model, task and followed metric, columns `COLUMNS`.

    Parameters
    ----------
    metrics
        Rows of `tables.METRICS`.
    trends
        Rows of trends.tsv, which decide the outcome where they exist; None if no examples are known.
    alarms
        Rows of alarms.tsv; the minimum detectable drop is that of the last checkpoint against the best.
    followed
        Metrics that are followed; a task with none of them has its main metric.

    Returns
    -------
    Rows in the order of `OUTCOMES`, then of tasks, then of model sizes, largest first. `first` and `last` are
    the values at the first and last trained checkpoint, `best` and `worst` those over all trained
    checkpoints. `evidence` names the clearest change in the direction of the outcome,
    `reason` says why a row is undecided.
    """
    if metrics.empty:  # a study without models
        return pd.DataFrame(columns=list(COLUMNS))
    judged = _judged(metrics, trends, followed, alpha, equivalence_margin)
    curves = {key: rows for key, rows in metrics.groupby(list(KEY), sort=False)}
    drops = _detectable(alarms)
    rows = [
        _row(one, trained_in_order(curves[key]), drops.get(key, np.nan))
        for one in judged.to_dict("records")
        if (key := tuple(one[name] for name in KEY)) in curves
    ]
    table = pd.DataFrame(rows, columns=[*COLUMNS, "size"])
    order = {name: i for i, name in enumerate(OUTCOMES.values())}
    tasks = {name: i for i, name in enumerate(dict.fromkeys(metrics["task"]))}
    table = table.assign(at=table["outcome"].map(order), task_at=table["task"].map(tasks))
    table = table.sort_values(["at", "task_at", "size"], ascending=[True, True, False], kind="stable")
    return table[list(COLUMNS)].reset_index(drop=True)


def _judged(
    metrics: pd.DataFrame,
    trends: pd.DataFrame | None,
    followed: Sequence[str],
    alpha: float,
    equivalence_margin: float,
) -> pd.DataFrame:
    """Return the trends of examples, and those of means for models and tasks without examples."""
    known = set() if trends is None else set(zip(trends["model"], trends["task"], strict=True))
    rest = metrics[[pair not in known for pair in zip(metrics["model"], metrics["task"], strict=True)]]
    names = rest.groupby(["model", "task"], sort=False)["metric"].transform(
        lambda metric: f"{', '.join(followed_metrics(list(dict.fromkeys(metric)), followed))}, "
    )
    chosen = [f"{one}, " in several for one, several in zip(rest["metric"], names, strict=True)]
    of_means = mean_trends(rest[np.array(chosen, dtype=bool)], alpha, equivalence_margin)
    return of_means if trends is None else pd.concat([trends, of_means], ignore_index=True)


def _detectable(alarms: pd.DataFrame | None) -> Mapping[Any, float]:
    """Return the minimum detectable drop of each curve's last checkpoint, by model, task and metric."""
    if alarms is None or alarms.empty:
        return {}
    rows = alarms[(alarms["against"] == "best") & (alarms["group"] == "")]
    curves = rows.groupby(list(KEY), sort=False)
    return {key: float(in_training_order(of)["minimum_detectable_drop"].iloc[-1]) for key, of in curves}


def _evidence(trend: Mapping[Any, Any]) -> str:
    """Return the clearest change of a rising or falling curve in words; empty if only means are known."""
    name = {"rising": "rise", "falling": "fall"}.get(str(trend["class"]), "")
    if not name or pd.isna(trend.get(name, np.nan)):
        return ""
    size, start, end = trend[name], trend[f"{name}_from"], trend[f"{name}_to"]
    return f"clearest change by {size:.2g} from {start} to {end}"


def _row(trend: Mapping[Any, Any], rows: pd.DataFrame, drop: float) -> dict[str, Any]:
    values = rows["value"].to_numpy(dtype=float) * sign_of(str(trend["metric"]))
    ends = {"first": 0, "last": -1}
    if not np.isnan(values).all():
        ends |= {"best": int(np.nanargmax(values)), "worst": int(np.nanargmin(values))}
    at = {name: (str(rows["checkpoint"].iloc[i]), float(rows["value"].iloc[i])) for name, i in ends.items()}
    outcome = OUTCOMES[str(trend["ability"])]
    return {
        "outcome": outcome,
        **{name: trend[name] for name in (*KEY, "slope", "low", "high")},
        **{f"{name}_checkpoint": checkpoint for name, (checkpoint, _) in at.items()},
        **{name: value for name, (_, value) in at.items()},
        "minimum_detectable_drop": drop,
        "evidence": _evidence(trend),
        "reason": "; ".join(p for p in str(trend["note"]).split("; ") if not p.startswith(_ABOUT_BENDS)),
        "size": int(rows["parameters_non_embedding"].max()),
    }
