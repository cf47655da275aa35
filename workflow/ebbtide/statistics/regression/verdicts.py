"""Verdict on each task, with the two rules of *Emergent inabilities?*"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ebbtide.metrics.direction import direction_of, sign_of
from ebbtide.notices import counted, listed
from ebbtide.statistics.regression.design import Size
from ebbtide.statistics.replicates import Place, common_sizes, replicates
from ebbtide.statistics.same_tokens import common

NO_SIZES = "no change of the largest model: the sizes of all models are unknown"
NO_ENDS = "no change of the largest model: it has fewer than two checkpoints with training tokens"
NO_COMMON_ENDS = "no change of the largest size: its {runs} runs have fewer than two checkpoints in common"


class Ends(NamedTuple):
    """The largest model, or the mean of the runs of the largest size, at its first and last checkpoint.

    Attributes
    ----------
    model
        Name of the model, or of what the runs have in common (`Place.recipe`); empty if there is no change.
    first, last
        `checkpoint` and `value`.
    runs
        Number of runs; 0: a model without replicates.
    seed_change_sd
        Standard deviation of the change over runs; NaN for one.
    note
        Why there is no change, or which runs are left out.
    """

    model: str
    first: dict[str, Any]
    last: dict[str, Any]
    runs: int = 0
    seed_change_sd: float = np.nan
    note: str = ""

    @property
    def change(self) -> float:
        """Last minus first value; NaN if unknown."""
        return float(self.last["value"] - self.first["value"])

    def __str__(self) -> str:
        """Name and values in words; empty without a change."""
        of = f", mean of {counted(self.runs, 'run')}" if self.runs else ""
        sd = f"; sd of the change over runs {self.seed_change_sd:.2g}" if self.runs > 1 else ""
        values = f"{self.first['value']:.3g} → {self.last['value']:.3g}"
        return f"{self.model}{of} ({values}{sd})" if self.model else ""


NOTHING = {"checkpoint": "", "value": np.nan}


def verdicts(
    metrics: pd.DataFrame,
    regressions: pd.DataFrame,
    *,
    parameters: Size = "non_embedding",
    alpha: float = 0.05,
    places: Mapping[str, Place] | None = None,
    tolerance: float = 0.0,
) -> pd.DataFrame:
    """Return the verdict on each task: one row per task and metric.

    `regressions` must be in the standardised form; in the raw form, the slope over tokens is that at N = 1.
    `places` says which models differ only by seed, as for `regress`. Checkpoints of replicates are the same
    if their training tokens differ by at most the share `tolerance` (`same_tokens`).

    decreased
        The largest model is strictly worse at its last checkpoint than at its first trained one. Of
        replicates, the mean counts, at the first and last checkpoint that all runs of the largest size have.
    runs, seed_change_sd
        Number of these replicates, and the standard deviation of their changes; empty without.
    consistent
        The interaction has t < 0 and adjusted p < `alpha`: larger models lose more with training. Both rules
        are those of *Emergent inabilities?* (final version).
    verdict
        `ebbs` (decreased, with a negative slope over tokens, significant at `alpha`), `ebbs with size` (ebbs
        and consistent), `rises` (a significantly positive slope, and not decreased) or `undecided`.
    why
        The reason for `undecided`; empty for other verdicts.

    For losses, the signs of change and t are reversed before the rules are applied, but not in the columns.
    """
    rows = metrics[metrics["tokens"] > 0]
    places = places or {}
    out = []
    for (task, metric), terms in regressions.groupby(["task", "metric"], sort=False):
        sign = sign_of(str(metric))
        term = terms.set_index("term")
        cells = rows[(rows["task"] == task) & (rows["metric"] == metric)]
        ends = _ends_of_largest(cells, cells[f"parameters_{parameters}"], places, tolerance)
        decreased = sign * ends.change < 0
        tokens: Any = term.loc["tokens"]
        interaction: Any = term.loc["interaction"]
        consistent = bool(sign * interaction["t"] < 0 and interaction["p_adjusted"] < alpha)
        why = _why_undecided(str(metric), tokens, alpha, decreased, ends)
        out.append(
            {
                "task": task,
                "metric": metric,
                "model": ends.model,
                "first_checkpoint": ends.first["checkpoint"],
                "last_checkpoint": ends.last["checkpoint"],
                "first": ends.first["value"],
                "last": ends.last["value"],
                "change": ends.change,
                "runs": ends.runs or pd.NA,
                "seed_change_sd": ends.seed_change_sd,
                "decreased": decreased,
                "tokens_t": tokens["t"],
                "tokens_p_adjusted": tokens["p_adjusted"],
                "interaction_t": interaction["t"],
                "interaction_p_adjusted": interaction["p_adjusted"],
                "consistent": consistent,
                "verdict": "undecided" if why else _verdict(decreased, consistent),
                "why": why,
                "note": "; ".join(filter(None, (tokens["note"], ends.note))),
            }
        )
    table = pd.DataFrame(out)
    return table.astype({"runs": "Int64"}) if out else table


def _ends_of_largest(
    cells: pd.DataFrame, size: pd.Series, places: Mapping[str, Place], tolerance: float
) -> Ends:
    """Return the largest model, or the replicates of the largest size, with first and last checkpoint.

    Of several, that with the most runs is taken, then the first by name. There is none if it has one
    checkpoint, or if the sizes of several models are unknown.
    """
    if cells.empty:
        return Ends("", NOTHING, NOTHING, note=NO_ENDS)
    if not (size > 0).any() and cells["model"].nunique() > 1:
        return Ends("", NOTHING, NOTHING, note=NO_SIZES)
    recipes = replicates({model: places[model] for model in cells["model"].unique() if model in places})
    of_model = common_sizes({str(m): float(n) for m, n in size.groupby(cells["model"]).max().items()}, places)
    size = cells["model"].map(of_model)
    name_of = cells["model"].map(lambda model: recipes.get(model, model))
    runs = cells.groupby(name_of)["model"].nunique()
    name, *others = sorted(name_of[size == size.max()].unique(), key=lambda one: (-runs[one], one))
    largest = cells[name_of == name].sort_values("tokens")
    tied = f"{listed(others)} of the same size not counted" if recipes and others else ""
    if name in recipes.values():
        ends = _mean_ends(name, largest, tolerance)
    elif len(largest) < 2:
        ends = Ends("", NOTHING, NOTHING, note=NO_ENDS)
    else:
        ends = Ends(name, *largest[["checkpoint", "value"]].iloc[[0, -1]].to_dict("records"))
    return ends._replace(note="; ".join(filter(None, (ends.note, tied))))


def _mean_ends(name: str, cells: pd.DataFrame, tolerance: float) -> Ends:
    """Return the means of replicates at the first and last tokens that all of them have.

    Runs with one checkpoint are left out, and counted in the note. `cells` are in the order of tokens.
    """
    known = cells.dropna(subset="value").drop_duplicates(["model", "tokens"], keep="last")
    runs = [rows for _, rows in known.groupby("model")]
    several = [rows for rows in runs if len(rows) > 1]
    of = common([rows["tokens"].to_numpy(dtype=float) for rows in several], tolerance) if several else None
    if of is None or of.shape[1] < 2:
        return Ends("", NOTHING, NOTHING, note=NO_COMMON_ENDS.format(runs=cells["model"].nunique()))
    first, last = (
        pd.DataFrame([rows.iloc[at] for rows, at in zip(several, of[:, end], strict=True)]) for end in (0, -1)
    )
    changes = last["value"].to_numpy(dtype=float) - first["value"].to_numpy(dtype=float)
    alone, count = len(runs) - len(several), len(runs)
    note = f"{alone} of {count} runs of {name} have one checkpoint and are left out" if alone else ""
    sd = float(changes.std(ddof=1)) if len(several) > 1 else np.nan
    return Ends(name, _mean_of(first), _mean_of(last), len(several), sd, note)


def _mean_of(cells: pd.DataFrame) -> dict[str, Any]:
    names = ", ".join(cells["checkpoint"].unique())
    return {"checkpoint": names, "value": float(cells["value"].mean())}


def _verdict(decreased: bool, consistent: bool) -> str:
    """Return the verdict on a task whose slope over tokens and change agree."""
    if not decreased:
        return "rises"
    return "ebbs with size" if consistent else "ebbs"


def _why_undecided(metric: str, tokens: Any, alpha: float, decreased: bool, ends: Ends) -> str:
    """Return why slope and change give no verdict; empty if they give one.

    `tokens` is the row of the slope over tokens in the table of regressions.
    """
    if np.isnan(tokens["t"]):
        return str(tokens["note"])
    if not direction_of(metric):
        return f"neither a higher nor a lower {metric} is better, so no change is a verdict"
    if not tokens["p_adjusted"] < alpha:
        of = "" if pd.isna(tokens["runs"]) else f" with {tokens['runs']} runs of {tokens['sizes']} sizes"
        return f"the slope over tokens is not significant at regression.alpha {alpha:g}{of}"
    worse = bool(sign_of(metric) * tokens["t"] < 0)
    if worse == decreased:
        return ""
    over_all = f"over all models the metric gets {'worse' if worse else 'better'} with training"
    largest = "largest size" if ends.runs else "largest model"
    if not ends.model:
        return f"{over_all}, but there is no {largest} with two checkpoints to confirm it"
    return f"{over_all}, but the {largest} ends {'' if decreased else 'no '}worse than it began: {ends}"
