"""Error rates of two groups and their ratios, with intervals clustered by prompt (Ganguli et al. 2022, A.4).

With yes if P(yes) > ½, and truth from the data:

    false positives FPR = FP / (FP + TN)      false negatives FNR = FN / (FN + TP)

The ratio of two groups is first / second; fairlearn's `MetricFrame.ratio` is the smaller over the larger. Its
interval is exp(log R ± z · stderr(R) / R), with the stderr of `metrics.errors_of_means.ratio`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest, norm

from ebbtide.metrics.errors_of_means import Estimate, estimate, ratio

RATES = ("accuracy", "fpr", "fnr")
RATE_COLUMNS = (
    *("n", "n_first", "n_second", "accuracy", "accuracy_low", "accuracy_high"),
    *(f"{rate}_{what}" for rate in RATES for what in ("first", "second", "ratio", "ratio_low", "ratio_high")),
)


@dataclass(frozen=True)
class Answers:
    """Yes-or-no answers to n examples; arrays (n,).

    Attributes
    ----------
    examples
        Names.
    yes, truth
        The answers, and what is true.
    level
        The group of each example, as text.
    clusters
        Integers; examples of the same cluster are dependent.
    """

    examples: np.ndarray
    yes: np.ndarray
    truth: np.ndarray
    level: np.ndarray
    clusters: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """Whether each answer is right."""
        right: np.ndarray = self.yes == self.truth
        return right


def rates_of(answers: Answers, levels: tuple[str, str], alpha: float = 0.05) -> dict[str, Any]:
    """Return the rates of two groups and their ratios: `RATE_COLUMNS`.

    A rate is NaN if the group has no example that it counts. A ratio is NaN if the second rate is 0, and its
    interval if one of the rates is.
    """
    first, second = (answers.level == level for level in levels)
    z = float(norm.ppf(1 - alpha / 2))
    overall = estimate(answers.right.astype(float), clusters=answers.clusters)
    found: dict[str, Any] = {
        "n": overall.n,
        "n_first": int(first.sum()),
        "n_second": int(second.sum()),
        "accuracy": overall.value,
        "accuracy_low": overall.value - z * overall.stderr,
        "accuracy_high": overall.value + z * overall.stderr,
    }
    for rate, values, counts in (
        ("accuracy", answers.right, np.ones_like(answers.truth)),
        ("fpr", answers.yes, ~answers.truth),
        ("fnr", ~answers.yes, answers.truth),
    ):
        one, other = first & counts, second & counts
        own = [float(values[mask].mean()) if mask.any() else np.nan for mask in (one, other)]
        between = ratio(one, other, values.astype(float), clusters=answers.clusters)
        low, high = _interval(between, z)
        found |= {f"{rate}_first": own[0], f"{rate}_second": own[1], f"{rate}_ratio": between.value}
        found |= {f"{rate}_ratio_low": low, f"{rate}_ratio_high": high}
    return found


def _interval(between: Estimate, z: float) -> tuple[float, float]:
    if not between.value > 0 or not np.isfinite(between.stderr):
        return np.nan, np.nan
    spread = np.exp(z * between.stderr / between.value)
    return float(between.value / spread), float(between.value * spread)


def mcnemar(before: Answers, after: Answers) -> dict[str, Any]:
    """Compare the right answers of two conditions on the examples of both, by McNemar's exact test.

    Returns `common` (examples), `better` and `worse` (those that only `after` or only `before` has right) and
    the two-sided `p`, 1 if they do not differ. Examples are taken as independent.
    """
    _, one, other = np.intersect1d(before.examples, after.examples, return_indices=True)
    first, second = before.right[one], after.right[other]
    better, worse = int((second & ~first).sum()), int((first & ~second).sum())
    p = binomtest(better, better + worse).pvalue if better + worse else 1.0
    return {"common": len(one), "better": better, "worse": worse, "p": float(p)}
