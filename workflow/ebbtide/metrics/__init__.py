"""Metrics of a cell, computed from its log-likelihoods without a model.

`METRICS` registers every metric by name. The docstring of the function with that name gives its formula,
unit, range and source. The functions are in the modules of their kind:

    choice     one or more of K continuations are right       choice, calibration, gold
    sequence   one continuation                               sequence
    log_odds   two classes after two prompts                  log_odds
    rating     K ratings and a true rating                     rating
    binary     yes or no                                      binary, choice, calibration
    rolling    whole documents                                rolling
    generation texts that the model writes                    generation
"""

# Imported to register their metrics, in the order of rows in the table.
from ebbtide.metrics import (  # noqa: F401, I001
    choice,
    calibration,
    gold,
    sequence,
    log_odds,
    rating,
    binary,
    rolling,
    generation,
)
from ebbtide.metrics.of_cell import (
    loglikelihoods_sha256,
    measured,
    per_example,
    metrics_rows,
    reliability,
)
from ebbtide.metrics.registry import METRICS, Metric, check_metrics

__all__ = [
    "METRICS",
    "Metric",
    "check_metrics",
    "loglikelihoods_sha256",
    "measured",
    "metrics_rows",
    "per_example",
    "reliability",
]
