"""Proxies: does another metric of a task order runs as the target does, with less noise, or sooner?

The rank correlation compares the proxy on one half of the examples and of the window's checkpoints with the
target on the other half, so that noise which both share does not count as agreement; it is the mean over the
four ways to choose the halves. Of means without examples, only the checkpoints are halved. Runs are those of
the largest size, or with fewer than four of them, all runs of all sizes.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri
from scipy.stats import rankdata

from ebbtide.metrics.direction import direction_of
from ebbtide.statistics.resolution.cells import Resolution
from ebbtide.statistics.resolution.curves import Change, Summary, correlations
from ebbtide.statistics.resolution.decisions import (
    LEAST_RUNS,
    UNKNOWN,
    Interval,
    decisions,
    mean_by_arm,
    percentiles,
    rank_interval,
)
from ebbtide.statistics.resolution.runs import Run, targets_of
from ebbtide.statistics.resolution.signal import within_ratio

SUPPORTED, AGAINST, UNSUPPORTED, UNTESTED = "supported", "runs against", "not supported", "not tested"
LEAST_CORRELATION = 0.5
ALL_SIZES = "runs of all sizes"
COLUMNS = (
    *("task", "metric", "proxy", "verdict", "reason", "over", "runs"),
    *("rank_correlation", "rank_correlation_low", "rank_correlation_high"),
    *("correlation_over_training", "correlation_over_training_low", "correlation_over_training_high"),
    *("signal_to_noise", "signal_to_noise_low", "signal_to_noise_high"),
    *("target_signal_to_noise", "lead", "lead_low", "lead_high"),
    *("decision_accuracy", "decision_accuracy_low", "decision_accuracy_high", "decision_pairs"),
    *("decision_ties", "note"),
)
Found = Mapping[tuple[str, str], Sequence[Resolution]]  # (task, metric) → sizes, smallest first


def proxy_table(
    found: Found, targets: Sequence[str], alpha: float, least: float = LEAST_CORRELATION
) -> pd.DataFrame:
    """Return one row per task, target metric and other metric, columns `COLUMNS`.

    Parameters
    ----------
    found
        Resolutions of all metrics of all tasks.
    targets
        Metrics that the study follows; of a task without them, its first metric.
    least
        A proxy is supported if the interval of its rank correlation lies above this.
    """
    rows = []
    for task, metrics in metrics_of(found).items():
        for target in targets_of(metrics, targets):
            for proxy in metrics:
                if proxy != target:
                    rows.append(_row(task, found[task, target], found[task, proxy], alpha, least))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def metrics_of(found: Found) -> dict[str, list[str]]:
    """Return task → its metrics."""
    tasks: dict[str, list[str]] = {}
    for task, metric in found:
        tasks.setdefault(task, []).append(metric)
    return tasks


def _row(
    task: str, target: Sequence[Resolution], proxy: Sequence[Resolution], alpha: float, least: float
) -> dict[str, Any]:
    pairs, over = _pairs(target, proxy)
    ranks, notes = _rank(pairs, alpha)
    largest = [(a, b) for a, b in _same_models(target[-1].runs, proxy[-1].runs)]
    ratios = [_ratio(of[-1]) for of in (target, proxy)]
    lead, why = _lead(largest, alpha)
    small = _decisions(target, proxy, alpha)
    notes += [why] if why else []
    notes += [] if small else ["no decision accuracy: no two arms have runs at two sizes (section `runs:`)"]
    notes += [] if ratios[1] else [f"no signal-to-noise: {_why_no_ratio(proxy[-1])}"]
    if pairs and not all(run.examples for pair in pairs for run in pair):
        notes.append("only means are known, so noise of examples that both metrics share counts as agreement")
    metric, name = target[-1].runs[0].metric, proxy[-1].runs[0].metric
    training = _over_training(largest, alpha)
    verdict, reason = _verdict(ranks, len(pairs), over, training, least)
    if verdict == SUPPORTED:
        reason += "; this is an order of sizes, not of arms of one size" if over == ALL_SIZES else ""
        reason += _compared(*ratios)
    if verdict == AGAINST and (assumed := direction_of(name)).startswith("assumed"):
        reason += f" ({assumed} for {name})"
    accuracy = small.accuracy if small else UNKNOWN
    own = UNKNOWN if ratios[1] is None else Interval(ratios[1].value, *percentiles(ratios[1].drawn, alpha))
    return {
        "task": task,
        "metric": metric,
        "proxy": name,
        "verdict": verdict,
        "reason": reason,
        "over": over,
        "runs": len(pairs),
        **columns("rank_correlation", ranks),
        **columns("correlation_over_training", training),
        **columns("signal_to_noise", own),
        "target_signal_to_noise": np.nan if ratios[0] is None else ratios[0].value,
        **columns("lead", lead),
        **columns("decision_accuracy", accuracy),
        "decision_pairs": small.pairs if small else 0,
        "decision_ties": small.ties if small else 0,
        "note": "; ".join(notes),
    }


def columns(name: str, of: Interval) -> dict[str, float]:
    """Return the three columns of an estimate."""
    return {name: of.value, f"{name}_low": of.low, f"{name}_high": of.high}


Pairs = list[tuple[Run, Run]]  # of the same model: target, proxy


def _pairs(target: Sequence[Resolution], proxy: Sequence[Resolution]) -> tuple[Pairs, str]:
    """Return the runs to correlate over, and what they are."""
    largest = list(_same_models(target[-1].runs, proxy[-1].runs))
    if len(largest) >= LEAST_RUNS or len(target) < 2:
        return largest, f"runs of size {target[-1].size}"
    every = [[run for of in found for run in of.runs] for found in (target, proxy)]
    return list(_same_models(*every)), ALL_SIZES


def _same_models(target: Sequence[Run], proxy: Sequence[Run]) -> Iterator[tuple[Run, Run]]:
    others = {run.place.model: run for run in proxy}
    for run in target:
        if run.place.model in others:
            yield run, others[run.place.model]


def _rank(pairs: Pairs, alpha: float) -> tuple[Interval, list[str]]:
    if len(pairs) < LEAST_RUNS:
        few = f"no rank correlation: {len(pairs)} runs, and it needs {LEAST_RUNS}"
        return UNKNOWN, [few]
    found = [
        correlations(rankdata(a), rankdata(b))
        for part in range(4)
        for a, b in [_crossed(pairs, part // 2, part % 2)]
    ]
    return rank_interval(float(np.mean(found)), len(pairs), alpha), []


def _crossed(pairs: Pairs, examples: int, checkpoints: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the target on one half of the data and the proxy on the other, higher is better."""
    return (
        np.array([a.sign * _half(a, examples, checkpoints) for a, _ in pairs]),
        np.array([b.sign * _half(b, 1 - examples, 1 - checkpoints) for _, b in pairs]),
    )


def _half(run: Run, examples: int, checkpoints: int) -> float:
    values = run.halves[examples] if len(run.halves) else run.values
    chosen = values[len(values) - 1 - checkpoints :: -2] if len(values) > 1 else values
    return float(chosen.mean())


def _over_training(pairs: Pairs, alpha: float) -> Interval:
    """Mean over runs of the rank correlation of target and proxy over the trained checkpoints."""
    found = [b.along[a.metric] for a, b in pairs if a.metric in b.along]
    if not found:
        return UNKNOWN
    drawn = np.mean([summary.drawn for summary in found], axis=0)
    value = float(np.mean([summary.value for summary in found]))
    return Interval(value, *percentiles(np.clip(drawn, -1, 1), alpha))


def _ratio(of: Resolution) -> Summary | None:
    if not of.noise or not of.signal:
        return None
    ratio = within_ratio(of.signal, of.noise)
    return None if np.isnan(ratio.value) else ratio


def _why_no_ratio(of: Resolution) -> str:
    if not of.noise:
        return "fewer than three trained checkpoints"
    return "the last checkpoints do not differ" if of.signal else "nothing to compare the runs with"


def _lead(pairs: Pairs, alpha: float) -> tuple[Interval, str]:
    """Decades of tokens by which the proxy is half through its change before the target is."""
    values, draws = [], []
    for target, proxy in pairs:
        down = not target.curve.rise.size >= target.curve.fall.size
        a, b = (_change(run, down) for run in (target, proxy))
        if a.clear and b.clear:
            values.append(a.half.value - b.half.value)
            draws.append(a.half.drawn - b.half.drawn)
    if not any(len(run.checkpoints) > 2 for pair in pairs for run in pair):
        return UNKNOWN, "no lead: fewer than three trained checkpoints"
    if not values:
        return UNKNOWN, "no lead: target or proxy does not clearly change in the same direction"
    k = len(values)
    variance = float(np.mean(draws, axis=0).var()) + (float(np.var(values, ddof=1)) / k if k > 1 else 0.0)
    mean, reach = float(np.mean(values)), ndtri(1 - alpha / 2) * np.sqrt(variance)
    return Interval(mean, mean - reach, mean + reach), ""


def _change(run: Run, down: bool) -> Change:
    return run.curve.fall if down else run.curve.rise


def _decisions(target: Sequence[Resolution], proxy: Sequence[Resolution], alpha: float) -> Any:
    """Compare the order of arms by the proxy at the smallest size with that by the target at the largest."""
    large = mean_by_arm([(run.place.arm, run.sign * run.mean) for run in target[-1].runs])
    for of in proxy[:-1]:
        small = mean_by_arm([(run.place.arm, run.sign * run.mean) for run in of.runs])
        if found := decisions(small, large, alpha):
            return found
    return None


def _verdict(ranks: Interval, runs: int, over: str, training: Interval, least: float) -> tuple[str, str]:
    span = f"interval {ranks.low:.2f} to {ranks.high:.2f} over {runs} {over}"
    if np.isnan(ranks.low):
        span = f"{runs} {over}, and a rank correlation needs {LEAST_RUNS}"
    if training.high < 0:
        along = f"over training it runs against the target ({training.low:.2f} to {training.high:.2f})"
        return AGAINST, f"{span}; {along}"
    if np.isnan(ranks.low):
        return UNTESTED, span
    if ranks.high < 0:
        return AGAINST, span
    if ranks.low <= least:
        return UNSUPPORTED, f"{span}; it must lie above {least:g}"
    return SUPPORTED, span


def _compared(target: Summary | None, proxy: Summary | None) -> str:
    if target is None or proxy is None:
        return ""
    return f"; signal-to-noise {proxy.value:.3g} against {target.value:.3g}"
