"""Trends of a study: one row per model, task and metric, and one per task for small against large."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ebbtide.metrics.direction import is_share, sign_of
from ebbtide.statistics.multiplicity import adjusted
from ebbtide.statistics.panel import Trajectory
from ebbtide.statistics.resampling import bootstrap
from ebbtide.statistics.shape import FLAT, Shape, Step, shape_of
from ebbtide.statistics.simultaneous import Pairs, all_pairs, means_of
from ebbtide.statistics.trends.bend import FEWEST, Bend, bend_of
from ebbtide.statistics.trends.slopes import interval, p_of_line, p_of_mean, slope_weights

COLUMNS = (
    *("model", "parameters_non_embedding", "task", "metric", "checkpoints", "n"),
    *("slope", "low", "high", "p", "p_adjusted", "p_checkpoints", "class", "reach"),
    *("rise", "rise_from", "rise_to", "p_rise", "fall", "fall_from", "fall_to", "p_fall"),
    *("turn", "turn_low", "turn_high", "bend", "bend_low", "bend_high", "bend_change", "p_bend", "note"),
)
DIFFERENCE_COLUMNS = (
    *("task", "metric", "smallest", "largest", "n", "slope_smallest", "slope_largest"),
    *("difference", "low", "high", "p", "p_adjusted", "note"),
)
NOWHERE = Bend(np.nan, np.nan, np.nan, np.nan, np.nan)
NO_STEP = Step(-1, -1, np.nan, np.nan)


FEW_CLUSTERS = 10  # with fewer, 95 % intervals were found to cover 88 to 94 %


@dataclass(frozen=True)
class Followed:
    """What is kept of one metric of a trajectory until all of the study are known.

    `slopes` (n,) and `drawn` (B,), the slopes of examples and of bootstrap draws, are empty where there is no
    slope; `pairs` is None where nothing can be compared. `unit` is what a change of `flat` is counted in.
    """

    trajectory: str
    task: str
    metric: str
    parameters: int
    places: pd.DataFrame
    examples: np.ndarray
    clusters: np.ndarray
    slopes: np.ndarray
    drawn: np.ndarray
    p_checkpoints: float
    pairs: Pairs | None
    bend: Bend
    unit: float
    notes: tuple[str, ...]


def follow(trajectory: Trajectory, metrics: Sequence[str], alpha: float) -> Iterator[Followed]:
    """Measure the watched metrics of one trajectory.

    Checkpoints without training tokens are left out; where no tokens are known at all, every checkpoint
    counts, in its order, and there is no slope and no bend.
    """
    tokens = trajectory.places["tokens"].to_numpy(dtype=float)
    trained = tokens > 0
    known = bool(trained.any())
    kept = trained if known else np.ones_like(trained)
    places = trajectory.places[kept].reset_index(drop=True)
    x = np.log10(tokens[kept]) if known else np.zeros(0)
    for metric in trajectory.watched(metrics):
        values, clusters, examples = counted(trajectory, metric)
        values = sign_of(metric) * values[kept]
        groups = len(np.unique(clusters))
        slopes, drawn, p_checkpoints, pairs, bend = np.zeros(0), np.zeros(0), np.nan, None, NOWHERE
        notes = [] if known else ["training tokens are unknown: no slope"]
        if known and len(np.unique(x)) < 2:
            notes.append("fewer than two checkpoints with training tokens: no trend")
        elif groups < 2:
            notes.append("fewer than two examples (or clusters) count: nothing is tested")
        elif groups < FEW_CLUSTERS:
            notes.append(f"{groups} examples (or clusters): intervals by resampling are too narrow")
        if groups >= 2 and len(places) >= 2:
            means = means_of(values, clusters, trajectory.task)
            pairs = all_pairs(means)
            if len(np.unique(x)) >= 2:
                weights = slope_weights(x)
                resampled = bootstrap(values, clusters, trajectory.task)
                slopes, drawn = weights @ values, resampled @ weights
                p_checkpoints = p_of_line(x, means.values)
                if len(np.unique(x)) >= FEWEST:
                    bend = bend_of(means, resampled, x, alpha)
                else:
                    notes.append(f"a bend needs {FEWEST} checkpoints")
        yield Followed(
            trajectory.model,
            trajectory.task,
            metric,
            trajectory.parameters["non_embedding"],
            places,
            examples,
            clusters,
            slopes,
            drawn,
            p_checkpoints,
            pairs,
            bend,
            unit_of(metric, values),
            tuple(notes),
        )


def counted(trajectory: Trajectory, metric: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values (T, n'), clusters (n',) numbered without gaps, and names (n',) of the examples that count."""
    values, clusters = trajectory.counted(metric)
    counts = ~np.isnan(trajectory.values[metric]).any(axis=0)
    return values, np.unique(clusters, return_inverse=True)[1], trajectory.examples[counts]


def unit_of(metric: str, values: np.ndarray) -> float:
    """1 for shares and probabilities, else the standard deviation of examples at a checkpoint."""
    if is_share(metric):
        return 1.0
    return float(np.sqrt(values.var(axis=1).mean())) if values.size else np.nan


def trend_table(followed: Sequence[Followed], alpha: float = 0.05, flat: float = FLAT) -> pd.DataFrame:
    """One row per model, task and metric, columns `COLUMNS`.

    `slope`, `low`, `high`, `bend_change` are in the metric's own units per decade of tokens. `rise` and
    `fall` are the clearest improvement and deterioration (for a loss, a decrease is an improvement), with
    p over all pairs of checkpoints and all rows. `p_adjusted` is p after Holm over all rows. `turn` and
    `bend` are in tokens.
    """
    curves = max(1, sum(one.pairs is not None for one in followed))
    table = pd.DataFrame([_row(one, alpha, flat, curves) for one in followed], columns=list(COLUMNS))
    table["p_adjusted"] = adjusted(table["p"].to_numpy(dtype=float), "holm")
    return table


def _row(one: Followed, alpha: float, flat: float, curves: int) -> dict[str, object]:
    names, tokens = one.places["checkpoint"], one.places["tokens"].to_numpy(dtype=float)
    notes = list(one.notes)
    shape = Shape("undecided", NO_STEP, NO_STEP, np.nan, None, "")
    if one.pairs is not None:
        shape = shape_of(one.pairs, alpha, flat * one.unit, curves)
        notes += [shape.note] if shape.note else []
    turn = [np.nan] * 3 if shape.turn is None or not tokens.any() else [tokens[place] for place in shape.turn]
    if one.bend.p > alpha:
        notes.append("no bend: one line over log tokens is not rejected")
    sign = sign_of(one.metric)
    slope, low, high, p = _slope(one.slopes, one.drawn, one.clusters, alpha)
    return {
        "model": one.trajectory,
        "parameters_non_embedding": one.parameters,
        "task": one.task,
        "metric": one.metric,
        "checkpoints": len(one.places),
        "n": len(one.examples),
        "slope": sign * slope,
        "low": sign * (low if sign > 0 else high),
        "high": sign * (high if sign > 0 else low),
        "p": p,
        "p_checkpoints": one.p_checkpoints,
        "class": shape.name,
        "reach": shape.reach,
        **_step("rise", shape.rise, names),
        **_step("fall", shape.fall, names),
        **dict(zip(("turn", "turn_low", "turn_high"), turn, strict=True)),
        "bend": 10**one.bend.place,
        "bend_low": 10**one.bend.low,
        "bend_high": 10**one.bend.high,
        "bend_change": sign * one.bend.change,
        "p_bend": one.bend.p,
        "note": "; ".join(notes),
    }


def _step(name: str, step: Step, checkpoints: pd.Series) -> dict[str, object]:
    start, end = (checkpoints[place] if place >= 0 else "" for place in (step.start, step.end))
    return {name: step.size, f"{name}_from": start, f"{name}_to": end, f"p_{name}": step.p}


def _slope(
    slopes: np.ndarray, drawn: np.ndarray, clusters: np.ndarray, alpha: float
) -> tuple[float, float, float, float]:
    """Mean, interval, p of the slopes of examples."""
    if not len(slopes):
        return np.nan, np.nan, np.nan, np.nan
    estimate = float(slopes.mean())
    low, high = interval(drawn, estimate, int(clusters.max()) + 1, alpha)
    return estimate, low, high, p_of_mean(slopes, clusters)


def difference_table(followed: Sequence[Followed], alpha: float = 0.05) -> pd.DataFrame:
    """Slope of the largest minus that of the smallest model, per task and metric, on the same examples.

    The draws of a task are the same for all models, so the interval is that of the paired difference. Models
    of unknown size, and tasks with one model, have no row. Columns `DIFFERENCE_COLUMNS`.
    """
    groups: dict[tuple[str, str], list[Followed]] = {}
    for one in followed:
        if one.parameters > 0:
            groups.setdefault((one.task, one.metric), []).append(one)
    rows = []
    for (task, metric), models in groups.items():
        ordered = sorted(models, key=lambda one: (one.parameters, one.trajectory))
        small, large = ordered[0], ordered[-1]
        if small.parameters == large.parameters:
            continue
        note = _not_comparable(small, large)
        sign = sign_of(metric)
        none = np.zeros(0)
        change, drawn = (none, none) if note else (large.slopes - small.slopes, large.drawn - small.drawn)
        found, low, high, p = _slope(sign * change, sign * drawn, small.clusters, alpha)
        rows.append(
            {
                "task": task,
                "metric": metric,
                "smallest": small.trajectory,
                "largest": large.trajectory,
                "n": len(small.examples),
                "slope_smallest": sign * _mean(small.slopes),
                "slope_largest": sign * _mean(large.slopes),
                "difference": found,
                "low": low,
                "high": high,
                "p": p,
                "note": note,
            }
        )
    table = pd.DataFrame(rows, columns=list(DIFFERENCE_COLUMNS))
    table["p_adjusted"] = adjusted(table["p"].to_numpy(dtype=float), "holm")
    return table


def _not_comparable(small: Followed, large: Followed) -> str:
    for one in (small, large):
        if not len(one.slopes):
            return f"{one.trajectory} has no slope"
    if not np.array_equal(small.examples, large.examples):
        return "the models were not scored on the same examples"
    return ""


def _mean(slopes: np.ndarray) -> float:
    return float(slopes.mean()) if len(slopes) else np.nan
