"""Variance components of runs: how much examples, checkpoints and seeds make a value vary, and seeds needed.

With the notation of `contrasts`, for one arm at one size, over the last w common checkpoints:

    examples      variance of the value of one run over examples, G - 1 degrees of freedom
    checkpoints   variance of a single checkpoint around the local trend (`trend_noise`), mean over runs
    runs          S², variance between runs: seeds, checkpoints and the runs' own changes of examples
    seeds         S² - U - C, at least 0, with U, what examples add to S², and C, that of checkpoints / w

Intervals are those of χ². That of seeds is the interval of S² less U + C, which have many more degrees of
freedom than S² (Ting et al. 1990, Journal of Statistical Computation and Simulation 35:135, in the limit).
With few runs it is wide: from two, the upper limit of the standard deviation is 32 times the estimate.
Checkpoint noise that persists is partly counted as noise of seeds.
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
from ebbtide.statistics.runs.differences import detectable_shift
from ebbtide.statistics.runs.pairs import NotComparable, arm_of
from ebbtide.statistics.runs.trend_noise import checkpoint_noise
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
        `metrics`, `alpha`, `last`, `tolerance`, `suites`, and `detect`: the difference to detect, a
        number for shares, or metric → number.

    Returns
    -------
    Standard deviations are those of one run, in units of the metric: of examples and runs over the last
    checkpoints, of checkpoints at a single one. `seeds_needed` is the smallest number of seeds per arm with
    which a difference of `detect` between two such arms is found with 80 % probability; noise of examples
    that the runs share comes on top, and is not reduced by seeds.
    """
    curves, _ = curves_of_units(trajectories, metrics, arms, settings)
    rows = []
    for unit, of_models in curves.items():
        for (size, arm), group in arms.groupby(["size", "arm"], sort=False):
            runs = [of_models[model] for model in group["model"] if model in of_models]
            if runs:
                rows.append(
                    {
                        "task": unit.task,
                        "suite": unit.suite,
                        "metric": unit.metric,
                        "size": size,
                        "arm": arm,
                        **_components(str(arm), runs, unit, settings),
                    }
                )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _components(
    name: str, runs: Sequence[Curve], unit: Unit, settings: Mapping[str, Any]
) -> dict[str, object]:
    try:
        arm = arm_of(name, runs, settings["tolerance"])
    except NotComparable as error:
        return {"runs": len(runs), "note": str(error)}
    alpha, count = settings["alpha"], len(arm.tokens)
    at = np.arange(max(count - settings["last"], 0), count)
    noise = [checkpoint_noise(arm.tokens, values, arm.covariance, at) for values in arm.values]
    of_mean = noise_of_runs(arm, at)
    of_examples = float(arm.covariance[np.ix_(at, at)].mean())
    found = {
        "examples": sd_interval(of_examples, min(curve.df for curve in runs), alpha),
        "checkpoints": sd_interval(of_mean * len(at), arm.runs * noise[0].df, alpha),
        "seeds": NOT_KNOWN,
        "runs": NOT_KNOWN,
    }
    detect = _detect(unit.metric, settings.get("detect", np.nan))
    needed, note = np.nan, "one run: nothing is known of seeds"
    if arm.runs > 1:
        between = float(arm.values[:, at].mean(axis=1).var(ddof=1))
        added = float(np.nansum([arm.within[np.ix_(at, at)].mean(), of_mean]))
        found["runs"] = sd_interval(between, arm.runs - 1, alpha)
        found["seeds"] = sd_interval(between, arm.runs - 1, alpha, added)
        needed, note = _seeds_needed(between, detect, alpha)
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


def _seeds_needed(between: float, detect: float, alpha: float) -> tuple[float, str]:
    """Return the smallest R with √(2 between / R) · shift(2R - 2) at most `detect`."""
    if not detect > 0:
        return np.nan, ""
    low, high = 1, MOST_SEEDS  # `low` is too few
    if _mde(between, high, alpha) > detect:
        return np.nan, f"more than {MOST_SEEDS} seeds are needed"
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _mde(between, middle, alpha) <= detect else (middle, high)
    return float(high), ""


def _mde(between: float, runs: int, alpha: float) -> float:
    return float(np.sqrt(2 * between / runs)) * detectable_shift(2 * runs - 2, alpha)


def _detect(metric: str, detect: float | Mapping[str, float]) -> float:
    if isinstance(detect, Mapping):
        return float(detect.get(metric, np.nan))
    return float(detect) if is_share(metric) else np.nan


def _mean_known(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else np.nan
