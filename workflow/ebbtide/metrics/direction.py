"""What is better, higher or lower, and what is a share: the only place that decides it.

Of a registered metric, the register knows. Of any other (lm-eval's own, or imported), only the name and the
values are known: it is taken for a loss if its name says so, and for a share if all its values lie between 0
and 1 and it is no loss.
"""

from collections.abc import Iterable

import pandas as pd

from ebbtide.metrics.registry import METRICS, Metric

SHARE_UNITS = ("share", "probability")  # of metrics whose mean over examples lies between 0 and 1
LOSSES = ("loss", "perplexity", "bits_per_byte", "brier")  # in names of metrics that are not registered


def find_metric(name: str) -> Metric | None:
    """The registered metric of a row's name, which may be that of a group (`accuracy[part=1]`); else None."""
    return METRICS.get(name.partition("[")[0])


def higher_is_better(name: str) -> bool | None:
    """What the register says of a metric; None where neither is better, or the metric is not registered."""
    metric = find_metric(name)
    return metric.higher_is_better if metric else None


def lower_is_better(name: str) -> bool:
    """Whether a lower value is better. Not where neither is: there, any change counts as it is."""
    metric = find_metric(name)
    if metric is None:
        return any(word in name for word in LOSSES)
    return metric.higher_is_better is False


def sign_of(name: str) -> int:
    """-1 where lower is better, else 1: `sign × value` is higher where a model is better."""
    return -1 if lower_is_better(name) else 1


def signs_of(names: pd.Series) -> pd.Series:
    """`sign_of` for every row."""
    return names.map({name: sign_of(str(name)) for name in names.unique()})


def is_share(name: str, values: Iterable[float] = ()) -> bool:
    """Whether a metric is a mean of shares or probabilities.

    `values` decide for a metric that is not registered.
    """
    metric = find_metric(name)
    if metric is None:
        return not lower_is_better(name) and all(0 <= value <= 1 for value in values)
    return metric.unit in SHARE_UNITS


def is_accuracy(name: str) -> bool:
    """Whether a chance level that a study states for a task is that of this metric."""
    return name.startswith("accuracy")


def with_properties(table: pd.DataFrame) -> pd.DataFrame:
    """A table of metrics with the columns `lower_is_better` and `is_share`, which figures need.

    `table` has the columns `metric` and `value`.
    """
    shares = {name: is_share(str(name), values.dropna()) for name, values in table.groupby("metric")["value"]}
    return table.assign(
        lower_is_better=(signs_of(table["metric"]) < 0).astype(bool),
        is_share=table["metric"].map(shares).astype(bool),
    )
