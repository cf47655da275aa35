"""Direction of metrics: whether higher or lower is better, and whether a metric is a share.

No other module decides this. The register has the answer for registered metrics. For others (lm-eval's, or
imported), it is inferred: lower is better if a part of `LOSSES` is in the name, or a word of `LOSS_WORDS` is
one of its words, and a metric is a share if lower is not better and all its values are between 0 and 1. Both
lists contain all metrics of lm-evaluation-harness of which it says that lower is better.
"""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ebbtide.metrics.registry import METRICS, Metric
from ebbtide.tasks.generation.pipelines import without_filter

if TYPE_CHECKING:
    import pandas as pd

SHARE_UNITS = ("share", "probability")  # of metrics whose mean over examples is between 0 and 1
# Of metrics that are not registered: parts of names, and words that others may contain (ter in filter).
LOSSES = (
    *("loss", "perplexity", "bits_per_", "brier", "toxicity", "stereotype", "likelihood_diff"),
    *("male_preferred", "male_female", "average_len"),
)
LOSS_WORDS = frozenset(
    {
        *("ppl", "bpb", "bpc", "nll", "entropy", "ece", "mse", "rmse", "mae", "error", "errors"),
        *("ter", "wer", "cer", "bias", "invalid"),
    }
)


def find_metric(name: str) -> Metric | None:
    """Return the registered metric of a name, which may include a group (`accuracy[part=1]`), or None."""
    return METRICS.get(name.partition("[")[0])


def is_of_group(name: str) -> bool:
    """Whether a metric is of some of the examples (`accuracy[part=1]`)."""
    return "[" in without_filter(name)


def higher_is_better(name: str) -> bool | None:
    """Return the direction of a registered metric; None if neither is better, or it is not registered."""
    metric = find_metric(name)
    return metric.higher_is_better if metric else None


def lower_is_better(name: str) -> bool:
    """Whether a lower value is better. False if neither is."""
    metric = find_metric(name)
    if metric is None:
        lowered = name.partition("[")[0].lower()
        return any(part in lowered for part in LOSSES) or not LOSS_WORDS.isdisjoint(
            re.split(r"[^a-z0-9]+", lowered)
        )
    return metric.higher_is_better is False


def sign_of(name: str) -> int:
    """Return -1 if lower is better, else 1, so that `sign × value` is higher for a better model."""
    return -1 if lower_is_better(name) else 1


def signs_of(names: "pd.Series") -> "pd.Series":
    """Return `sign_of` of every name."""
    return names.map({name: sign_of(str(name)) for name in names.unique()})


def is_share(name: str, values: Iterable[float] = ()) -> bool:
    """Whether a metric is a mean of shares or probabilities.

    For a metric that is not registered, `values` decide.
    """
    metric = find_metric(name)
    if metric is None:
        return not lower_is_better(name) and all(0 <= value <= 1 for value in values)
    return metric.unit in SHARE_UNITS


def is_accuracy(name: str) -> bool:
    """Whether the chance level that a study states for a task applies to this metric."""
    return name.startswith("accuracy")


def unit_of(name: str) -> str:
    """Return the unit of a registered metric; empty if it has none, or is not registered."""
    metric = find_metric(name)
    return metric.unit if metric else ""


def direction_of(name: str) -> str:
    """Return the direction in words; empty for a registered metric of which neither end is better.

    That of a metric that is not registered is inferred from its name, and the words say so.
    """
    metric = find_metric(name)
    if metric is None:
        return f"assumed: {'lower' if lower_is_better(name) else 'higher'} is better"
    if metric.higher_is_better is None:
        return ""
    return f"{'higher' if metric.higher_is_better else 'lower'} is better"


def with_properties(table: "pd.DataFrame") -> "pd.DataFrame":
    """Add what figures need to know of metrics: `unit`, `direction`, `lower_is_better` and `is_share`.

    `table` has the column `metric`. If it also has `value`, these decide whether a metric that is not
    registered is a share.
    """
    import pandas as pd

    names = [str(name) for name in table["metric"].unique()]
    values = table["value"] if "value" in table else pd.Series(-1.0, table.index)
    shares = {name: is_share(name, values[table["metric"] == name].dropna()) for name in names}
    return table.assign(
        unit=table["metric"].map({name: unit_of(name) for name in names}).astype(object),
        direction=table["metric"].map({name: direction_of(name) for name in names}).astype(object),
        lower_is_better=(signs_of(table["metric"]) < 0).astype(bool),
        is_share=table["metric"].map(shares).astype(bool),
    )
