"""Table of trends: slope and class per model, task and metric."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ebbtide.metrics.direction import is_share
from ebbtide.statistics.detectable import PairNoise, noise_of
from ebbtide.statistics.multiplicity import adjusted
from ebbtide.statistics.panel import Trajectory, is_binary
from ebbtide.statistics.resampling import bootstrap
from ebbtide.statistics.shape import (
    EQUIVALENCE_MARGIN,
    Shape,
    Step,
    ability_of,
    shape_of,
    turn_detectable,
    turning_pairs,
)
from ebbtide.statistics.simultaneous import Pairs, all_pairs, means_of
from ebbtide.statistics.trends.bend import MIN_CHECKPOINTS, Bend, bend_of
from ebbtide.statistics.trends.slopes import interval, p_of_line, p_of_mean, slope_weights

COLUMNS = (
    *("model", "parameters_non_embedding", "task", "metric", "checkpoints", "n"),
    *("slope", "low", "high", "p", "p_adjusted", "p_checkpoints", "class", "ability", "reach"),
    *("rise", "rise_from", "rise_to", "p_rise", "fall", "fall_from", "fall_to", "p_fall"),
    *(
        "turn",
        "turn_low",
        "turn_high",
        "turn_detectable",
        "bend",
        "bend_low",
        "bend_high",
        "bend_change",
        "p_bend",
        "note",
    ),
)
NO_BEND = Bend(np.nan, np.nan, np.nan, np.nan, np.nan)
NO_STEP = Step(-1, -1, np.nan, np.nan)
FEW_CLUSTERS = 10  # with fewer, 95 % intervals cover 88 to 94 % in simulation


@dataclass(frozen=True)
class MetricTrend:
    """Trend of one metric of a trajectory, before corrections over the study.

    `slopes` (n,) of examples and `drawn` (B,) of bootstrap draws are empty if there is no slope. `pairs`, and
    `turns`, the noise of `shape.turning_pairs`, are None if nothing can be compared. `unit` is the unit of
    the equivalence margin.
    """

    model: str
    task: str
    metric: str
    parameters: int
    checkpoints: pd.DataFrame
    examples: np.ndarray
    clusters: np.ndarray
    slopes: np.ndarray
    drawn: np.ndarray
    p_checkpoints: float
    pairs: Pairs | None
    turns: PairNoise | None
    bend: Bend
    unit: float
    notes: tuple[str, ...]


def metric_trends(trajectory: Trajectory, metrics: Sequence[str], alpha: float) -> Iterator[MetricTrend]:
    """Yield the trend of each metric that the trajectory has (see `Trajectory.available`).

    Checkpoints without training tokens are left out. If no tokens are known, all checkpoints are used in
    order, without slope and bend.
    """
    tokens = trajectory.checkpoints["tokens"].to_numpy(dtype=float)
    trained = tokens > 0
    known = bool(trained.any())
    kept = trained if known else np.ones_like(trained)
    checkpoints = trajectory.checkpoints[kept].reset_index(drop=True)
    x = np.log10(tokens[kept]) if known else np.zeros(0)
    for metric in trajectory.available(metrics):
        values, clusters, examples = counted(trajectory, metric)
        values = values[kept]
        groups = len(np.unique(clusters))
        slopes, drawn, p_checkpoints, bend = np.zeros(0), np.zeros(0), np.nan, NO_BEND
        pairs, turns = None, None
        notes = [] if known else ["training tokens are unknown: no slope"]
        if known and len(np.unique(x)) < 2:
            notes.append("fewer than two checkpoints with training tokens: no trend")
        elif groups < 2:
            notes.append("fewer than two examples (or clusters) with values: nothing is tested")
        elif groups < FEW_CLUSTERS:
            notes.append(f"only {groups} examples (or clusters): bootstrap intervals are too narrow")
        if groups >= 2 and len(checkpoints) >= 2:
            means = means_of(values, clusters, trajectory.task)
            pairs = all_pairs(means)
            start, end = turning_pairs(len(checkpoints))
            turns = noise_of(values[end], values[start], clusters, is_binary(values))
            if len(np.unique(x)) >= 2:
                weights = slope_weights(x)
                resampled = bootstrap(values, clusters, trajectory.task)
                # Weights sum to 0 but for rounding, which must not give a slope to answers that never change.
                slopes = weights @ (values - values[0])
                drawn = (resampled - resampled[:, :1]) @ weights
                p_checkpoints = p_of_line(x, means.values)
                if len(np.unique(x)) >= MIN_CHECKPOINTS:
                    bend = bend_of(means, resampled, x, alpha)
                else:
                    notes.append(f"a bend needs {MIN_CHECKPOINTS} checkpoints")
        yield MetricTrend(
            trajectory.model,
            trajectory.task,
            metric,
            trajectory.parameters["non_embedding"],
            checkpoints,
            examples,
            clusters,
            slopes,
            drawn,
            p_checkpoints,
            pairs,
            turns,
            bend,
            unit_of(metric, values),
            tuple(notes),
        )


def counted(trajectory: Trajectory, metric: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return values (T, n'), consecutive cluster numbers (n',) and names (n',) of a metric's examples."""
    values, clusters = trajectory.counted(metric)
    counts = ~np.isnan(trajectory.values[metric]).any(axis=0)
    return values, np.unique(clusters, return_inverse=True)[1], trajectory.examples[counts]


def unit_of(metric: str, values: np.ndarray) -> float:
    """Return 1 for shares and probabilities, else the standard deviation of examples at a checkpoint."""
    if is_share(metric):
        return 1.0
    return float(np.sqrt(values.var(axis=1).mean())) if values.size else np.nan


def trend_table(
    trends: Sequence[MetricTrend], alpha: float = 0.05, equivalence_margin: float = EQUIVALENCE_MARGIN
) -> pd.DataFrame:
    """One row per model, task and metric, columns `COLUMNS`.

    All columns describe the values as they are, also those of a loss; `ability` says what the class means
    for the model. `slope`, `low`, `high` and `bend_change` are in units of the metric per decade of tokens.
    `rise` and `fall` are the most significant increase and decrease, with p adjusted over all pairs of
    checkpoints and all rows. `turn_detectable` is the depth of a turn that would have been found with 80 %
    probability, NaN if a turn was found. `p_adjusted` is p adjusted by Holm over all rows. `turn` and `bend`
    are in tokens.
    """
    curves = max(1, sum(one.pairs is not None for one in trends))
    table = pd.DataFrame(
        [_row(one, alpha, equivalence_margin, curves) for one in trends], columns=list(COLUMNS)
    )
    table["p_adjusted"] = adjusted(table["p"].to_numpy(dtype=float), "holm")
    return table


def _row(one: MetricTrend, alpha: float, equivalence_margin: float, curves: int) -> dict[str, object]:
    names, tokens = one.checkpoints["checkpoint"], one.checkpoints["tokens"].to_numpy(dtype=float)
    notes = list(one.notes)
    shape, depth = Shape("undecided", NO_STEP, NO_STEP, np.nan, None, ""), np.nan
    if one.pairs is not None and one.turns is not None:
        shape = shape_of(one.pairs, alpha, equivalence_margin * one.unit, curves)
        notes += [shape.note] if shape.note else []
        if max(shape.rise.p, shape.fall.p) > alpha:  # not both a rise and a fall
            depth = turn_detectable(shape.name, one.turns, one.pairs.greatest.critical(alpha, curves))
            notes += [] if np.isnan(depth) else [f"a turn of up to {depth:.2g} would not have been found"]
    turn = [np.nan] * 3 if shape.turn is None or not tokens.any() else [tokens[i] for i in shape.turn]
    if one.bend.p > alpha:
        notes.append("no bend: a single line over log tokens is not rejected")
    slope, low, high, p = slope_of(one.slopes, one.drawn, one.clusters, alpha)
    return {
        "model": one.model,
        "parameters_non_embedding": one.parameters,
        "task": one.task,
        "metric": one.metric,
        "checkpoints": len(one.checkpoints),
        "n": len(one.examples),
        "slope": slope,
        "low": low,
        "high": high,
        "p": p,
        "p_checkpoints": one.p_checkpoints,
        "class": shape.name,
        "ability": ability_of(shape.name, one.metric),
        "reach": shape.reach,
        **_step("rise", shape.rise, names),
        **_step("fall", shape.fall, names),
        **dict(zip(("turn", "turn_low", "turn_high"), turn, strict=True)),
        "turn_detectable": depth,
        "bend": 10**one.bend.place,
        "bend_low": 10**one.bend.low,
        "bend_high": 10**one.bend.high,
        "bend_change": one.bend.change,
        "p_bend": one.bend.p,
        "note": "; ".join(notes),
    }


def _step(name: str, step: Step, checkpoints: pd.Series) -> dict[str, object]:
    start, end = (checkpoints[i] if i >= 0 else "" for i in (step.start, step.end))
    return {name: step.size, f"{name}_from": start, f"{name}_to": end, f"p_{name}": step.p}


def slope_of(
    slopes: np.ndarray, drawn: np.ndarray, clusters: np.ndarray, alpha: float
) -> tuple[float, float, float, float]:
    """Return mean, interval and p of the slopes of examples."""
    if not len(slopes):
        return np.nan, np.nan, np.nan, np.nan
    estimate = float(slopes.mean())
    low, high = interval(drawn, estimate, int(clusters.max()) + 1, alpha)
    return estimate, low, high, p_of_mean(slopes, clusters)
