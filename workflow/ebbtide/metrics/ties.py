"""Ties: examples whose best choices have exactly equal scores.

argmax takes the first of equal scores, as in lm-evaluation-harness, so that published numbers can be
compared. Where the right choice is often the first, ties then count as right answers: a model that gives all
choices the same score has accuracy 1. Scoring in 16 bits makes ties between single tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ebbtide.metrics.choice import SCORES
from ebbtide.metrics.examples import Examples
from ebbtide.metrics.registry import METRICS, reported


@dataclass(frozen=True)
class Ties:
    """The ties of one metric.

    Attributes
    ----------
    tied
        Whether the best choices of each example have equal scores.
    value
        The metric, as reported: the first of the best choices is the answer.
    as_misses
        The metric if a tie between right and wrong choices counts as a wrong answer.
    at_random
        The expected metric if the answer is drawn from the best choices.
    """

    tied: np.ndarray
    value: float
    as_misses: float
    at_random: float


def ties_of(x: Examples, definition: Mapping[str, Any]) -> dict[str, Ties]:
    """Return the ties of every reported metric that compares scores of choices, without those that have none.

    `definition` is that of the task; only `metrics` (the reported ones) is used.
    """
    found = {}
    for metric in reported(x.kind.name, x.columns, definition.get("metrics")):
        if metric.name not in SCORES:
            continue
        score = SCORES[metric.name](x)
        tied = x.tied(score)
        if not tied.any():
            continue
        best = score == x.segments.max(score)[x.segments.of]
        value = METRICS[metric.name].values(x)
        right = x.segments.sum(best & right_choices(metric.name, x)) / x.segments.sum(best)
        found[metric.name] = Ties(
            tied,
            float(value.mean()),
            float(np.where(tied & (right < 1), 0.0, value).mean()),
            float(np.where(tied, right, value).mean()),
        )
    return found


def right_choices(metric: str, x: Examples) -> np.ndarray:
    """Return whether each choice is right; under mc1, only the best one is."""
    if metric != "mc1":
        return x.gold
    right: np.ndarray = (x.column("best") == 1) != x.invert
    return right
