"""Curves of recipes: at each checkpoint, the mean over runs that differ only by seed, and three intervals.

As in `seeds`, but of the metric itself at the training tokens that all runs of a recipe have in common.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from ebbtide.statistics.panel import Trajectory
from ebbtide.statistics.runs.curves import Curve, curve_of
from ebbtide.statistics.runs.pairs import NotComparable, arm_of
from ebbtide.statistics.same_tokens import common
from ebbtide.statistics.trends.recipe_mean import recipe_mean

COLUMNS = (
    *("recipe", "task", "metric", "tokens", "runs", "models", "n", "value", "low", "high"),
    *("low_seeds", "high_seeds", "low_examples", "high_examples", "sd_runs"),
    "note",
)
ENDS = ("low", "high")
RunCurve = tuple[str, str, int, Curve]  # task, metric, number of examples


def run_curves(
    trajectory: Trajectory, recipes: Mapping[str, str], metrics: Sequence[str]
) -> Iterator[RunCurve]:
    """Yield the curves of a model that has a replicate, of those of the metrics that the task has."""
    if trajectory.model in recipes:
        for metric in trajectory.available(metrics):
            if curve := curve_of(trajectory, metric):
                n = trajectory.counted(metric)[0].shape[1]
                yield trajectory.task, metric, n, curve


def seed_curve_table(
    curves: Sequence[RunCurve], recipes: Mapping[str, str], alpha: float = 0.05, tolerance: float = 0.0
) -> pd.DataFrame:
    """Return one row per recipe, task, metric and common checkpoint, columns `COLUMNS`.

    Tokens are common if they differ by at most the share `tolerance` (`same_tokens`); `tokens` are those of
    the first run. A recipe whose runs have no common tokens, or other examples, has one row without numbers,
    whose `note` says so. Intervals at 1 - alpha are those of `recipe_mean`: of other seeds on these examples,
    of these runs on other examples, and of both.
    """
    groups: dict[tuple[str, str, str], list[Curve]] = {}
    examples: dict[tuple[str, str, str], int] = {}
    for task, metric, n, curve in curves:
        key = (recipes[curve.model], task, metric)
        groups.setdefault(key, []).append(curve)
        examples[key] = n
    rows = [row for key, runs in groups.items() for row in _rows(key, runs, examples[key], alpha, tolerance)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _rows(
    key: tuple[str, str, str], runs: Sequence[Curve], n: int, alpha: float, tolerance: float
) -> Iterator[dict[str, object]]:
    place = dict(zip(("recipe", "task", "metric"), key, strict=True))
    names = ", ".join(curve.model for curve in runs)
    try:
        if len(runs) < 2:
            raise NotComparable(f"only {names} has examples with this metric")
        arm = arm_of(key[0], runs, tolerance)
    except NotComparable as error:
        yield place | {"runs": len(runs), "models": names, "n": n, "note": str(error)}
        return
    df = min(curve.df for curve in runs)
    first = common([curve.tokens for curve in runs], tolerance)[0]
    for at, tokens in enumerate(runs[0].tokens[first]):
        mean = recipe_mean(arm, at, df)
        ends = zip(
            ("", "_seeds", "_examples"),
            (mean.interval(alpha), mean.over_seeds(alpha), mean.over_examples(alpha)),
            strict=True,
        )
        yield place | {
            "tokens": tokens,
            "runs": arm.runs,
            "models": names,
            "n": n,
            "value": mean.value,
            **{f"{end}{name}": value for name, two in ends for end, value in zip(ENDS, two, strict=True)},
            "sd_runs": float(np.sqrt(mean.between)),
            "note": "",
        }
