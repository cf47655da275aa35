"""The run that fetches: which weights on disk it still needs. A lean module.

Snakemake writes the plan when a run starts (`jobs.weight_budget`). Weights are needed until every cell that
waits for them is among the results, has failed, or can never be scored because its task could not be frozen.
"""

import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebbtide.cells.store import failed_mark
from ebbtide.checkpoints.hub.disk import Budget
from ebbtide.errors import CheckpointError, ConfigError

# Seconds in which a failed cell may be tried again, and a task be frozen.
GRACE = float(os.environ.get("EBBTIDE_GRACE", "600"))


@dataclass(frozen=True)
class FetchPlan:
    """The plan of a run.

    Attributes
    ----------
    budget
        Most bytes of weights on disk; None is no limit.
    stay
        Directories that stay when they are scored.
    wanted
        Directory → (cell among the results, in the store, frozen task) of every cell that waits for it.
        Only the first says that its job is done: Snakemake looks for the weights before a copying job, too.
    """

    host: str
    pid: int
    started: float
    budget: int | None
    stay: frozenset[Path]
    wanted: Mapping[Path, Sequence[tuple[Path, Path, Path]]]

    def needs(self, directory: Path) -> bool:
        """Whether these weights may not be removed."""
        path = directory.absolute()
        return path in self.stay or any(self._waits(path, *cell) for cell in self.wanted.get(path, ()))

    def check(self) -> None:
        """Raise `CheckpointError` if the run is over: nobody would make room."""
        if self.host == socket.gethostname() and not _lives(self.pid):
            raise CheckpointError("the run that fetches these weights has ended; run snakemake again.")

    def _waits(self, directory: Path, result: Path, cell: Path, requests: Path) -> bool:
        if _time(result) >= self.started:
            return False
        over = time.time() - GRACE
        if not requests.exists() and _time(directory, time.time()) < over:
            return False
        return not self.started <= _time(failed_mark(cell)) < over


def read_fetch_plan(path: str | Path) -> FetchPlan:
    """The plan in a file, as `jobs.weight_budget` makes it. Raises `ConfigError` if it is none."""
    try:
        plan: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
        wanted = {
            Path(directory).absolute(): [
                (Path(result), Path(cell), Path(asked)) for result, cell, asked in cells
            ]
            for directory, cells in plan["wanted"].items()
        }
        stay = frozenset(Path(directory).absolute() for directory in plan["stay"])
        return FetchPlan(plan["host"], plan["pid"], plan["started"], plan["budget_bytes"], stay, wanted)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"--plan: {path} is no plan of a run ({type(error).__name__}: {error}); run snakemake again."
        ) from None


def budget_of(plan: str | Path, to: Path) -> Budget | None:
    """The budget of disk space that a run sets for the directory `to`; None if it sets none.

    Raises `ConfigError` if the plan cannot be read, or `to` is not ROOT/MODEL/CHECKPOINT/hub-ID.
    """
    run = read_fetch_plan(plan)
    if run.budget is None:
        return None
    absolute = to.absolute()
    if not absolute.name.startswith("hub-") or len(absolute.parents) < 3:
        raise ConfigError(f"--to: found {to}; allowed within a budget: ROOT/MODEL/CHECKPOINT/hub-ID.")
    return Budget(absolute.parents[2], run.budget, run.needs, check=run.check)


def _time(path: Path, absent: float = 0.0) -> float:
    """When a file was last changed (Unix seconds)."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return absent


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
