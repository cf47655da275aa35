"""Alarms: every checkpoint against the one before, against the best so far, and against a named baseline."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.errors import CellError
from ebbtide.metrics.direction import sign_of, signs_of
from ebbtide.statistics.alarms.high_water import high_water
from ebbtide.statistics.alarms.paired import compare
from ebbtide.statistics.multiplicity import adjusted
from ebbtide.statistics.panel import Trajectory

SEVERITIES = ("minor", "moderate", "severe")
COLUMNS = (
    *("model", "task", "metric", "checkpoint", "step", "tokens", "against", "reference"),
    *("value", "reference_value", "change", "low", "high", "n", "discordant", "p", "p_adjusted", "effect"),
    *("severity", "minimum_detectable_drop", "note"),
)


def alarms(
    trajectories: Iterable[Trajectory],
    settings: Mapping[str, Any],
    baselines: Mapping[str, str] | None = None,
    others: Sequence[Trajectory] = (),
) -> pd.DataFrame:
    """Compare checkpoints on the same examples.

    Parameters
    ----------
    trajectories
        All models and tasks.
    settings
        `metrics` and `alpha` of the config's section `trajectories`, `against`, `family` and `effects` of
        `alarms`.
    baselines
        Model → the checkpoint of its own training that later ones are compared with.
    others
        A checkpoint of another model, one trajectory of one place per task, that all are compared with
        instead.

    Returns
    -------
    One row per comparison, in the order of training: the columns of `paired.compare` and

    against, reference
        `predecessor`, `best` (so far: the high-water mark) or `baseline`, and which checkpoint that is. An
        untrained one (step 0) is compared with a baseline only, or as one.
    p, low, high
        Against the best, p is that of the surest fall from any earlier checkpoint, by max-T over all of them,
        and the interval holds for all of them at once (see `high_water`).
    p_adjusted
        Benjamini & Hochberg over the family: all rows, or the rows of one checkpoint of one model.
    severity
        Of a change for the worse with p_adjusted below alpha: minor, moderate or severe by |effect|; else
        empty.

    Raises
    ------
    CellError
        The baseline was asked other examples.
    """
    parts = [
        rows
        for trajectory in trajectories
        for rows in _compare_all(trajectory, settings, (baselines or {}).get(trajectory.model), others)
    ]
    if not parts:
        return pd.DataFrame(columns=list(COLUMNS))
    table = pd.concat(parts, ignore_index=True)
    table["p_adjusted"] = _adjusted(table, settings["family"])
    table["severity"] = _severities(table, settings["alpha"], settings["effects"])
    return table[list(COLUMNS)]


def is_worse(table: pd.DataFrame) -> pd.Series:
    """Whether the change is for the worse: down, or up where less is better."""
    return table["change"] * signs_of(table["metric"]) < 0


def _compare_all(
    trajectory: Trajectory, settings: Mapping[str, Any], baseline: str | None, others: Sequence[Trajectory]
) -> Iterator[pd.DataFrame]:
    wanted = settings["against"]
    for metric in trajectory.watched(settings["metrics"]):
        if not trajectory.counted(metric)[0].size:
            continue
        trained = _Metric(trajectory.trained(), metric, settings["alpha"])
        checkpoints = np.arange(len(trained.values))
        if len(checkpoints) > 1 and "predecessor" in wanted:
            yield trained.rows("predecessor", checkpoints[1:], checkpoints[:-1])
        if len(checkpoints) > 1 and "best" in wanted:
            yield trained.against_best()
        if "baseline" in wanted:
            yield from _Metric(trajectory, metric, settings["alpha"]).against_baseline(baseline, others)


class _Metric:
    """One metric of one trajectory."""

    def __init__(self, trajectory: Trajectory, metric: str, alpha: float) -> None:
        self.trajectory, self.metric, self.alpha = trajectory, metric, alpha
        self.values, self.clusters = trajectory.counted(metric)
        self.names = trajectory.places["checkpoint"].to_numpy()

    def rows(self, against: str, new: np.ndarray, old: np.ndarray) -> pd.DataFrame:
        """Checkpoints `new` against `old`, as numbers of places."""
        found = compare(self.values[new], self.values[old], self.clusters, self.alpha)
        return self._named(found, against, new, self.names[old], self.values[old].mean(axis=1))

    def against_best(self) -> pd.DataFrame:
        """Each checkpoint but the first against the high-water mark."""
        new = np.arange(1, len(self.values))
        turned = self.values * sign_of(self.metric)
        mark = high_water(turned, self.clusters, self.trajectory.task, self.alpha)
        found = compare(self.values[new], self.values[mark.best], self.clusters, self.alpha, mark.critical)
        pairs = found["p"].to_numpy(copy=True)
        if (other := mark.strongest != mark.best).any():
            surest = compare(
                self.values[new[other]], self.values[mark.strongest[other]], self.clusters, self.alpha
            )
            pairs[other] = surest["p"]
        # Where few draws reach so far, Bonferroni over the earlier checkpoints; with one of these it is
        # exact.
        bounds = np.minimum(new * pairs, 1.0)
        found["p"] = np.where(mark.resolved, mark.p, np.where(new > 1, np.fmin(mark.p, bounds), bounds))
        said = [
            f"p is of the surest fall, from {name}" if differs else ""
            for name, differs in zip(self.names[mark.strongest], other, strict=True)
        ]
        found["note"] = ["; ".join(filter(None, both)) for both in zip(found["note"], said, strict=True)]
        return self._named(found, "best", new, self.names[mark.best], self.values[mark.best].mean(axis=1))

    def against_baseline(self, baseline: str | None, others: Sequence[Trajectory]) -> Iterator[pd.DataFrame]:
        """Checkpoints after the baseline of the same training, or all against that of another model."""
        of_task = [other for other in others if other.task == self.trajectory.task]
        if baseline is not None and baseline in self.names:
            place = int(np.flatnonzero(self.names == baseline)[0])
            new = np.arange(place + 1, len(self.values))
            if len(new):
                yield self.rows("baseline", new, np.full(len(new), place))
        elif of_task and self.metric in of_task[0].values:
            other = of_task[0]
            if not np.array_equal(other.examples, self.trajectory.examples):
                raise CellError(
                    f"task {other.task}: {self.trajectory.model} and the baseline {other.model} were not "
                    "asked the same examples; score both with the same task."
                )
            old = np.broadcast_to(other.counted(self.metric)[0], self.values.shape)
            found = compare(self.values, old, self.clusters, self.alpha)
            name = f"{other.model}/{other.places['checkpoint'].iloc[0]}"
            yield self._named(found, "baseline", np.arange(len(old)), name, old.mean(axis=1))

    def _named(
        self,
        found: pd.DataFrame,
        against: str,
        new: np.ndarray,
        reference: np.ndarray | str,
        reference_value: np.ndarray,
    ) -> pd.DataFrame:
        places = self.trajectory.places.iloc[new].reset_index(drop=True)
        return found.assign(
            model=self.trajectory.model,
            task=self.trajectory.task,
            metric=self.metric,
            checkpoint=places["checkpoint"],
            step=places["step"],
            tokens=places["tokens"],
            against=against,
            reference=reference,
            value=self.values[new].mean(axis=1),
            reference_value=reference_value,
        )


def _adjusted(table: pd.DataFrame, family: str) -> np.ndarray:
    of = None if family == "study" else table.groupby(["model", "checkpoint"]).ngroup().to_numpy()
    return adjusted(table["p"].to_numpy(dtype=float), "bh", of)


def _severities(table: pd.DataFrame, alpha: float, effects: Mapping[str, float]) -> np.ndarray:
    size = table["effect"].abs().to_numpy()
    grades = np.select(
        [size >= effects["severe"], size >= effects["moderate"]], ["severe", "moderate"], "minor"
    )
    raised = is_worse(table) & (table["p_adjusted"] < alpha)
    return np.where(raised, grades, "")
