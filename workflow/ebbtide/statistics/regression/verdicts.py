"""Verdict on each task, with the two rules of *Emergent inabilities?*"""

from typing import Any

import numpy as np
import pandas as pd

from ebbtide.metrics.direction import direction_of, sign_of
from ebbtide.statistics.regression.design import Size

NO_SIZES = "no change of the largest model: the sizes of all models are unknown"
NO_ENDS = "no change of the largest model: it has fewer than two checkpoints with training tokens"


def verdicts(
    metrics: pd.DataFrame,
    regressions: pd.DataFrame,
    *,
    parameters: Size = "non_embedding",
    alpha: float = 0.05,
) -> pd.DataFrame:
    """Return the verdict on each task: one row per task and metric.

    `regressions` must be in the standardised form; in the raw form, the slope over tokens is that at N = 1.

    decreased
        The largest model is strictly worse at its last checkpoint than at its first trained one.
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
    out = []
    for (task, metric), terms in regressions.groupby(["task", "metric"], sort=False):
        sign = sign_of(str(metric))
        term = terms.set_index("term")
        cells = rows[(rows["task"] == task) & (rows["metric"] == metric)]
        size = cells[f"parameters_{parameters}"]
        model, first, last = _ends_of_largest(cells, size)
        no_ends = "" if model else NO_ENDS if (size > 0).any() or cells.empty else NO_SIZES
        decreased = sign * (last["value"] - first["value"]) < 0
        tokens: Any = term.loc["tokens"]
        interaction: Any = term.loc["interaction"]
        consistent = bool(sign * interaction["t"] < 0 and interaction["p_adjusted"] < alpha)
        ends = f"{model} ({first['value']:.3g} → {last['value']:.3g})" if model else ""
        why = _why_undecided(str(metric), tokens, alpha, decreased, ends)
        out.append(
            {
                "task": task,
                "metric": metric,
                "model": model,
                "first_checkpoint": first["checkpoint"],
                "last_checkpoint": last["checkpoint"],
                "first": first["value"],
                "last": last["value"],
                "change": last["value"] - first["value"],
                "decreased": decreased,
                "tokens_t": tokens["t"],
                "tokens_p_adjusted": tokens["p_adjusted"],
                "interaction_t": interaction["t"],
                "interaction_p_adjusted": interaction["p_adjusted"],
                "consistent": consistent,
                "verdict": "undecided" if why else _verdict(decreased, consistent),
                "why": why,
                "note": "; ".join(filter(None, (tokens["note"], no_ends))),
            }
        )
    return pd.DataFrame(out)


def _ends_of_largest(cells: pd.DataFrame, size: pd.Series) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return the largest model (ties by name) with its first and last checkpoint.

    Empty if it has one checkpoint, or if the sizes of several models are unknown.
    """
    nothing = {"checkpoint": "", "value": np.nan}
    if not (size > 0).any() and cells["model"].nunique() > 1:
        return "", nothing, nothing
    largest = cells[size == size.max()]
    largest = largest[largest["model"] == largest["model"].min()].sort_values("tokens")
    if len(largest) < 2:
        return "", nothing, nothing
    ends = largest[["checkpoint", "value"]].iloc[[0, -1]].to_dict("records")
    return str(largest["model"].iloc[0]), ends[0], ends[1]


def _verdict(decreased: bool, consistent: bool) -> str:
    """Return the verdict on a task whose slope over tokens and change agree."""
    if not decreased:
        return "rises"
    return "ebbs with size" if consistent else "ebbs"


def _why_undecided(metric: str, tokens: Any, alpha: float, decreased: bool, ends: str) -> str:
    """Return why slope and change give no verdict; empty if they give one.

    `tokens` is the row of the slope over tokens in the table of regressions; `ends` is the largest model with
    its first and last value, in words, empty if there is none.
    """
    if np.isnan(tokens["t"]):
        return str(tokens["note"])
    if not direction_of(metric):
        return f"neither a higher nor a lower {metric} is better, so no change is a verdict"
    if not tokens["p_adjusted"] < alpha:
        return f"the slope over tokens is not significant at regression.alpha {alpha:g}"
    worse = bool(sign_of(metric) * tokens["t"] < 0)
    if worse == decreased:
        return ""
    over_all = f"over all models the metric gets {'worse' if worse else 'better'} with training"
    if not ends:
        return f"{over_all}, but there is no largest model with two checkpoints to confirm it"
    return f"{over_all}, but the largest model ends {'' if decreased else 'no '}worse than it began: {ends}"
