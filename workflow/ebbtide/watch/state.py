"""What a watcher remembers: since when checkpoints wait, how often they failed, which alarms were reported.

The file is `results/{study}/.watch.json`. Losing it costs no result: waiting times, counts of failures and
alarms begin anew.
"""

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ebbtide.errors import StorageError
from ebbtide.files import read_json, write_text

VERSION = 1


@dataclass
class Failure:
    """A checkpoint that failed, `at` the last time in seconds since the epoch.

    `key` is a digest of what its cells must be; with another, attempts count anew.
    """

    key: str
    attempts: int
    cause: str
    at: float


@dataclass
class State:
    """The memory of a watcher; keys of the dictionaries are `model/checkpoint`.

    Attributes
    ----------
    waiting
        Time at which a checkpoint was first seen to wait, in seconds since the epoch.
    alarms
        The alarms that have been reported, as text.
    """

    waiting: dict[str, float] = field(default_factory=dict)
    failed: dict[str, Failure] = field(default_factory=dict)
    alarms: list[str] = field(default_factory=list)

    def wait(self, names: Iterable[str], now: float) -> None:
        """Note which checkpoints wait now; times of those that waited before are kept."""
        self.waiting = {name: self.waiting.get(name, now) for name in names}

    def fail(self, name: str, key: str, cause: str) -> Failure:
        """Count a failure of a checkpoint and return it."""
        known = self.failed.get(name)
        before = known.attempts if known and known.key == key else 0
        self.failed[name] = Failure(key, before + 1, cause, time.time())
        return self.failed[name]

    def write(self, study: str) -> None:
        """Write the state. Raises `StorageError`."""
        write_text(json.dumps({"version": VERSION, **asdict(self)}, indent=1) + "\n", state_path(study))


def state_path(study: str) -> Path:
    """Path of the state of the watcher of a study."""
    return Path("results", study, ".watch.json")


def read_state(study: str) -> tuple[State, str]:
    """Return the state of a study, and what is wrong with the file in words; empty if nothing is."""
    path = state_path(study)
    if not path.exists():
        return State(), ""
    try:
        content: dict[str, Any] = read_json(path, StorageError)
        if (version := content.pop("version", None)) != VERSION:
            raise ValueError(f"version {version!r}, allowed: {VERSION}")
        failed = {str(name): Failure(**one) for name, one in content.pop("failed").items()}
        waiting = {str(name): float(since) for name, since in content.pop("waiting").items()}
        return State(**content, waiting=waiting, failed=failed), ""
    except (StorageError, ValueError, TypeError, KeyError, AttributeError) as error:
        return State(), f"{path} cannot be used ({error}); waiting times and failures are counted anew"
