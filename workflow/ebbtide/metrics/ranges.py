"""The range of a metric: the values that it can take.

The register of metrics gives the unit and direction of a metric, from which its range follows. Other metrics
(lm-eval's, or imported) are judged by their names.
"""

import math
from typing import NamedTuple

from ebbtide.metrics.direction import SHARE_UNITS, find_metric, is_accuracy
from ebbtide.metrics.registry import Metric

_SHARES = ("acc", "accuracy", "exact_match", "em", "mc1", "mc2", "pass_at", "pass@", "prefix_exact_match")
_TOLERANCE = 1e-9


class Range(NamedTuple):
    """The least and the largest value of a metric."""

    low: float
    high: float

    def contains(self, value: float) -> bool:
        """Whether a value is in the range, up to rounding; a missing value is."""
        return math.isnan(value) or self.low - _TOLERANCE <= value <= self.high + _TOLERANCE

    def __str__(self) -> str:
        """Return the range in words."""
        if math.isfinite(self.high):
            return f"{self.low:g} to {self.high:g}"
        return f"at least {self.low:g}" if math.isfinite(self.low) else "any number"


ANY = Range(-math.inf, math.inf)
SHARE = Range(0.0, 1.0)
NOT_NEGATIVE = Range(0.0, math.inf)
FROM_ONE = Range(1.0, math.inf)


def range_of(metric: str) -> Range:
    """The range of a metric, by its name here; groups and filters (`accuracy[part=1]`) do not matter."""
    base = metric.partition("[")[0]
    if "ratio" in base.split("_"):  # of two shares
        return NOT_NEGATIVE
    if base.endswith("perplexity") or base == "ppl":
        return FROM_ONE
    found = find_metric(base)
    return _registered(found) if found else _by_name(base)


def _registered(metric: Metric) -> Range:
    if metric.unit in SHARE_UNITS:
        return SHARE
    if metric.unit == "squared probability":
        return Range(0.0, 2.0)
    if metric.unit == "rank":
        return FROM_ONE
    return NOT_NEGATIVE if metric.higher_is_better is False else ANY


def _by_name(base: str) -> Range:
    if is_accuracy(base) or base in _SHARES or base.startswith(tuple(f"{name}_" for name in _SHARES)):
        return SHARE
    return NOT_NEGATIVE if base.endswith("loss") or base.startswith(("bits_per", "loss")) else ANY
