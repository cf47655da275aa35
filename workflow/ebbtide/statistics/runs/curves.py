"""Curves: the mean of a task or a suite at every checkpoint of a run, and how it depends on its examples.

The influence ψ of a cluster of examples is its part of the error of a mean, scaled so that products of
influences are covariances over examples:

    ψ_tg = √(G / (G - 1)) Σ_{i in g} (x_ti - m_t) / n        Cov(m_s, m_t) = Σ_g ψ_sg ψ_tg

This is the covariance of clustered errors (Miller 2024, arXiv:2411.00640). It is linear in the values, so a
difference of two runs on the same examples has the difference of their influences, which pairs the examples.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ebbtide.metrics.direction import is_accuracy, is_share
from ebbtide.statistics.panel import Trajectory
from ebbtide.statistics.resampling import cluster_sums


@dataclass(frozen=True)
class Unit:
    """A task or a suite, with a metric. One of `task` and `suite` is empty."""

    task: str
    suite: str
    metric: str

    @property
    def name(self) -> str:
        """Name of the task or suite."""
        return self.task or self.suite


@dataclass(frozen=True)
class Curve:
    """One run on one unit.

    Attributes
    ----------
    tokens
        (T,) training tokens, ascending, above 0.
    values
        (T,) means over examples, or the value of a suite.
    influence
        (T, G) influence of every cluster. If only means are known, one column, the standard error: examples
        then count as the same at all checkpoints and for all runs of an arm, but not for two arms.
    examples
        What identifies the examples; empty if only means are known.
    df
        Degrees of freedom of errors over examples: number of clusters, less one for every task.
    """

    model: str
    tokens: np.ndarray
    values: np.ndarray
    influence: np.ndarray
    examples: str
    df: float

    def without_examples(self) -> "Curve":
        """Return the curve as if only means and standard errors were known."""
        if not self.examples:
            return self
        errors = np.sqrt((self.influence**2).sum(axis=1, keepdims=True))
        return Curve(self.model, self.tokens, self.values, errors, "", self.df)


def curve_of(trajectory: Trajectory, metric: str) -> Curve | None:
    """Return the curve of a metric over the checkpoints with training tokens; None without any.

    A single cluster of examples has no known error: its influence is NaN.
    """
    tokens = trajectory.checkpoints["tokens"].to_numpy(dtype=float)
    values, clusters = trajectory.counted(metric)
    kept = _first_of_tokens(tokens)
    if not len(kept) or not values.shape[1]:
        return None
    counts = ~np.isnan(trajectory.values[metric]).any(axis=0)
    return curve_with_examples(
        trajectory.model, tokens[kept], values[kept], clusters, trajectory.examples[counts]
    )


def curve_with_examples(
    model: str, tokens: np.ndarray, values: np.ndarray, clusters: np.ndarray, names: np.ndarray
) -> Curve:
    """Return the curve of values (T, n) of examples with `clusters` (n,) and `names` (n,)."""
    means, n = values.mean(axis=1), values.shape[1]
    sums = cluster_sums(values - means[:, None], clusters)
    groups = sums.shape[1]
    factor = np.sqrt(groups / (groups - 1)) if groups > 1 else np.nan
    identity = hashlib.sha256("\n".join(map(repr, names.tolist())).encode() + clusters.tobytes()).hexdigest()
    return Curve(model, tokens, means, factor * sums / n, identity, groups - 1)


def curves_of_means(metrics: pd.DataFrame) -> dict[tuple[str, str, str], Curve]:
    """Return the curve of every model, task and metric of `tables.METRICS`, without examples.

    Checkpoints without a value are left out; without a standard error, the influence is NaN.
    """
    found = {}
    for (model, task, metric), rows in metrics.groupby(["model", "task", "metric"], sort=False):
        of_curve = rows.dropna(subset=["value"])
        tokens = of_curve["tokens"].to_numpy(dtype=float)
        kept = _first_of_tokens(tokens)
        values, errors, n = (of_curve[name].to_numpy(dtype=float)[kept] for name in ("value", "stderr", "n"))
        if len(kept):
            df = float(n.min() - 1) if (n > 1).all() else np.inf
            found[str(model), str(task), str(metric)] = Curve(
                str(model), tokens[kept], values, errors[:, None], "", df
            )
    return found


def suite_curve(curves: Sequence[Curve], chances: Sequence[float], *, resample_tasks: bool) -> Curve | None:
    """Return the mean of (value - chance) / (1 - chance) over tasks, at the checkpoints that all have.

    The examples of different tasks are independent. With `resample_tasks`, the tasks themselves are the
    sample: each is a cluster, and its value varies with its examples as well as from task to task. None if no
    checkpoint has all tasks.
    """
    tokens = np.array(sorted(set.intersection(*(set(curve.tokens) for curve in curves))))
    if not len(tokens):
        return None
    count = len(curves)
    rows = [np.searchsorted(curve.tokens, tokens) for curve in curves]
    of_tasks = list(zip(curves, rows, chances, strict=True))
    parts = np.stack([(curve.values[row] - c) / (1 - c) for curve, row, c in of_tasks], axis=1)
    values = parts.mean(axis=1)
    if resample_tasks:
        factor = np.sqrt(count / (count - 1)) if count > 1 else np.nan
        influence = factor * (parts - values[:, None]) / count
        return Curve(curves[0].model, tokens, values, influence, f"{count} tasks", count - 1)
    influence = np.hstack([curve.influence[row] / (1 - c) / count for curve, row, c in of_tasks])
    known = all(curve.examples for curve in curves)
    identity = " ".join(curve.examples for curve in curves) if known else ""
    return Curve(curves[0].model, tokens, values, influence, identity, sum(curve.df for curve in curves))


def chance_levels(tasks: Sequence[str], metric: str, metrics: pd.DataFrame) -> tuple[list[float], list[str]]:
    """Return the chance level of every task of a suite, and the tasks where it is unknown, which get 0.

    Metrics that are not shares, such as log-likelihoods, are averaged as they are: all get 0.
    """
    if not (is_accuracy(metric) or is_share(metric)):
        return [0.0] * len(tasks), []
    rows = metrics[(metrics["metric"] == metric) & metrics["task"].isin(tasks)].dropna(subset=["chance"])
    known = {task: level for task, level in rows.groupby("task")["chance"].first().items() if level < 1}
    return [float(known.get(task, 0.0)) for task in tasks], [task for task in tasks if task not in known]


def _first_of_tokens(tokens: np.ndarray) -> np.ndarray:
    """Return the indices of trained checkpoints by ascending tokens, the first of those with the same."""
    values, first = np.unique(tokens, return_index=True)
    kept: np.ndarray = first[values > 0]
    return kept
