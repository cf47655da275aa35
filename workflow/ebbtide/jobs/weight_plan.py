"""The plan of a run that copies weights: which weights on disk it still needs. Importing it is cheap.

`jobs.weight_budget` writes the plan when a run starts. Weights are needed until every cell that waits for
them is in the results, has failed, or cannot be scored because its task could not be frozen; and until every
average of them is made or cannot be made.
"""

import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ebbtide.cells.store import failed_mark
from ebbtide.checkpoints.disk import Averaged, Budget
from ebbtide.checkpoints.formats.record import CONVERTED, can_be_made_again, is_conversion
from ebbtide.errors import CheckpointError, ConfigError
from ebbtide.files import read_json

# Weights stay this long for a failed cell to be retried, or for a task to be frozen.
GRACE_SECONDS = float(os.environ.get("EBBTIDE_GRACE", "600"))


@dataclass(frozen=True)
class WeightPlan:
    """The plan of a run, and whether it still needs weights.

    Attributes
    ----------
    budget
        Most bytes of weights on disk; None is no limit.
    stay
        Directories that are kept when their cells are scored.
    wanted
        Directory → (cell in the results, cell in the store, frozen task) of every cell that waits for it.
        Only the first shows that the job is done, because Snakemake checks for the weights even before a
        copy. A directory is of fetched or converted weights, or of an average of them.
    averages
        The averages of such weights that this run makes, or that are on disk, by directory.
    order
        Directories in the order in which they reserve space; empty without averages.
    """

    host: str
    pid: int
    started: float
    budget: int | None
    stay: frozenset[Path]
    wanted: Mapping[Path, Sequence[tuple[Path, Path, Path]]]
    averages: Mapping[Path, Averaged]
    order: Sequence[Path]

    def needs(self, directory: Path) -> bool:
        """Whether these weights must not be removed.

        Nor must conversions of deleted checkpoints, which may be the only copies.
        """
        path = directory.absolute()
        if is_conversion(path) and path.exists() and not can_be_made_again(path):
            return True
        averages = (average for average, made in self.averages.items() if path in made.parents)
        return path in self.stay or self._is_scored_later(path) or any(map(self._is_made_later, averages))

    def has_failed(self, directory: Path) -> bool:
        """Whether the job that makes a directory has failed, and was not tried again for a while."""
        return not directory.exists() and self._is_over(failed_mark_of(directory))

    def check(self) -> None:
        """Raise `CheckpointError` if the run has ended, because then no disk space will become free."""
        if self.host == socket.gethostname() and not _is_running(self.pid):
            raise CheckpointError("the run that needs these weights has ended; run snakemake again.")

    def _is_made_later(self, average: Path) -> bool:
        return not average.exists() and self._is_scored_later(average)

    def _is_scored_later(self, directory: Path) -> bool:
        parents = self.averages[directory].parents if directory in self.averages else ()
        if not directory.exists() and any(map(self.has_failed, (directory, *parents))):
            return False
        return any(self._waits(directory, *cell) for cell in self.wanted.get(directory, ()))

    def _waits(self, directory: Path, result: Path, cell: Path, requests: Path) -> bool:
        if _time(result) >= self.started:
            return False
        over = time.time() - GRACE_SECONDS
        if not requests.exists() and _time(directory, time.time()) < over:
            return False
        return not self._is_over(failed_mark(cell))

    def _is_over(self, mark: Path) -> bool:
        """Whether a job of this run failed so long ago that it is not tried again."""
        return self.started <= _time(mark) < time.time() - GRACE_SECONDS


def failed_mark_of(directory: Path) -> Path:
    """The marker of weights whose job has failed; `WeightBudget.note_failure` writes it."""
    return directory.with_name(f".{directory.name}.failed")


def read_weight_plan(path: str | Path) -> WeightPlan:
    """Read the plan that `jobs.weight_budget` wrote. Raises `ConfigError` for any other file."""
    try:
        plan = read_json(path, ConfigError, "run snakemake again")
        wanted = {
            Path(directory).absolute(): [
                (Path(result), Path(cell), Path(requests)) for result, cell, requests in cells
            ]
            for directory, cells in plan["wanted"].items()
        }
        stay = frozenset(_absolute(plan["stay"]))
        averages = {
            Path(directory).absolute(): Averaged(average["bytes"], _absolute(average["parents"]))
            for directory, average in plan["averages"].items()
        }
        return WeightPlan(
            plan["host"],
            plan["pid"],
            plan["started"],
            plan["budget_bytes"],
            stay,
            wanted,
            averages,
            _absolute(plan["order"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"--plan: {path} is not the plan of a run ({type(error).__name__}: {error}); run snakemake again."
        ) from None


def budget_of(plan: str | Path, to: Path) -> Budget | None:
    """Return the disk budget that a run sets for the directory `to`, or None.

    Raises `ConfigError` if the plan cannot be read, or `to` is not ROOT/MODEL/CHECKPOINT/NAME with a name of
    fetched or converted weights.
    """
    run = read_weight_plan(plan)
    if run.budget is None:
        return None
    absolute = to.absolute()
    if not absolute.name.startswith(("hub-", f"{CONVERTED}-")) or len(absolute.parents) < 3:
        raise ConfigError(
            f"--to: found {to}; allowed with a budget: ROOT/MODEL/CHECKPOINT/hub-ID or {CONVERTED}-ID."
        )
    earlier = run.order[: run.order.index(absolute)] if absolute in run.order else ()
    return Budget(
        absolute.parents[2],
        run.budget,
        run.needs,
        check=run.check,
        averages=run.averages,
        earlier=earlier,
        failed=run.has_failed,
    )


def _absolute(directories: Sequence[str]) -> list[Path]:
    return [Path(directory).absolute() for directory in directories]


def _time(path: Path, absent: float = 0.0) -> float:
    """Return the time of the last change of a file (Unix seconds), or `absent`."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return absent


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
