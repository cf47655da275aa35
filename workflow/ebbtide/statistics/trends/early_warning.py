"""Early warning: do margin, coverage or the probability of the right choice fall before accuracy does?

The fall of a curve is its largest drawdown, from a peak to a later minimum. `D50` is the log10 of the
training tokens at which half of the fall is lost,

    D50 = x_peak + ∫_peak^low 1[ m(x) > (m_peak + m_low) / 2 ] dx       m linear between checkpoints

which is the crossing of the midpoint if the curve crosses it once. D50 does not depend on the scale of a
metric. The lead of a signal is D50(accuracy) - D50(signal), in decades of tokens; a positive lead means that
the signal falls first. Examples are resampled jointly for both curves, and lead / (standard deviation of its
draws) is compared with the normal distribution. Signals that fall by less than half of their range are not
tested.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import norm

from ebbtide.statistics.multiplicity import adjusted
from ebbtide.statistics.panel import Trajectory
from ebbtide.statistics.resampling import bootstrap
from ebbtide.statistics.simultaneous import all_pairs, means_of
from ebbtide.statistics.trends.trends import counted

OUTCOME = "accuracy"
SIGNALS = ("margin", "coverage", "choice_probability")
MIN_SHARE_OF_RANGE = 0.5  # smaller falls, relative to the range of the signal, are ignored
COLUMNS = (
    *("model", "parameters_non_embedding", "task", "signal", "checkpoints", "n"),
    *("fall", "p_fall", "fall_from", "fall_to", "signal_fall", "p_signal_fall", "signal_from", "signal_to"),
    *("half", "signal_half", "lead", "low", "high", "p", "p_adjusted", "note"),
)


class Fall(NamedTuple):
    """Largest drawdown of each of B curves, arrays (B,): indices of peak and minimum, size, and D50."""

    peak: np.ndarray
    low: np.ndarray
    size: np.ndarray
    half: np.ndarray


def fall_of(curves: np.ndarray, x: np.ndarray) -> Fall:
    """Return the falls of curves (B, T) over x (T,) log10 tokens; size 0 and D50 NaN without a fall."""
    rows = np.arange(len(curves))
    low = (np.maximum.accumulate(curves, axis=1) - curves).argmax(axis=1)
    before = np.where(np.arange(len(x)) <= low[:, None], curves, -np.inf)
    peak = before.argmax(axis=1)
    top, bottom = curves[rows, peak], curves[rows, low]
    above = curves - ((top + bottom) / 2)[:, None]
    left, right = above[:, :-1], above[:, 1:]
    # The share of each step between two checkpoints in which the curve is above the midpoint.
    apart = np.where(left == right, 1.0, left - right)
    crossing = np.where(left > 0, left / apart, 1 - left / apart)
    share = np.where((left > 0) & (right > 0), 1.0, np.where((left <= 0) & (right <= 0), 0.0, crossing))
    steps = np.arange(len(x) - 1)
    within = (steps >= peak[:, None]) & (steps < low[:, None])
    half = x[peak] + np.where(within, share * np.diff(x), 0.0).sum(axis=1)
    size = top - bottom
    return Fall(peak, low, size, np.where(size > 0, half, np.nan))


def leads(trajectory: Trajectory, alpha: float) -> Iterator[dict[str, Any]]:
    """Yield a row per signal of a task that has accuracy. `lead_table` adds `p_adjusted`."""
    trained = trajectory.checkpoints["tokens"].to_numpy() > 0
    checkpoints = trajectory.checkpoints[trained].reset_index(drop=True)
    if OUTCOME not in trajectory.values:
        return
    x = np.log10(checkpoints["tokens"].to_numpy(dtype=float))
    outcome, clusters, examples = counted(trajectory, OUTCOME)
    testable = len(np.unique(x)) >= 3 and int(clusters.max(initial=0)) >= 1
    own = _curve_fall(outcome[trained], clusters, x, trajectory.task) if testable else None
    for signal in SIGNALS:
        if signal not in trajectory.values:
            continue
        row: dict[str, Any] = dict.fromkeys(COLUMNS, np.nan) | {
            "model": trajectory.model,
            "parameters_non_embedding": trajectory.parameters["non_embedding"],
            "task": trajectory.task,
            "signal": signal,
            "checkpoints": len(checkpoints),
            "n": len(examples),
            "fall_from": "",
            "fall_to": "",
            "signal_from": "",
            "signal_to": "",
            "note": "",
        }
        if own is None:
            yield row | {
                "note": "fewer than three checkpoints with training tokens, or fewer than two examples"
            }
            continue
        row |= {
            "fall": own.fall.size[0],
            "p_fall": own.p,
            "fall_from": checkpoints["checkpoint"][int(own.fall.peak[0])],
            "fall_to": checkpoints["checkpoint"][int(own.fall.low[0])],
        }
        if own.p > alpha:
            yield row | {"note": "accuracy does not fall"}
            continue
        values, _, of_signal = counted(trajectory, signal)
        if not np.array_equal(examples, of_signal):
            yield row | {"note": f"{signal} is missing for some examples"}
            continue
        other = _curve_fall(values[trained], clusters, x, trajectory.task)
        row |= {
            "signal_fall": other.fall.size[0],
            "p_signal_fall": other.p,
            "signal_from": checkpoints["checkpoint"][int(other.fall.peak[0])],
            "signal_to": checkpoints["checkpoint"][int(other.fall.low[0])],
        }
        means = other.values.mean(axis=1)
        if other.p <= alpha and other.fall.size[0] < MIN_SHARE_OF_RANGE * np.ptp(means):
            yield row | {"note": f"{signal} falls by less than half of its range"}
        elif other.p <= alpha:
            yield row | _lead(own, other, x, alpha)
        else:
            what = "does not fall" if np.ptp(values[trained]) else "is constant"
            yield row | {"note": f"{signal} {what}"}


class _CurveFall(NamedTuple):
    values: np.ndarray  # (T, n)
    clusters: np.ndarray
    task: str
    fall: Fall
    p: float


def _curve_fall(values: np.ndarray, clusters: np.ndarray, x: np.ndarray, task: str) -> _CurveFall:
    """Return the fall of a curve, and p of any fall, adjusted over all pairs of checkpoints."""
    means = means_of(values, clusters, task)
    pairs = all_pairs(means)
    clearest = float(np.triu(-pairs.z, 1).max())
    fall = fall_of(means.values[None], x)
    return _CurveFall(values, clusters, task, fall, pairs.greatest.p(max(clearest, 0.0)))


def _lead(outcome: _CurveFall, signal: _CurveFall, x: np.ndarray, alpha: float) -> dict[str, Any]:
    lead = float(outcome.fall.half[0] - signal.fall.half[0])
    both = np.vstack([outcome.values, signal.values])  # one bootstrap: the same examples for both curves
    drawn_outcome, drawn_signal = np.split(bootstrap(both, outcome.clusters, outcome.task), 2, axis=1)
    drawn = fall_of(drawn_outcome, x).half - fall_of(drawn_signal, x).half
    error = float(np.nanstd(drawn, ddof=1))
    if not error > 0:
        return {"note": "the lead is the same in all bootstrap draws: no test"}
    reach = float(norm.isf(alpha / 2)) * error
    return {
        "half": 10 ** outcome.fall.half[0],
        "signal_half": 10 ** signal.fall.half[0],
        "lead": lead,
        "low": lead - reach,
        "high": lead + reach,
        "p": float(2 * norm.sf(abs(lead) / error)),
    }


def lead_table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return the rows of a study with p adjusted by Holm over the tested rows; columns `COLUMNS`."""
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table["p_adjusted"] = adjusted(table["p"].to_numpy(dtype=float), "holm")
    return table
