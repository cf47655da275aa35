"""What other seeds show over the same checkpoints: a yardstick for the change of one run.

A run changes by d between a reference and a checkpoint. The other k runs of its recipe change by d_j between
their checkpoints with the same training tokens (`same_tokens`), on the same examples:

    seed_change = mean of d_j            seed_change_sd² = Σ_j (d_j - seed_change)² / (k - 1)
    seed_sds = d / seed_change_sd

The question is whether another seed would have shown this drop. So the standard deviation is that of the
*change*: how far runs are apart in their values cancels within a run. Nothing is subtracted from it. It
contains all that another run would draw anew: its seed, its single checkpoints, and its answers to the
examples. A run is left out of its own yardstick, because no run of R can be more than (R - 1) / √R standard
deviations from the mean of all (1.15 of three).

`seed_sds` says how the change compares with the differences between seeds. `seed_change` says whether the
other seeds change as well. If the recipe does not change, seed_sds has the t distribution with k - 1 degrees
of freedom: 5 % are beyond 12.7 with k = 2, 4.3 with k = 3, 2.4 with k = 8. That holds for a comparison chosen
in advance. Alarms, and references that are the best so far, are chosen because the change is large. With
k = 1 there is no `seed_change_sd`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as t_distribution

from ebbtide.statistics.panel import Trajectory
from ebbtide.statistics.same_tokens import nearest

COLUMNS = ("seed_runs", "seed_change", "seed_change_sd", "seed_sds")
_NONE: Mapping[str, object] = {
    "seed_runs": "",
    "seed_change": np.nan,
    "seed_change_sd": np.nan,
    "seed_sds": np.nan,
}
_ROUNDING = 1e-12
MISSING_SEEDS = "no seed of"  # begins the note about runs that cannot be compared
_UNKNOWN = "unknown training tokens"
_EXAMPLES = "other examples"
_CHECKPOINTS = "no checkpoint at the same training tokens"


@dataclass(frozen=True)
class _Run:
    """Means of a metric of one run at K checkpoints of known training tokens, ascending.

    Attributes
    ----------
    tokens_of
        Checkpoint → its training tokens; NaN if unknown.
    tokens, means
        (K,) each.
    """

    model: str
    examples: np.ndarray
    tokens_of: Mapping[str, float]
    tokens: np.ndarray
    means: np.ndarray


class OtherSeeds:
    """The means of all runs that have a replicate, and what they say of the changes of each other.

    Parameters
    ----------
    recipes
        Model → recipe (`replicates.replicates`).
    tolerance
        Largest difference of training tokens that count as the same, as a share of them.
    """

    def __init__(self, recipes: Mapping[str, str], tolerance: float = 0.0) -> None:
        self._recipes, self._tolerance = recipes, tolerance
        self._runs: dict[tuple[str, str, str], list[_Run]] = {}

    def add(self, trajectory: Trajectory, metrics: Sequence[str]) -> None:
        """Keep the means of a model that has a replicate, at checkpoints of known training tokens."""
        recipe = self._recipes.get(trajectory.model)
        if recipe is None:
            return
        of = trajectory.checkpoints
        known = ((of["tokens"] > 0) | (of["step"] == 0)).to_numpy()
        tokens = np.where(known, of["tokens"].to_numpy(dtype=float), np.nan)
        for metric in trajectory.available(metrics):
            counts = ~np.isnan(trajectory.values[metric]).any(axis=0)
            if not counts.any():
                continue
            means = trajectory.values[metric][:, counts].mean(axis=1)
            of_names = dict(zip(of["checkpoint"], tokens, strict=True))
            distinct, first = np.unique(tokens[known], return_index=True)
            own = trajectory.examples[counts]
            run = _Run(trajectory.model, own, of_names, distinct, means[known][first])
            self._runs.setdefault((recipe, trajectory.task, metric), []).append(run)

    def compared(self, table: pd.DataFrame) -> pd.DataFrame:
        """Add `COLUMNS` to comparisons, empty without another run; `note` names the runs that are missing.

        Parameters
        ----------
        table
            Rows of `alarms.alarms`.
        """
        rows = [self._of(row) for row in table.to_dict("records")]
        found = pd.DataFrame(rows, index=table.index, columns=[*COLUMNS, "missing"])
        notes = ["; ".join(filter(None, both)) for both in zip(table["note"], found["missing"], strict=True)]
        return table.assign(**{name: found[name] for name in COLUMNS}, note=notes)

    def _of(self, row: Mapping[Any, Any]) -> dict[str, object]:
        recipe = self._recipes.get(row["model"])
        runs = self._runs.get((str(recipe), row["task"], row["metric"]), [])
        own = [run for run in runs if run.model == row["model"]]
        if not own:
            return {**_NONE, "missing": ""}
        changes: dict[str, float] = {}
        missing: dict[str, list[str]] = {}
        for run in runs:
            # A baseline may be a checkpoint of another run of the recipe, which shows nothing of itself.
            if run is own[0] or str(row["reference"]).startswith(f"{run.model}/"):
                continue
            change = _change(own[0], run, row, self._tolerance)
            if isinstance(change, str):
                missing.setdefault(change, []).append(run.model)
            else:
                changes[run.model] = change
        reasons = ", ".join(f"{', '.join(models)} ({why})" for why, models in missing.items())
        note = f"{MISSING_SEEDS} {reasons}" if missing else ""
        return {**_summary(row["change"], changes), "missing": note}


def _change(own: _Run, other: _Run, row: Mapping[Any, Any], tolerance: float) -> float | str:
    """Return the change of another run over the tokens of a comparison, or why there is none."""
    if not np.array_equal(own.examples, other.examples):
        return _EXAMPLES
    from_other = row["against"] == "baseline" and row["reference"] not in own.tokens_of
    names = [row["checkpoint"]] if from_other else [row["checkpoint"], row["reference"]]
    tokens = np.array([own.tokens_of.get(name, np.nan) for name in names])
    if np.isnan(tokens).any() or not len(other.tokens):
        return _UNKNOWN
    at = nearest(tokens, other.tokens, tolerance)
    if (at < 0).any():
        return _CHECKPOINTS
    # The baseline of another model is the same for all runs.
    reference = row["reference_value"] if from_other else other.means[at[1]]
    return float(other.means[at[0]] - reference)


def _summary(change: float, of_others: Mapping[str, float]) -> dict[str, object]:
    if not of_others:
        return dict(_NONE)
    changes = np.array(list(of_others.values()))
    sd = float(changes.std(ddof=1)) if len(changes) > 1 else np.nan
    sd = 0.0 if sd < _ROUNDING else sd
    return {
        "seed_runs": ", ".join(of_others),
        "seed_change": float(changes.mean()),
        "seed_change_sd": sd,
        "seed_sds": change / sd if sd > 0 else np.nan,
    }


def in_words(alarm: Mapping[Any, Any]) -> str:
    """Return what other seeds show, to be read after the change of an alarm; empty without another run."""
    if not alarm["seed_runs"]:
        return ""
    count, change = alarm["seed_runs"].count(", ") + 1, f"{alarm['seed_change']:+.2g}"
    if count == 1:
        return f"the other run changes by {change}"
    if np.isnan(alarm["seed_sds"]):
        return f"all {count} other runs change by {change}"
    rare = t_distribution.ppf(0.975, count - 1)
    return (
        f"the {count} other runs change by {change} on average; this is {abs(alarm['seed_sds']):.2g} of "
        f"their standard deviations (5 % are beyond {rare:.3g} if the recipe does not change)"
    )
