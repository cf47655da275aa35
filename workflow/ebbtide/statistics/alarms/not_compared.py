"""Models and tasks, or single checkpoints, that were not compared with anything, and why."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ebbtide.notices import listed
from ebbtide.statistics.panel import Trajectory, trained_in_order

_OTHER_EXAMPLES = "its examples are not those of the other"
_MEANS = "imported as means, without the results of single examples"
ONLY_BASELINE = "only compared with the baseline (alarms.against)"
COLUMNS = ("model", "checkpoint", "step", "tokens", "task", "reason", "remedy")


class Seen(NamedTuple):
    """What was known of the examples of a task at the checkpoints of a model."""

    checkpoints: frozenset[str]
    valued: bool  # whether any example has a value of a followed metric


class Watched:
    """Trajectories as they are read, one model in memory at a time; `seen` says afterwards what they had."""

    def __init__(self, trajectories: Iterable[Trajectory], metrics: Sequence[str]) -> None:
        self._trajectories, self._metrics = trajectories, metrics
        self.seen: dict[tuple[str, str], Seen] = {}

    def __iter__(self) -> Iterator[Trajectory]:
        for one in self._trajectories:
            valued = any(one.counted(name)[0].size for name in one.available(self._metrics))
            self.seen[one.model, one.task] = Seen(frozenset(one.checkpoints["checkpoint"]), valued)
            yield one


def not_compared(
    metrics: pd.DataFrame,
    table: pd.DataFrame,
    seen: Mapping[tuple[str, str], Seen],
    settings: Mapping[str, Any],
    examples: Collection[tuple[str, str, str]],
) -> pd.DataFrame:
    """Return one row per model and task without comparisons, and per later checkpoint without any.

    Parameters
    ----------
    metrics
        Rows of `tables.METRICS`: all results that the study has.
    table
        The comparisons.
    seen
        `Watched.seen`.
    settings
        `metrics` of the section `trajectories`, and `against` of `alarms`.
    examples
        Model, checkpoint and task of all results with examples (`panel.having_examples`).

    Returns
    -------
    Columns `COLUMNS`. A model and task without comparisons has a row for its last trained checkpoint.
    """
    keys = ["model", "task"]
    compared = {key: set(rows["checkpoint"]) for key, rows in table.groupby(keys)}
    rows: list[Mapping[Any, Any]] = []
    for (model, task), results in metrics.groupby(keys, sort=False):
        key = str(model), str(task)
        found = seen.get(key, Seen(frozenset(), valued=False))
        trained = _trained(results)
        have = compared.get(key, set())
        left = trained.iloc[1:] if have else trained.tail(1)
        for place in left.to_dict("records"):
            if place["checkpoint"] not in have:
                has_examples = (model, place["checkpoint"], task) in examples
                why = _why(place, trained, found, have, settings, has_examples=has_examples)
                rows.append(dict(place) | {"task": task, "reason": why[0], "remedy": why[1]})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def has_own_notice(missing: pd.DataFrame) -> np.ndarray:
    """Whether each reason has a notice of its own: of imports, or of examples that differ (`panel`)."""
    found: np.ndarray = missing["reason"].astype(str).str.startswith((_MEANS, _OTHER_EXAMPLES)).to_numpy()
    return found


def _trained(results: pd.DataFrame) -> pd.DataFrame:
    names = ["model", "checkpoint", "step", "tokens", "source"]
    return trained_in_order(results[names].drop_duplicates(["checkpoint"]))


def _why(  # noqa: PLR0911 (one return per reason)
    place: Mapping[Any, Any],
    trained: pd.DataFrame,
    found: Seen,
    have: set[str],
    settings: Mapping[str, Any],
    *,
    has_examples: bool,
) -> tuple[str, str]:
    """Return the reason why a checkpoint was compared with nothing, and the remedy."""
    imported = place["source"] == "imported"
    if place["checkpoint"] not in found.checkpoints:
        if has_examples:
            reason = f"{_OTHER_EXAMPLES} {len(found.checkpoints)} checkpoints"
            return reason, "Evaluate all checkpoints on the same examples."
        if imported:
            return _MEANS, "Import the samples instead."
        reason = "measured by lm-eval's own code, which gives no results of single examples"
        return reason, "Compare a task that Ebbtide measures itself."
    if not found.valued:
        wanted = ", ".join(settings["metrics"])
        reason = f"no example has a value at all checkpoints ({wanted}, or the task's main metric)"
        return reason, "Set trajectories.metrics to a metric of the task."
    if len(trained) == 1:
        source = "Import" if imported else "Score"
        return "one trained checkpoint, so there is nothing to compare it with", f"{source} more checkpoints."
    if settings["against"] == ["baseline"]:
        return ONLY_BASELINE, "Add predecessor or best to alarms.against."
    if len(found.checkpoints) == 1 and not have:
        others = np.setdiff1d(trained["checkpoint"], list(found.checkpoints))
        reason = f"the examples of the other checkpoints ({listed(others)}) are different or unknown"
        return reason, "Evaluate all checkpoints on the same examples."
    return "no other checkpoint has the same examples", "Evaluate all checkpoints on the same examples."
