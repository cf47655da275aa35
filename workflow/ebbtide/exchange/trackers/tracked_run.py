"""A model of a study as a run of a tracker, and what every tracker offers."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd

from ebbtide.errors import TrackerError, type_and_reason
from ebbtide.exchange.trackers.difference import POINT
from ebbtide.files import digest
from ebbtide.texts import one_line

_MARKDOWN = str.maketrans(
    {**{c: f"\\{c}" for c in "\\`*_[]#|!~"}, **{"<": "&lt;", ">": "&gt;", "&": "&amp;"}}
)
_USER = re.compile(r"//[^/@\s]+@")


class Alarm(NamedTuple):
    """An alarm of the table of alarms, in words."""

    checkpoint: str
    step: int
    severity: str  # minor | moderate | severe
    text: str


@dataclass(frozen=True)
class TrackedRun:
    """What is published of one model.

    Attributes
    ----------
    points
        See `points.points_of`.
    config
        Model, study, parameters and settings of scoring: name → text or number.
    identities
        Checkpoint → digest of the identities of its cells; empty for imported results.
    alarms
        Alarms of the model, in training order.
    """

    study: str
    model: str
    points: pd.DataFrame
    config: Mapping[str, Any] = field(default_factory=dict)
    identities: Mapping[str, str] = field(default_factory=dict)
    alarms: Sequence[Alarm] = ()

    @property
    def name(self) -> str:
        """The name that people see."""
        return f"{self.study}/{self.model}"

    @property
    def key(self) -> str:
        """The key of the run in trackers: 20 hex digits."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:20]

    @cached_property
    def description(self) -> str:
        """Digest of all but the points."""
        alarms = [list(alarm) for alarm in self.alarms]
        return digest([dict(self.config), dict(self.identities), alarms])[:20]

    @property
    def tags(self) -> list[str]:
        """The severities of the alarms, as tags."""
        return [f"alarm-{severity}" for severity in sorted({alarm.severity for alarm in self.alarms})]

    @property
    def note(self) -> str:
        """The alarms as Markdown, which users' texts cannot leave."""
        if not self.alarms:
            return "No alarms."
        return "\n".join(f"* {escaped(alarm.text)}" for alarm in self.alarms)


def unusable(place: str, error: Exception) -> TrackerError:
    """Return the error of a library in one sentence, without the name and password of an address."""
    return TrackerError(f"{place}: {_USER.sub('//…@', type_and_reason(error))}.")


def no_points() -> pd.DataFrame:
    """Return a table of points without rows."""
    return points_from([])


def points_from(rows: Sequence[tuple[str, int, float]]) -> pd.DataFrame:
    """Return a table of points that were read from a tracker, in any order and with repeats."""
    table = pd.DataFrame(list(rows), columns=POINT)
    return table.astype({"name": object, "step": "int64", "value": "float64"}).drop_duplicates()


class Published(NamedTuple):
    """What a tracker has of a run.

    Attributes
    ----------
    points
        Its points, with the columns `difference.POINT`.
    description
        `TrackedRun.description` as of the last complete publication; empty if there is none.
    conflict
        What of the configuration the tracker cannot change, in words; empty if nothing has to.
    """

    points: pd.DataFrame
    description: str = ""
    conflict: str = ""


class Tracker(Protocol):
    """A tracker that runs are published to.

    Attributes
    ----------
    real
        The type of numbers that it stores.
    place
        Where it stores them, for people.
    notes
        Sentences about what was repaired.
    errors
        Errors of its library that users can fix.
    """

    real: type[np.floating[Any]]
    place: str
    notes: list[str]
    errors: tuple[type[Exception], ...]

    def published(self, run: TrackedRun) -> Published:
        """Return what the tracker has. Raises `TrackerError` if it cannot be used."""
        ...

    def add(self, run: TrackedRun, new: pd.DataFrame) -> None:
        """Add points, a table with `points.COLUMNS` in training order, and replace the description.

        If it is killed, `published` returns what was added.
        """
        ...

    def remove(self, run: TrackedRun) -> None:
        """Set aside everything that the tracker has of a run, so that `published` returns nothing."""
        ...


def escaped(text: str) -> str:
    """Return a text as Markdown, on one line."""
    return one_line(text).translate(_MARKDOWN)
