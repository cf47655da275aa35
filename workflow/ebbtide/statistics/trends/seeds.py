"""Slopes of recipes: the mean over runs that differ only by seed, with the noise of seeds and of examples.

Run r of a recipe has the slope b_r, the mean of the slopes of its examples. Over R runs, in the notation of
`runs.contrasts`:

    sd_runs           S, standard deviation of b_r                                   R - 1 df
    sd_own_examples   √U, what of S the runs' own answers on single examples explain
    sd_seeds          √(S² - U), at least 0: the seeds, and checkpoints that scatter around the line

Three intervals surround the mean slope (`recipe_mean`). That of seeds is what other seeds would show on these
examples. That of examples is what these runs would show on other examples, from the bootstrap of `slopes`.
The joined one is what other seeds would show on other examples. Each run has the slope of its own
checkpoints, as in trends.tsv.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ebbtide.statistics.multiplicity import adjusted
from ebbtide.statistics.runs.contrasts import contrast
from ebbtide.statistics.runs.curves import Curve, curve_with_examples
from ebbtide.statistics.runs.differences import Difference
from ebbtide.statistics.runs.pairs import NotComparable, arm_of, pair_of
from ebbtide.statistics.runs.seeds import sd_interval
from ebbtide.statistics.trends.recipe_mean import recipe_mean
from ebbtide.statistics.trends.slopes import interval
from ebbtide.statistics.trends.trends import MetricTrend

COLUMNS = (
    *("recipe", "parameters_non_embedding", "task", "metric", "runs", "models", "n"),
    *("slope", "low", "high", "p", "p_adjusted"),
    *("low_seeds", "high_seeds", "low_examples", "high_examples"),
    *("sd_runs", "sd_runs_low", "sd_runs_high", "sd_own_examples"),
    *("sd_seeds", "sd_seeds_low", "sd_seeds_high", "note"),
)
_POINT = np.array([0])  # a slope is a curve with one point


def seed_table(
    trends: Sequence[MetricTrend], recipes: Mapping[str, str], alpha: float = 0.05
) -> pd.DataFrame:
    """Return one row per recipe, task and metric, columns `COLUMNS`.

    Parameters
    ----------
    trends
        Trends of all models.
    recipes
        Model → recipe of the models that have a replicate (`replicates.replicates`).

    Returns
    -------
    Slopes and standard deviations are in units of the metric per decade of tokens. `p` is that of no slope,
    with the joined noise; `p_adjusted` is adjusted by Holm over all rows.
    """
    groups: dict[tuple[str, str, str], list[MetricTrend]] = {}
    for one in trends:
        if one.model in recipes:
            groups.setdefault((recipes[one.model], one.task, one.metric), []).append(one)
    table = pd.DataFrame([_row(key[0], runs, alpha) for key, runs in groups.items()], columns=list(COLUMNS))
    table["p_adjusted"] = adjusted(table["p"].to_numpy(dtype=float), "holm")
    return table


def _row(recipe: str, found: Sequence[MetricTrend], alpha: float) -> dict[str, object]:
    runs = [one for one in found if len(one.slopes)]
    notes = [f"{one.model} has no slope" for one in found if not len(one.slopes)]
    row: dict[str, object] = {
        "recipe": recipe,
        "parameters_non_embedding": found[0].parameters,
        "task": found[0].task,
        "metric": found[0].metric,
        "runs": len(runs),
        "models": ", ".join(one.model for one in runs),
        "n": len(found[0].examples),
    }
    if len(runs) < 2:
        return row | {"note": "; ".join([*notes, "fewer than two runs: nothing is known of seeds"])}
    try:
        arm = arm_of(recipe, [_point(one) for one in runs], 0.0)
    except NotComparable as error:
        return row | {"note": "; ".join([*notes, str(error)])}
    if len({tuple(one.checkpoints["tokens"]) for one in runs}) > 1:
        notes.append("the runs have different checkpoints, so their slopes are not over the same tokens")
    groups = arm.influence.shape[1]
    mean = recipe_mean(arm, 0, groups - 1)
    drawn = np.mean([one.drawn for one in runs], axis=0)
    return row | {
        "slope": mean.value,
        **_ends("", mean.interval(alpha)),
        "p": mean.p(),
        **_ends("_seeds", mean.over_seeds(alpha)),
        **_ends("_examples", interval(drawn, mean.value, groups, alpha)),
        **_sd("sd_runs", mean.between, arm.runs - 1, alpha),
        "sd_own_examples": float(np.sqrt(mean.own)),
        **_sd("sd_seeds", mean.between, arm.runs - 1, alpha, mean.own),
        "note": "; ".join(notes),
    }


def size_difference(
    small: tuple[str, Sequence[MetricTrend]], large: tuple[str, Sequence[MetricTrend]]
) -> Difference:
    """Return the mean slope over the runs of the large size minus that of the small one.

    Each is a name with its runs, which have slopes; one of them has two runs or more. The noise is that of
    `runs.contrasts`.

    Raises
    ------
    NotComparable
        The examples differ.
    """
    of_large, of_small = ((name, [_point(one) for one in runs]) for name, runs in (large, small))
    return contrast([pair_of("", of_large, of_small, 0.0)], [_POINT])


def _point(one: MetricTrend) -> Curve:
    return curve_with_examples(one.model, np.ones(1), one.slopes[None], one.clusters, one.examples)


def _ends(name: str, ends: tuple[float, float]) -> dict[str, float]:
    return {f"low{name}": ends[0], f"high{name}": ends[1]}


def _sd(name: str, variance: float, df: float, alpha: float, added: float = 0.0) -> dict[str, float]:
    found = sd_interval(variance, df, alpha, added)
    return dict(zip((name, f"{name}_low", f"{name}_high"), found, strict=True))
