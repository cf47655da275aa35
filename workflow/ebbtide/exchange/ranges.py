"""Refuse imported values that their metric cannot take: percentages, or codes for missing values."""

import math

from ebbtide.errors import CellError
from ebbtide.metrics.ranges import SHARE, Range, range_of

_PERCENT = 100.0
_LEAST_PERCENT = 1.01  # less above 1 is a rounding error
_LARGEST_STDERR = 0.5  # of a share: half of the examples are right, and there are two


def check_values(
    metric: str, value: float, stderr: float, chance: float, *, where: str, key: str, study: str
) -> None:
    """Raise `CellError` unless value, standard error and chance level are possible for a metric.

    Parameters
    ----------
    where
        File, and task or row of the value, for the message.
    key
        Name of the value in the file.
    study
        Key of the row of `imported`.
    """
    allowed = range_of(metric)
    named = f"{where}: {key}" + ("" if key == metric else f" ({metric})")
    if not allowed.contains(value):
        percent = allowed == SHARE and _LEAST_PERCENT < value <= _PERCENT
        remedy = (
            f"If it is a percentage, list {metric.partition('[')[0]} under {study}.percent, or divide the "
            "values by 100."
            if percent
            else f"Correct the file, or name the metric that it is under {study}.metrics."
        )
        raise CellError(f"{named}: found {value:.10g}, allowed: {allowed}. {remedy}")
    most = _LARGEST_STDERR if allowed == SHARE else math.inf
    if not Range(0.0, most).contains(stderr):
        remedy = (
            f"If it is in percent, divide it by 100, or list {metric.partition('[')[0]} under {study}.percent"
            if stderr > 0
            else 'Leave it empty ("N/A" in JSON) if it is not known'
        )
        raise CellError(
            f"{named}: found a standard error of {stderr:g}, allowed: {Range(0.0, most)}. {remedy}."
        )
    if not allowed.contains(chance):
        raise CellError(f"{named}: found a chance level of {chance:g}, allowed: {allowed}.")
