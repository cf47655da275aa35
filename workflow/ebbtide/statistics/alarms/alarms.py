"""Compare every checkpoint with the previous one, with the best earlier one, and with a named baseline."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.errors import CellError
from ebbtide.metrics.direction import sign_of, signs_of
from ebbtide.statistics.alarms.allow import with_allowed
from ebbtide.statistics.alarms.by_group import parts
from ebbtide.statistics.alarms.high_water import high_water
from ebbtide.statistics.alarms.paired import compare
from ebbtide.statistics.alarms.seeds import OtherSeeds
from ebbtide.statistics.multiplicity import adjusted
from ebbtide.statistics.panel import Trajectory

SEVERITIES = ("minor", "moderate", "severe")
COLUMNS = (
    *("model", "task", "metric", "group", "checkpoint", "step", "tokens", "against", "reference"),
    *("value", "reference_value", "change", "low", "high", "n", "discordant", "p", "p_adjusted", "effect"),
    *("severity", "allowed", "allowed_until", "minimum_detectable_drop"),
    *("seed_runs", "seed_change", "seed_change_sd", "seed_sds", "note"),
)


def alarms(
    trajectories: Iterable[Trajectory],
    settings: Mapping[str, Any],
    baselines: Mapping[str, str] | None = None,
    others: Sequence[Trajectory] = (),
    levels: Mapping[str, pd.DataFrame] | None = None,
    *,
    recipes: Mapping[str, str] | None = None,
    tolerance: float = 0.0,
) -> pd.DataFrame:
    """Compare checkpoints on the same examples.

    Parameters
    ----------
    trajectories
        All models and tasks.
    settings
        `metrics` and `alpha` of the config section `trajectories`; `against`, `family`, `effects` and, if
        any, `allow` of `alarms`.
    baselines
        Model → name of the baseline checkpoint in the same training run.
    others
        Baseline of another model: one trajectory with one checkpoint per task. Used for models that are not
        in `baselines`.
    levels
        Task → levels of its groups by example (`by_group.read_levels`).
    recipes
        Model → recipe of the models that have a replicate (`replicates.replicates`).
    tolerance
        Largest difference of training tokens at which these are compared, as a share of them.

    Returns
    -------
    One row per comparison, in training order, with the columns of `paired.compare` and those below. All
    changes are those of the values as they are: of a loss, an increase is the deterioration.

    against, reference
        `predecessor`, `best` (the high-water mark) or `baseline`, and the name of that checkpoint. An
        untrained checkpoint (step 0) only occurs in comparisons with the baseline.
    p, low, high
        Against the best, p is that of the most significant fall from any earlier checkpoint (max-T), and the
        interval is simultaneous over all earlier checkpoints (see `high_water`).
    p_adjusted
        Benjamini & Hochberg over the family: all rows, or the rows of one checkpoint of one model.
    severity
        `minor`, `moderate` or `severe` by |effect| if the metric got worse and p_adjusted is below alpha;
        otherwise empty.
    group
        Empty. After these rows follow, for each alarm of a task with groups, its parts: the same comparison
        in the examples of `NAME=LEVEL`, without severity and outside the family.
    seed_runs, seed_change, seed_change_sd, seed_sds
        What other runs of the recipe show over the same tokens (see `seeds`). No severity depends on them.
    allowed, allowed_until
        Reason and last day of the entry of `alarms.allow` that matches an alarm.

    Raises
    ------
    CellError
        The baseline of another model has different examples.
    """
    found: list[pd.DataFrame] = []
    broken_down: list[dict[Any, Any]] = []
    seeds = OtherSeeds(recipes or {}, tolerance)
    for trajectory in trajectories:
        seeds.add(trajectory, settings["metrics"])
        compared = list(_compare_all(trajectory, settings, (baselines or {}).get(trajectory.model), others))
        found += compared
        if levels and trajectory.task in levels:
            broken_down += _parts(trajectory, compared, levels[trajectory.task], settings["alpha"])
    if not found:
        return pd.DataFrame(columns=list(COLUMNS))
    table = pd.concat(found, ignore_index=True).assign(group="")
    table["p_adjusted"] = _adjusted(table, settings["family"])
    table["severity"] = _severities(table, settings["alpha"], settings["effects"])
    table = with_allowed(seeds.compared(table), settings.get("allow", ()))
    if broken_down:
        raised = table.loc[table["severity"] != "", list(_KEY)]
        rows = pd.DataFrame(broken_down).merge(raised, on=list(_KEY))
        table = pd.concat([table, rows.assign(allowed="", allowed_until="", seed_runs="")], ignore_index=True)
    return table[list(COLUMNS)]


_KEY = ("model", "task", "metric", "checkpoint", "against")


def _parts(
    trajectory: Trajectory, compared: Sequence[pd.DataFrame], levels: pd.DataFrame, alpha: float
) -> Iterator[dict[Any, Any]]:
    """Yield the parts of every comparison that may become an alarm once p is adjusted."""
    for table in compared:
        for row in table[is_worse(table) & (table["p"] < alpha)].to_dict("records"):
            yield from parts(trajectory, levels, row, alpha)


def is_worse(table: pd.DataFrame) -> pd.Series:
    """Whether each change is a deterioration: a decrease, or an increase if lower is better."""
    return table["change"] * signs_of(table["metric"]) < 0


def _compare_all(
    trajectory: Trajectory, settings: Mapping[str, Any], baseline: str | None, others: Sequence[Trajectory]
) -> Iterator[pd.DataFrame]:
    wanted = settings["against"]
    for metric in trajectory.available(settings["metrics"]):
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
        self.sign = sign_of(metric)
        self.values, self.clusters = trajectory.counted(metric)
        self.names = trajectory.checkpoints["checkpoint"].to_numpy()

    def rows(self, against: str, new: np.ndarray, old: np.ndarray) -> pd.DataFrame:
        """Compare checkpoints `new` with `old`, both given as indices."""
        found = compare(self.values[new], self.values[old], self.clusters, self.alpha, sign=self.sign)
        return self._labelled(found, against, new, self.names[old], self.values[old].mean(axis=1))

    def against_best(self) -> pd.DataFrame:
        """Compare each checkpoint except the first with the high-water mark."""
        new = np.arange(1, len(self.values))
        oriented = self.values * self.sign  # higher is better
        mark = high_water(oriented, self.clusters, self.trajectory.task, self.alpha)
        found = compare(
            self.values[new], self.values[mark.best], self.clusters, self.alpha, mark.critical, sign=self.sign
        )
        pairs = found["p"].to_numpy(copy=True)
        if (other := mark.strongest != mark.best).any():
            pair = compare(
                self.values[new[other]], self.values[mark.strongest[other]], self.clusters, self.alpha
            )
            pairs[other] = pair["p"]
        # If too few draws exceed the statistic, use Bonferroni over the earlier checkpoints. With one earlier
        # checkpoint it is exact.
        bounds = np.minimum(new * pairs, 1.0)
        found["p"] = np.where(mark.resolved, mark.p, np.where(new > 1, np.fmin(mark.p, bounds), bounds))
        notes = [
            f"p is that of the most significant fall, from {name}" if differs else ""
            for name, differs in zip(self.names[mark.strongest], other, strict=True)
        ]
        found["note"] = ["; ".join(filter(None, both)) for both in zip(found["note"], notes, strict=True)]
        return self._labelled(found, "best", new, self.names[mark.best], self.values[mark.best].mean(axis=1))

    def against_baseline(self, baseline: str | None, others: Sequence[Trajectory]) -> Iterator[pd.DataFrame]:
        """Compare checkpoints after the baseline of this run, or all checkpoints with another model's."""
        of_task = [other for other in others if other.task == self.trajectory.task]
        if baseline is not None and baseline in self.names:
            index = int(np.flatnonzero(self.names == baseline)[0])
            new = np.arange(index + 1, len(self.values))
            if len(new):
                yield self.rows("baseline", new, np.full(len(new), index))
        elif of_task and self.metric in of_task[0].values:
            other = of_task[0]
            if not np.array_equal(other.examples, self.trajectory.examples):
                raise CellError(
                    f"task {other.task}: {self.trajectory.model} and the baseline {other.model} have "
                    "different examples. Score both with the same task."
                )
            old = np.broadcast_to(other.counted(self.metric)[0], self.values.shape)
            found = compare(self.values, old, self.clusters, self.alpha, sign=self.sign)
            name = f"{other.model}/{other.checkpoints['checkpoint'].iloc[0]}"
            yield self._labelled(found, "baseline", np.arange(len(old)), name, old.mean(axis=1))

    def _labelled(
        self,
        found: pd.DataFrame,
        against: str,
        new: np.ndarray,
        reference: np.ndarray | str,
        reference_value: np.ndarray,
    ) -> pd.DataFrame:
        checkpoints = self.trajectory.checkpoints.iloc[new].reset_index(drop=True)
        return found.assign(
            model=self.trajectory.model,
            task=self.trajectory.task,
            metric=self.metric,
            checkpoint=checkpoints["checkpoint"],
            step=checkpoints["step"],
            tokens=checkpoints["tokens"],
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
