"""Verdict on each task, with the two rules of *Emergent inabilities?*"""

from typing import Any

import numpy as np
import pandas as pd

from ebbtide.metrics.direction import sign_of
from ebbtide.statistics.regression.design import Size

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

    For losses, the signs of change and t are reversed before the rules are applied, but not in the columns.
    """
    rows = metrics[metrics["tokens"] > 0]
    out = []
    for (task, metric), terms in regressions.groupby(["task", "metric"], sort=False):
        sign = sign_of(str(metric))
        term = terms.set_index("term")
        cells = rows[(rows["task"] == task) & (rows["metric"] == metric)]
        model, first, last = _ends_of_largest(cells, f"parameters_{parameters}")
        decreased = sign * (last["value"] - first["value"]) < 0
        tokens: Any = term.loc["tokens"]
        interaction: Any = term.loc["interaction"]
        consistent = bool(sign * interaction["t"] < 0 and interaction["p_adjusted"] < alpha)
        clear = bool(tokens["p_adjusted"] < alpha)
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
                "verdict": _verdict(decreased, clear, sign * tokens["t"], consistent),
                "note": "; ".join(filter(None, (tokens["note"], "" if model else NO_ENDS))),
            }
        )
    return pd.DataFrame(out)


def _ends_of_largest(cells: pd.DataFrame, size: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return the largest model (ties by name) with its first and last checkpoint; empty if it has one."""
    largest = cells[cells[size] == cells[size].max()]
    largest = largest[largest["model"] == largest["model"].min()].sort_values("tokens")
    if len(largest) < 2:
        nothing = {"checkpoint": "", "value": np.nan}
        return "", nothing, nothing
    ends = largest[["checkpoint", "value"]].iloc[[0, -1]].to_dict("records")
    return str(largest["model"].iloc[0]), ends[0], ends[1]


def _verdict(decreased: bool, clear: bool, t: float, consistent: bool) -> str:
    if decreased and clear and t < 0:
        return "ebbs with size" if consistent else "ebbs"
    if clear and t > 0 and not decreased:
        return "rises"
    return "undecided"
