"""Metrics of yes-or-no tasks: error rates, overall and by group.

p = P(yes) / (P(yes) + P(no)), from the log-likelihoods of the two answers; yes has the value 1, no 0. The
prediction is yes if p > 1/2, and the first choice if p = 1/2. Source: Ganguli et al. 2022, for COMPAS.
"""

import numpy as np

from ebbtide.metrics.examples import Examples, check_of
from ebbtide.metrics.registry import RATIOS, metric

RATIOS["binary"] = ("accuracy", "false_positive_rate", "false_negative_rate")


@check_of("binary")
def _check(x: Examples) -> None:
    value = x.column("value")
    whole = (x.segments.sum(value == 1) == 1) & (x.segments.sum(value == 0) == 1)
    x.refuse(~whole, "needs one choice of value 1 and one of value 0")


def _positive(x: Examples) -> np.ndarray:
    """Whether yes is the right answer, per example."""
    positive: np.ndarray = x.segments.sum(x.gold & (x.column("value") == 1)) > 0
    return positive


def _negative(x: Examples) -> np.ndarray:
    return ~_positive(x)


def _half(x: Examples) -> np.ndarray:
    return np.full(len(x), 0.5)


@metric("binary", unit="share", higher_is_better=False, main=True, weights=_negative, chance=_half)
def false_positive_rate(x: Examples) -> np.ndarray:
    """Negative examples answered yes / all negative examples.

    Share, 0 to 1; n is the number of negative examples; NaN if there are none.
    """
    yes: np.ndarray = (x.column("value")[x.answer] == 1).astype(float)
    return yes


@metric("binary", unit="share", higher_is_better=False, main=True, weights=_positive, chance=_half)
def false_negative_rate(x: Examples) -> np.ndarray:
    """Positive examples answered no / all positive examples.

    Share, 0 to 1; n is the number of positive examples; NaN if there are none.
    """
    no: np.ndarray = (x.column("value")[x.answer] == 0).astype(float)
    return no
