"""Progress inside a cell: tokens done, rate and time left, of one worker and of all that run at once.

Each worker writes the state of its cell to a small file every few seconds. So one of them can print a line
about all to the terminal of the run, and `ebbtide status` can be asked from elsewhere. A worker that dies
leaves its file, which is ignored when it is old.
"""

import json
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from ebbtide.logs import Progress, duration
from ebbtide.notices import counted

DIRECTORY = Path("resources/ahead/progress")
WRITTEN_SECONDS = 3.0  # between two states of a worker
STALE_SECONDS = 60.0  # age of a state whose worker has died, or waits


@dataclass(frozen=True)
class CellState:
    """How far a cell is: unique tokens scored, of how many, and how fast (tokens per second)."""

    name: str
    done: int
    total: int
    rate: float

    @property
    def seconds_left(self) -> float:
        """Seconds until all tokens are scored, at the rate so far."""
        return (self.total - self.done) / self.rate if self.rate else 0.0


class CellProgress:
    """Reports the progress of one cell after another.

    `report` is called after every forward pass. It costs a look at the clock unless something is due.
    """

    def __init__(
        self, progress: Progress, directory: Path = DIRECTORY, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._progress, self._directory, self._clock = progress, directory, clock
        self._file = directory / f"{socket.gethostname()}-{os.getpid()}.json"
        self._name, self._started, self._due = "", 0.0, 0.0

    def start(self, name: str) -> None:
        """Begin with a cell."""
        self._name, self._started = name, self._clock()
        self._due = self._started + WRITTEN_SECONDS

    def report(self, done: int, total: int) -> None:
        """Note that `done` of the `total` unique tokens of the cell are scored."""
        if done >= total:
            self.end()
            return
        now = self._clock()
        if now < self._due:
            return
        self._due = now + WRITTEN_SECONDS
        state = CellState(self._name, done, total, done / (now - self._started))
        self._write(state)
        self._progress.show(in_words([state]), self._for_all)

    def tell(self, text: str) -> None:
        """Print a sentence on the terminal of the run, at once."""
        self._progress.tell(text)

    def end(self) -> None:
        """Remove the state, so that another worker can speak for all."""
        with suppress(OSError):
            self._file.unlink(missing_ok=True)

    def _for_all(self) -> str | None:
        """The line for the terminal, from the first of the workers on this machine and others."""
        states = _states(self._directory)
        return in_words(list(states.values())) if next(iter(states), None) == self._file else None

    def _write(self, state: CellState) -> None:
        part = self._file.with_suffix(".part")
        with suppress(OSError):  # a full disk must not stop scoring
            self._directory.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(asdict(state)), encoding="utf-8")
            part.replace(self._file)


def running(directory: Path = DIRECTORY) -> list[CellState]:
    """Return the states of the cells that are being scored, by name."""
    return sorted(_states(directory).values(), key=lambda state: state.name)


def sweep(directory: Path = DIRECTORY) -> None:
    """Remove the states of workers that died."""
    for file in directory.glob("*"):
        with suppress(OSError):
            if not _is_fresh(file):
                file.unlink()


def _states(directory: Path) -> dict[Path, CellState]:
    """The states of all workers, by file."""
    found = {}
    for file in sorted(directory.glob("*.json")):
        with suppress(OSError, ValueError, TypeError):  # removed meanwhile, or of another version
            if _is_fresh(file):
                found[file] = CellState(**json.loads(file.read_text(encoding="utf-8")))
    return found


def _is_fresh(file: Path) -> bool:
    return time.time() - file.stat().st_mtime < STALE_SECONDS


def in_words(states: Sequence[CellState]) -> str:
    """Return one line about the cells that are being scored, at least one."""
    done, total = sum(state.done for state in states), sum(state.total for state in states)
    rate, left = sum(state.rate for state in states), max(state.seconds_left for state in states)
    what = states[0].name if len(states) == 1 else counted(states, "cell") + " at once"
    return (
        f"{what}: {done:,} of {total:,} tokens ({100 * done // max(total, 1)} %), {rate:,.0f} tokens/s, "
        f"about {duration(left)} left"
    )
