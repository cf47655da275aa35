"""Metrics of a cell, all from its log-likelihoods, without a model.

`METRICS` registers every metric under its name. What it is (formula, unit, range, source) stands in the
docstring of the function of that name, in the module of its kind:

    choice     one or more of K continuations are right       choice, calibration
    sequence   one continuation                               sequence
    log_odds   two classes after two prompts                  log_odds
    rating     K ratings and a true one                       rating
    binary     yes or no                                      binary, choice, calibration
    rolling    whole documents                                rolling
"""

# Imported for what they register, in the order of the rows.
from ebbtide.metrics import choice, calibration, sequence, log_odds, rating, binary, rolling  # noqa: F401, I001
from ebbtide.metrics.of_cell import (
    loglikelihoods_sha256,
    measured,
    per_example,
    placed_rows,
    reliability,
)
from ebbtide.metrics.registry import METRICS, Metric, check_metrics

__all__ = [
    "METRICS",
    "Metric",
    "check_metrics",
    "loglikelihoods_sha256",
    "measured",
    "per_example",
    "placed_rows",
    "reliability",
]
