"""Proxies: does another metric of a task order runs as the target does, with less noise, or sooner?

Verdicts rest on rank correlations (`ranks.py`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from ebbtide.metrics.chosen import followed_metrics
from ebbtide.metrics.direction import direction_of
from ebbtide.statistics.resolution.cells import Resolution, by_arm
from ebbtide.statistics.resolution.curves import Change, Summary
from ebbtide.statistics.resolution.decisions import (
    LEAST_RUNS,
    UNKNOWN,
    Interval,
    decisions,
    percentiles,
)
from ebbtide.statistics.resolution.left_out import notes_of_alignment, only_means, why_no_noise
from ebbtide.statistics.resolution.ranks import (
    ALL_SIZES,
    POSITIONS,
    Basis,
    BySize,
    Held,
    Pair,
    basis_of,
    held_out,
    pairs_by_size,
    rank_of,
)
from ebbtide.statistics.resolution.signal import within_ratio
from ebbtide.statistics.resolution.windows import Window

SUPPORTED, AGAINST, UNSUPPORTED, UNTESTED = "supported", "runs against", "not supported", "not tested"
LEAST_CORRELATION = 0.5
COLUMNS = (
    *("task", "metric", "proxy", "verdict", "reason", "over", "runs"),
    *("rank_correlation", "rank_correlation_low", "rank_correlation_high"),
    *("held_out", "held_out_chosen"),
    *("held_out_correlation", "held_out_correlation_low", "held_out_correlation_high"),
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
        Metrics that the study follows; of a task without them, its main metric.
    least
        A proxy is supported if the interval of its rank correlation lies above this.
    """
    rows = []
    for task, metrics in metrics_of(found).items():
        for target in followed_metrics(metrics, targets):
            own = found[task, target]
            others = [name for name in metrics if name != target]
            pairs = {name: pairs_by_size(own, found[task, name]) for name in others}
            held = held_out(pairs, alpha)
            for name in others:
                row = _row(own, found[task, name], pairs[name], held.get(name), alpha, least)
                rows.append({"task": task, **row})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def metrics_of(found: Found) -> dict[str, list[str]]:
    """Return task → its metrics."""
    tasks: dict[str, list[str]] = {}
    for task, metric in found:
        tasks.setdefault(task, []).append(metric)
    return tasks


def _row(  # noqa: PLR0917 (target, proxy, and what is known of both)
    target: Sequence[Resolution],
    proxy: Sequence[Resolution],
    pairs: BySize,
    held: Held | None,
    alpha: float,
    least: float,
) -> dict[str, Any]:
    basis = basis_of(pairs)
    ranks = rank_of(basis.groups, alpha)
    largest = _at_largest(target[-1], proxy)
    ratios = [_ratio(of[-1]) for of in (target, proxy)]
    lead, why = _lead(largest, alpha)
    small = _decisions(target, proxy, alpha)
    runs = len(basis.pairs)
    notes = [] if runs >= LEAST_RUNS else [f"no rank correlation: {runs} runs, and it needs {LEAST_RUNS}"]
    notes += [why] if why else []
    if held is None:
        notes.append("no held-out correlation: too few runs known to have other seeds, or of other sizes")
    elif held.over == POSITIONS:
        notes.append(
            "seeds are not all known, or not shared by the arms, so held out are the first runs of all arms, "
            "then the second, and so on"
        )
    notes += [] if small else ["no decision accuracy: no two arms have comparable runs at two sizes"]
    notes += [] if ratios[1] else [f"no signal-to-noise: {_why_no_ratio(proxy[-1])}"]
    if runs and not all(len(run.halves) for pair in basis.pairs for run in pair):
        means = only_means([run for pair in basis.pairs for run in pair])
        notes.append(f"{means}, so noise of examples that both metrics share counts as agreement")
    notes += notes_of_alignment(target[-1])
    metric, name = target[-1].runs[0].metric, proxy[-1].runs[0].metric
    training = _over_training(largest, alpha)
    verdict, reason = _verdict(ranks, runs, basis.over, training, least)
    if verdict == SUPPORTED:
        reason += _limits(basis) + _compared(*ratios) + _validated(held)
    if verdict == AGAINST and (assumed := direction_of(name)).startswith("assumed"):
        reason += f" ({assumed} for {name})"
    accuracy = small.accuracy if small else UNKNOWN
    own = UNKNOWN if ratios[1] is None else Interval(ratios[1].value, *percentiles(ratios[1].drawn, alpha))
    return {
        "metric": metric,
        "proxy": name,
        "verdict": verdict,
        "reason": reason,
        "over": basis.over,
        "runs": runs,
        **columns("rank_correlation", ranks),
        "held_out": f"{held.folds} {held.over}" if held else "",
        "held_out_chosen": held.chosen if held else 0,
        **columns("held_out_correlation", held.correlation if held else UNKNOWN),
        **columns("correlation_over_training", training),
        **columns("signal_to_noise", own),
        "target_signal_to_noise": np.nan if ratios[0] is None else ratios[0].value,
        **columns("lead", lead),
        **columns("decision_accuracy", accuracy),
        "decision_pairs": small.pairs if small else 0,
        "decision_ties": small.ties if small else 0,
        "note": "; ".join(notes),
    }


def _at_largest(target: Resolution, proxy: Sequence[Resolution]) -> list[Pair]:
    """Return all runs of the largest size that have both metrics, also those that are not compared."""
    others = {run.place.model: run for of in proxy for run in of.every}
    return [(run, others[run.place.model]) for run in target.every if run.place.model in others]


def _limits(basis: Basis) -> str:
    """What the runs of a correlation cannot show."""
    if basis.over == ALL_SIZES:
        return "; this is an order of sizes, not of arms of one size"
    arms = len({target.place.arm for target, _ in basis.pairs})
    return f"; these are {arms} arms, and others are not tested" if arms < len(basis.pairs) else ""


def _validated(held: Held | None) -> str:
    """How a proxy does on runs that were held out when it was chosen."""
    if held is None or not held.chosen or np.isnan(held.correlation.low):
        return ""
    value, low, high = held.correlation
    where = f"on {held.chosen} of {held.folds} held-out {held.over}, for which it is the best elsewhere"
    return f"; {where}: {value:.2f} ({low:.2f} to {high:.2f})"


def columns(name: str, of: Interval) -> dict[str, float]:
    """Return the three columns of an estimate."""
    return {name: of.value, f"{name}_low": of.low, f"{name}_high": of.high}


def _over_training(pairs: Sequence[Pair], alpha: float) -> Interval:
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
        return why_no_noise(of)
    return "the last checkpoints do not differ" if of.signal else "nothing to compare the runs with"


def _lead(pairs: Sequence[Pair], alpha: float) -> tuple[Interval, str]:
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


def _change(run: Window, down: bool) -> Change:
    return run.curve.fall if down else run.curve.rise


def _decisions(target: Sequence[Resolution], proxy: Sequence[Resolution], alpha: float) -> Any:
    """Compare the order of arms by the proxy at the smallest size with that by the target at the largest."""
    large = by_arm(target[-1].aligned)
    for of in proxy[:-1]:
        if found := decisions(by_arm(of.aligned), large, alpha):
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
