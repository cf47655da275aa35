"""Variance components of runs: how much examples, checkpoints and seeds make a value vary, and seeds needed.

With the notation of `contrasts`, for one arm at one size, over the last w common checkpoints:

    examples      variance of the value of one run over examples, G - 1 degrees of freedom
    checkpoints   variance of a single checkpoint around the local trend (`trend_noise`), mean over runs; of
                  several runs, around the trend of the run minus the mean of the arm
    runs          S², variance between runs: seeds, checkpoints and the runs' own changes of examples
    seeds         S² - U - C, at least 0, with U, what examples add to S², and C, that of checkpoints / w

Intervals are those of χ². That of seeds is the interval of S² less U + C, which have many more degrees of
freedom than S² (Ting et al. 1990, Journal of Statistical Computation and Simulation 35:135, in the limit).
With few runs it is wide: from two, the upper limit of the standard deviation is 32 times the estimate.
Checkpoint noise that persists is partly counted as noise of seeds.

Seeds needed: the smallest R with which a difference of two such arms is detectable, with the variance
2 S²/R + E. S² is divided by its median in units of the true one. E, what examples add that seeds do not
lower, is that of the difference from the reference, or for the reference, from the first other arm.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import chi2

from ebbtide.metrics.direction import is_share
from ebbtide.statistics.panel import Trajectory
from ebbtide.statistics.runs.contrasts import noise_of_runs
from ebbtide.statistics.runs.curves import Curve, Unit
from ebbtide.statistics.runs.differences import Difference, Part, detectable_shift, median_of_variance
from ebbtide.statistics.runs.pairs import NotComparable, arm_of, pair_of
from ebbtide.statistics.runs.trend_noise import LONG, checkpoint_noise, is_long, trend_window
from ebbtide.statistics.runs.units import curves_of_units

PARTS = ("examples", "checkpoints", "seeds", "runs")
COLUMNS = (
    *("task", "suite", "metric", "size", "arm", "runs", "checkpoints", "value"),
    *(f"sd_{part}{end}" for part in PARTS for end in ("", "_low", "_high")),
    *("persistence", "detect", "seeds_needed", "note"),
)
MOST_SEEDS = 1000
NOT_KNOWN = (np.nan, np.nan, np.nan)


def seed_components(
    trajectories: Iterable[Trajectory], metrics: pd.DataFrame, arms: pd.DataFrame, settings: Mapping[str, Any]
) -> pd.DataFrame:
    """One row per task or suite, metric, size and arm: standard deviations with intervals, `COLUMNS`.

    Parameters
    ----------
    trajectories, metrics, arms
        As in `compare.compare_runs`.
    settings
        `reference`, `metrics`, `alpha`, `last`, `tolerance`, `suites`, and `detect`: the difference to
        detect, a number for shares, or metric → number.

    Returns
    -------
    Standard deviations are those of one run, in units of the metric: of examples and runs over the last
    checkpoints, of checkpoints at a single one. `seeds_needed` is the smallest number of seeds per arm with
    which a difference of `detect` between two such arms is found with 80 % probability.
    """
    curves, _ = curves_of_units(trajectories, metrics, arms, settings)
    rows = []
    for unit, of_models in curves.items():
        for size, of_arms in arms.groupby("size", sort=False):
            of_size = {
                str(arm): [of_models[model] for model in group["model"] if model in of_models]
                for arm, group in of_arms.groupby("arm", sort=False)
            }
            for arm, runs in of_size.items():
                if not runs:
                    continue
                rows.append(
                    {
                        "task": unit.task,
                        "suite": unit.suite,
                        "metric": unit.metric,
                        "size": size,
                        "arm": arm,
                        **_components(str(arm), runs, _other(str(arm), of_size, settings), unit, settings),
                    }
                )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _other(arm: str, of_size: Mapping[str, Sequence[Curve]], settings: Mapping[str, Any]) -> Sequence[Curve]:
    """The runs that an arm is compared with; of the reference, those of the first other arm."""
    reference = settings["reference"]
    if arm != reference:
        return of_size.get(reference, [])
    return next((runs for name, runs in of_size.items() if name != arm and runs), [])


def _of_examples(
    name: str, runs: Sequence[Curve], other: Sequence[Curve], settings: Mapping[str, Any]
) -> Part | None:
    """What examples add to the variance of the difference of two arms beyond their runs; None if unknown."""
    if not other:
        return None
    try:
        pair = pair_of("", (name, runs), ("", other), settings["tolerance"])
    except NotComparable:
        return None
    at = np.arange(max(len(pair.arm.tokens) - settings["last"], 0), len(pair.arm.tokens))
    examples = float((pair.influence[at].mean(axis=0) ** 2).sum())
    for arm in (pair.arm, pair.reference):
        if arm.runs > 1:
            examples -= float(np.nan_to_num(arm.within[np.ix_(at, at)].mean())) / arm.runs
    return None if np.isnan(examples) else Part(max(examples, 0.0), pair.df)


def _components(
    name: str, runs: Sequence[Curve], other: Sequence[Curve], unit: Unit, settings: Mapping[str, Any]
) -> dict[str, object]:
    try:
        arm = arm_of(name, runs, settings["tolerance"])
    except NotComparable as error:
        return {"runs": len(runs), "note": str(error)}
    alpha, count = settings["alpha"], len(arm.tokens)
    at = np.arange(max(count - settings["last"], 0), count)
    curves, covariance = arm.own_curves
    noise = [checkpoint_noise(arm.tokens, values, covariance, at) for values in curves]
    of_mean = noise_of_runs(arm, at)
    window = arm.tokens[trend_window(arm.tokens, at)]
    df = len(window) - 2  # of the line
    of_examples = float(arm.covariance[np.ix_(at, at)].mean())
    found = {
        "examples": sd_interval(of_examples, min(curve.df for curve in runs), alpha),
        "checkpoints": sd_interval(of_mean * len(at), max(arm.runs - 1, 1) * df, alpha),
        "seeds": NOT_KNOWN,
        "runs": NOT_KNOWN,
    }
    detect = _detect(unit.metric, settings.get("detect", np.nan))
    needed, note = np.nan, "one run: nothing is known of seeds"
    if is_long(window) and not np.isnan(of_mean):
        note += f"; {LONG}"
    if arm.runs > 1:
        between = float(arm.values[:, at].mean(axis=1).var(ddof=1))
        added = float(np.nansum([arm.within[np.ix_(at, at)].mean(), of_mean]))
        found["runs"] = sd_interval(between, arm.runs - 1, alpha)
        found["seeds"] = sd_interval(between, arm.runs - 1, alpha, added)
        needed, note = _seeds_needed(
            between, arm.runs, _of_examples(name, runs, other, settings), detect, alpha
        )
        if not between > 0:
            needed, note = np.nan, "all runs have the same value: nothing is known of the noise between them"
    return {
        "runs": arm.runs,
        "checkpoints": len(at),
        "value": float(arm.values[:, at].mean()),
        **{
            f"sd_{part}{end}": value
            for part, sds in found.items()
            for end, value in zip(("", "_low", "_high"), sds, strict=True)
        },
        "persistence": _mean_known([n.persistence for n in noise]),
        "detect": detect,
        "seeds_needed": needed,
        "note": note,
    }


def sd_interval(variance: float, df: float, alpha: float, added: float = 0.0) -> tuple[float, float, float]:
    """Return a standard deviation and its interval, after `added` is subtracted from the variance."""
    if np.isnan(variance) or not df > 0:
        return NOT_KNOWN
    ends = np.array([variance, *variance * df / chi2.ppf([1 - alpha / 2, alpha / 2], df)])
    estimate, low, high = np.sqrt(np.maximum(ends - added, 0.0))
    return float(estimate), float(low), float(high)


def _seeds_needed(
    between: float, runs: int, examples: Part | None, detect: float, alpha: float
) -> tuple[float, str]:
    """Return the smallest number of seeds per arm whose detectable difference is at most `detect`."""
    if not detect > 0:
        return np.nan, ""
    typical = between / median_of_variance(runs - 1)
    note = "" if examples else "without noise of examples, which is not known for two arms"
    floor = examples or Part(0.0, np.inf)
    limit = float(np.sqrt(floor.variance)) * detectable_shift(floor.df, alpha) if floor.variance > 0 else 0.0
    if limit > detect:
        return np.nan, f"no number of seeds suffices: examples alone hide differences below {limit:.3g}"

    def mde(seeds: int) -> float:
        of_arm = Part(typical / seeds, seeds - 1, between_runs=True)
        difference = Difference(0.0, (of_arm, of_arm, floor), np.nan, np.nan, np.nan, "")
        return difference.se * detectable_shift(difference.df(alpha), alpha)

    low, high = 1, MOST_SEEDS  # `low` is too few
    if mde(high) > detect:
        return np.nan, f"more than {MOST_SEEDS} seeds are needed"
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if mde(middle) <= detect else (middle, high)
    return float(high), note


def _detect(metric: str, detect: float | Mapping[str, float]) -> float:
    if isinstance(detect, Mapping):
        return float(detect.get(metric, np.nan))
    return float(detect) if is_share(metric) else np.nan


def _mean_known(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else np.nan
