"""What a tracker lacks of a run, and what it has of earlier publications."""

from typing import NamedTuple

import pandas as pd

KEY = ["name", "step"]
POINT = [*KEY, "value"]


class Difference(NamedTuple):
    """Points of a run and of a tracker.

    Attributes
    ----------
    new
        Points that the tracker lacks.
    changed
        Points of the tracker that have another value now.
    gone
        Points of the tracker that the run does not have any more.
    """

    new: pd.DataFrame
    changed: pd.DataFrame
    gone: pd.DataFrame


def difference(wanted: pd.DataFrame, published: pd.DataFrame) -> Difference:
    """Compare the points of a run with those of a tracker; both tables have the columns `POINT`.

    Values are compared exactly: both sides must have the precision of the tracker.
    """
    new = _without(wanted, published, POINT)
    left = _without(published, wanted, POINT)
    gone = _without(left, new, KEY)
    return Difference(new, _without(left, gone, KEY), gone)


def _without(rows: pd.DataFrame, others: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Rows whose columns no other row has."""
    found = pd.MultiIndex.from_frame(rows[columns]).isin(pd.MultiIndex.from_frame(others[columns]))
    return rows[~found].reset_index(drop=True)
