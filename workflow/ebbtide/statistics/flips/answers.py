"""What a checkpoint answers on each example of a task, as one metric sees it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ebbtide.metrics.choice import SCORES
from ebbtide.metrics.direction import find_metric, sign_of
from ebbtide.metrics.examples import Examples
from ebbtide.metrics.of_cell import example_values
from ebbtide.metrics.registry import reported
from ebbtide.metrics.sequence import sequence_loss
from ebbtide.metrics.ties import right_choices
from ebbtide.statistics.panel import Trajectory

# 0/1 metrics of choices → the score of each choice that they compare.
_SCORES: dict[str, Callable[[Examples], np.ndarray]] = {
    **SCORES,
    **dict.fromkeys(("false_positive_rate", "false_negative_rate"), SCORES["accuracy"]),
}


@dataclass(frozen=True)
class Answers:
    """The answers of one checkpoint to the n examples of a task.

    Attributes
    ----------
    examples
        (n,) sorted names, as text.
    values
        (n,) the metric of each example; NaN where the metric excludes it.
    margins
        (n,) how good the answer is, higher is better; NaN if it is unknown. Of 0/1 metrics of choices: the
        greatest score of a right choice minus that of a wrong one, in the score that the metric compares, so
        it is above 0 for a right answer. Of greedy_accuracy: the log-likelihood of the continuation. Of
        other metrics: what the example contributes to the mean, negated where lower is better.
    mean
        The metric over all examples, before any transformation.
    chosen
        (n,) index of the choice with the highest score; -1 if there is nothing to choose, or it is unknown.
    bounds
        (n + 1,) first row of each example in `probabilities` and `right`.
    probabilities
        (R,) probability of each choice among the choices of its example. Without choices, no rows.
    right
        (R,) whether each choice is right.
    is_imported
        Whether the answers are those of imported samples, of which only the metrics are known.
    """

    metric: str
    examples: np.ndarray
    values: np.ndarray
    margins: np.ndarray
    mean: float
    chosen: np.ndarray
    bounds: np.ndarray
    probabilities: np.ndarray
    right: np.ndarray
    is_imported: bool = False

    def probabilities_of(self, example: int) -> list[float] | None:
        """Return the probabilities of the choices of an example; None if there are none."""
        found = self.probabilities[self.bounds[example] : self.bounds[example + 1]]
        return found.tolist() or None

    def right_of(self, example: int) -> list[int] | None:
        """Return the indices of the right choices of an example; None without choices."""
        found = self.right[self.bounds[example] : self.bounds[example + 1]]
        return np.flatnonzero(found).tolist() if len(found) else None


def is_right_or_wrong(metric: str) -> bool:
    """Whether a metric is 1 or 0 for each example, so that examples flip."""
    found = find_metric(metric)
    return found is not None and found.unit == "share"


def answers_of(x: Examples, metric: str) -> Answers:
    """Return the answers in a cell by a registered metric of its kind."""
    registered = next((m for m in reported(x.kind.name, x.columns, None) if m.name == metric), None)
    if registered is None:
        raise ValueError(f"{metric} is not a metric of cells")
    contribution = example_values(x, registered)
    counts = ~np.isnan(contribution)
    score = SCORES["accuracy"](x)
    if metric in _SCORES:
        score = _SCORES[metric](x)
        right = right_choices(metric, x)
        margins = x.segments.max(np.where(right, score, -np.inf))
        margins = margins - x.segments.max(np.where(right, -np.inf, score))
    elif metric == "greedy_accuracy":
        margins = -sequence_loss(x)
    elif is_right_or_wrong(metric):
        margins = np.full(len(x), np.nan)
    else:
        margins = sign_of(metric) * contribution
    has_choices = x.kind.needs == "loglikelihoods" and x.kind.rows != 1
    return Answers(
        metric,
        np.array([str(name) for name in x.names], dtype=object),
        np.where(counts, registered.values(x), np.nan),
        np.where(counts, margins, np.nan),
        float(contribution[counts].mean()) if counts.any() else np.nan,
        x.segments.argmax(score) - x.segments.starts if has_choices else np.full(len(x), -1),
        np.r_[x.segments.starts, len(x.lp)] if has_choices else np.zeros(len(x) + 1, dtype=int),
        x.probability if has_choices else np.empty(0),
        x.gold if has_choices else np.empty(0, dtype=bool),
    )


def answers_of_table(trajectory: Trajectory, checkpoint: str, metric: str) -> Answers:
    """Return the answers in a table of examples, which knows neither choices nor probabilities.

    Margins of 0/1 metrics are known for accuracy only.
    """
    at = trajectory.checkpoints["checkpoint"].tolist().index(checkpoint)
    values = trajectory.values[metric][at]
    n = len(trajectory.examples)
    margins = sign_of(metric) * values
    if is_right_or_wrong(metric):
        known = trajectory.values.get("margin") if metric == "accuracy" else None
        margins = np.full(n, np.nan) if known is None else known[at]
    counts = ~np.isnan(values)
    return Answers(
        metric,
        np.array([str(name) for name in trajectory.examples], dtype=object),
        values,
        np.where(counts, margins, np.nan),
        float(values[counts].mean()) if counts.any() else np.nan,
        np.full(n, -1),
        np.zeros(n + 1, dtype=int),
        np.empty(0),
        np.empty(0, dtype=bool),
        is_imported=True,
    )
