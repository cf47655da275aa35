"""The table of what each task can tell: noise, signal and detectable differences, with a verdict in words."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.metrics.chosen import followed_metrics
from ebbtide.metrics.direction import is_share
from ebbtide.statistics.panel import Trajectory
from ebbtide.statistics.replicates import Place
from ebbtide.statistics.resolution.alignment import stops_of
from ebbtide.statistics.resolution.cells import AVERAGE, CANNOT, PROXY, USE, Resolution, resolutions
from ebbtide.statistics.resolution.curves import Summary
from ebbtide.statistics.resolution.decisions import UNKNOWN, Interval, percentiles
from ebbtide.statistics.resolution.left_out import end_of, notes_of_alignment, only_means, why_no_noise
from ebbtide.statistics.resolution.noise import Noise
from ebbtide.statistics.resolution.proxies import (
    LEAST_CORRELATION,
    SUPPORTED,
    Found,
    columns,
    metrics_of,
    proxy_table,
)
from ebbtide.statistics.resolution.ranks import ALL_SIZES
from ebbtide.statistics.resolution.signal import ARMS, published_ratio, within_ratio
from ebbtide.statistics.resolution.windows import (
    Ends,
    Settings,
    Window,
    chances_of,
    means_by_task,
    windows_of,
    windows_of_means,
    with_targets,
)
from ebbtide.study.arms import UNKNOWN as UNKNOWN_SIZE

ESTIMATES = (
    *("signal", "step_noise", "step_noise_raw", "sd_runs", "snr_published", "snr_within"),
    *("monotonicity", "total_variation", "tokens_above_chance"),
    *("decision_accuracy", "mde_single", "mde_averaged", "examples_to_halve"),
)
COLUMNS = (
    *("task", "metric", "size", "verdict", "reason", "models", "arms", "n", "checkpoints", "span"),
    *("signal_of", "noise_of", "decision_pairs", "decision_ties"),
    *(column for name in ESTIMATES for column in (name, f"{name}_low", f"{name}_high")),
    "note",
)
NO_SEEDS = "no two models differ only by seed"
NO_SIZE = "models of unknown size may differ by more than a seed"
LONG_SPAN = 0.5  # of training within the window, above which its trend is not local


def resolution_tables(
    trajectories: Iterable[Trajectory],
    metrics: pd.DataFrame,
    places: Mapping[str, Place],
    settings: Settings,
    *,
    least: float = LEAST_CORRELATION,
    ends: Ends | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what each task can tell (`COLUMNS`), and its proxies (`proxies.COLUMNS`).

    Parameters
    ----------
    trajectories
        Results by example, of all models.
    metrics
        Rows of `tables.METRICS`, of the trajectories and of metrics of which only means are known. They say
        where windows end: at the last tokens that all runs of a size have.
    places
        Arm and size of every model.
    least
        See `proxy_table`.
    ends
        See `windows_of_means`.
    """
    chances, means = chances_of(metrics), means_by_task(metrics, places)
    stops = stops_of(means, places, settings.tolerance)
    windows: list[Window] = []
    for one in trajectories:
        rows = means.pop((one.model, one.task), None)
        windows += windows_of(one, places[one.model], settings, chances, means=rows, ends=ends, stops=stops)
    for (model, _), rows in means.items():
        own = windows_of_means(rows, places[model], settings, ends, stops)
        windows += with_targets(own, settings.targets)
    return tables_of(windows, settings, least)


def tables_of(
    runs: Sequence[Window], settings: Settings, least: float = LEAST_CORRELATION
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return both tables of the runs of a study; see `resolution_tables`."""
    groups: dict[tuple[str, str], list[Window]] = {}
    for run in runs:
        groups.setdefault((run.task, run.metric), []).append(run)
    found = {key: resolutions(of, settings.alpha, settings.tolerance) for key, of in groups.items()}
    proxies = proxy_table(found, settings.targets, settings.alpha, least)
    rows = [
        _row(task, of, found, proxies, settings.alpha)
        for task, metrics in metrics_of(found).items()
        for target in followed_metrics(metrics, settings.targets)
        for of in found[task, target]
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)), proxies


def _row(task: str, of: Resolution, found: Found, proxies: pd.DataFrame, alpha: float) -> dict[str, Any]:
    first, notes = of.runs[0], []
    row: dict[str, Any] = {
        "task": task,
        "metric": first.metric,
        "size": of.size,
        "models": len(of.runs),
        "arms": len({run.place.arm for run in of.runs}),
        "n": min(run.n for run in of.runs),
        "checkpoints": of.noise.width if of.noise else min(len(run.values) for run in of.runs),
        "span": _span(of),
        "signal_of": of.signal.kind if of.signal else "",
        "noise_of": _sources(of),
        "decision_pairs": of.decisions.pairs if of.decisions else 0,
        "decision_ties": of.decisions.ties if of.decisions else 0,
    }
    estimates, missing = _estimates(of, alpha)
    notes += notes_of_alignment(of) + missing + _cautions(of)
    proxy, largest = _watched(task, of, found, proxies), found[task, first.metric][-1].size
    verdict, reason = _verdict(of, proxy, largest, estimates, alpha)
    row |= {"verdict": verdict, "reason": reason, "note": "; ".join(notes)}
    for name in ESTIMATES:
        row |= columns(name, estimates.get(name, UNKNOWN))
    return row


def _estimates(of: Resolution, alpha: float) -> tuple[dict[str, Interval], list[str]]:
    """Return the estimates of a row, and why others are missing."""
    found, notes = _of_curves(of.runs)
    if of.noise is None:
        notes.append(f"no noise, signal or detectable difference: {why_no_noise(of)}")
    else:
        noise = of.noise
        found |= {"step_noise": noise.step, "step_noise_raw": noise.step_raw}
        found |= {"mde_single": noise.detectable(alpha)}
        found |= {"mde_averaged": noise.detectable(alpha, averaged=True)}
        if of.runs[0].examples:
            found["examples_to_halve"] = noise.examples_to_halve(min(run.n for run in of.runs))
        if noise.runs is not None:
            found["sd_runs"] = noise.runs
        if of.signal is not None:
            found["signal"] = of.signal.spread
            if noise.step.value:
                found["snr_within"] = within_ratio(of.signal, noise)
                found["snr_published"] = published_ratio(of.signal, of.runs, noise)
        notes += [f"no {name}: {why}" for name, why in _absent(of).items() if name not in found]
    intervals = _intervals(found, alpha)
    if of.decisions:
        intervals["decision_accuracy"] = of.decisions.accuracy
    else:
        few = "no two arms have comparable runs at this and the largest size"
        notes.append(f"no decision_accuracy: {'this is the largest size' if of.is_largest else few}")
    return intervals, notes


def _absent(of: Resolution) -> dict[str, str]:
    """Return why an estimate may be missing though the noise is known."""
    left = ", of those compared" if of.apart else ""
    return {
        "examples_to_halve": "only means are known",
        "sd_runs": NO_SIZE if of.size == UNKNOWN_SIZE else f"{NO_SEEDS}{left}",
        "signal": f"{_alone(of)}, and nothing to compare it with",
        "snr_within": "the last checkpoints do not differ" if of.signal else "no signal",
    }


def _alone(of: Resolution) -> str:
    """What the runs of a row are if there is no other size, and no second arm."""
    return "one model" if len(of.runs) == 1 else "one arm"


def _of_curves(runs: Sequence[Window]) -> tuple[dict[str, Summary], list[str]]:
    """Return summaries of whole curves, over the runs of a row."""
    curves = [run.curve for run in runs]
    found = {
        name: Summary(float(np.mean([s.value for s in of])), np.mean([s.drawn for s in of], axis=0))
        for name in ("monotonicity", "total_variation")
        for of in [[getattr(curve, name) for curve in curves]]
    }
    if not all(run.in_tokens for run in runs):
        return found, ["no tokens_above_chance: training tokens are unknown"]
    onsets = [curve.onset for curve in curves]
    onset = float(np.median([s.value for s in onsets]))
    if np.isnan(onset):
        return found, ["no tokens_above_chance: the level of chance is unknown"]
    drawn = np.median([s.drawn for s in onsets], axis=0)
    return found | {"tokens_above_chance": Summary(onset, drawn)}, []


def _intervals(found: Mapping[str, Summary], alpha: float) -> dict[str, Interval]:
    limits = {"monotonicity": (-1.0, 1.0)}
    return {
        name: Interval(of.value, *percentiles(np.clip(of.drawn, *limits.get(name, (0.0, np.inf))), alpha))
        for name, of in found.items()
    }


def _sources(of: Resolution) -> str:
    if of.noise is None:
        return ""
    counted = {"examples": _have_errors(of.runs), "checkpoints": True, "seeds": of.noise.runs is not None}
    return ", ".join(source for source, known in counted.items() if known)


def _have_errors(runs: Sequence[Window]) -> bool:
    """Whether the error over examples is known: not for means without standard errors."""
    return all(run.deviations.any() or run.examples != "" for run in runs)


def _cautions(of: Resolution) -> list[str]:
    if of.noise is None:
        return []
    short = sum(len(run.values) < of.noise.width for run in of.runs)
    few = f"{short} of {len(of.runs)} models have fewer than {of.noise.width} trained checkpoints"
    return ([few] if short else []) + _of_examples(of, of.noise)


def _of_examples(of: Resolution, noise: Noise) -> list[str]:
    if noise.paired:
        return []
    if not _have_errors(of.runs):
        return ["standard errors are unknown: detectable differences leave out examples"]
    if not all(run.examples for run in of.runs):
        why = only_means(of.runs)
    else:
        why = "no two models of this size" if len(of.runs) == 1 else "the models have different examples"
    return [f"{why}: detectable differences are upper bounds, for runs on different examples"]


def _span(of: Resolution) -> float:
    return float(np.median([run.span for run in of.runs]))


def _watched(task: str, of: Resolution, found: Found, proxies: pd.DataFrame) -> str:
    """Return the supported proxy with the highest signal-to-noise ratio that tells these runs apart."""
    rows = proxies[(proxies["task"] == task) & (proxies["metric"] == of.runs[0].metric)]
    rows = rows[rows["verdict"] == SUPPORTED].sort_values("signal_to_noise", ascending=False)
    if of.signal and of.signal.kind == ARMS:
        rows = rows[rows["over"] != ALL_SIZES]
    for proxy in rows["proxy"]:
        if any(other.size == of.size and other.told != CANNOT for other in found[task, proxy]):
            return str(proxy)
    return ""


def _verdict(
    of: Resolution, proxy: str, largest: str, estimates: Mapping[str, Interval], alpha: float
) -> tuple[str, str]:
    """Return the verdict and the reason in words."""
    few = f"{why_no_noise(of)}, so the noise between checkpoints is unknown"
    equal = "the last checkpoints do not differ, and the noise of examples is unknown"
    if of.noise is None or of.compared is None or not of.compared.variance().value:
        return CANNOT, equal if of.noise and of.compared else few
    width, share = of.compared.width, is_share(of.runs[0].metric)
    single, averaged = (
        _shown([of.compared.detectable(alpha, averaged=averaged).value], share) for averaged in (False, True)
    )
    singles = f"two single checkpoints show differences from {single}"
    averages = f"averages over the last {width} from {averaged}"
    limits = [] if of.compared.runs else ["the noise of seeds is unknown"]
    if not _have_errors(of.runs):
        limits.append("the noise of examples is unknown")
    elif not of.compared.paired:
        limits.append("upper bounds, for runs on different examples")
    if of.size == UNKNOWN_SIZE and len(of.runs) > 1:
        limits.append("their sizes are unknown, and may differ")
    if _span(of) > LONG_SPAN:
        limits.append(f"these span {100 * _span(of):.0f} % of training, so learning counts as noise")
    if any(run.later for run in of.aligned):
        limits.append(f"at {end_of(of)}, the last that all these runs have")
    but = f" ({'; '.join(limits[::-1])})" if limits else ""
    if of.signal is None:
        return CANNOT, f"{_alone(of)}, so there is no spread to compare; {singles}, {averages}{but}"
    spread = estimates["signal"]
    apart = f"the {len(of.signal.groups)} {of.signal.kind} lie up to {_shown([spread.value], share)} apart"
    apart += f" ({_shown([spread.low, spread.high], share)})"
    if of.told == USE:
        return USE, f"{apart}, and {singles}{but}"
    if of.told == AVERAGE:
        return f"{AVERAGE} {width}", f"{apart}; {singles}, {averages}{but}"
    if proxy:
        alike = f"{proxy} tells them apart, and orders those of {largest} alike"
        return f"{PROXY} {proxy}", f"{apart}; {averages}{but}; {alike}"
    return CANNOT, f"{apart}, which does not clearly exceed what can be shown: {averages}{but}"


def _shown(values: Sequence[float], share: bool) -> str:
    numbers = [f"{100 * value:.1f}" if share else f"{value:.3g}" for value in values]
    return " to ".join(numbers) + (" points" if share else "")
