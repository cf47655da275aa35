"""Drills: break a run or its files, run again, and compare with an undisturbed run."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from ebbtide.tables import CELL, read_frame
from workspace import SMALL_SERIES, SMALL_STUDY, Workspace

WORKER = "ebbtide.jobs.worker"
CELLS = [
    f"results/scores/{model}/step{step}/{Path(task).stem}.parquet"
    for model in SMALL_SERIES["models"]
    for step in SMALL_STUDY["models"][0]["steps"]
    for task in SMALL_STUDY["tasks"]
]
# All cells and tables of the small study, no figures. With `--until`, Snakemake would not start a job that
# needs the outputs of another rule named there.
OPTIONS = ("--cores", "2", "summary", "regress", *CELLS)
OUTPUT = "output.txt"
TEMPORARY = "."  # files being written begin with a dot


@dataclass(frozen=True)
class Drill:
    """One row of the table: when, what was broken, what the next run said, whether the results are equal."""

    moment: str
    broken: str
    said: str
    equal: bool
    differs: str = ""  # in what


def write_table(drills: Sequence[Drill], name: str) -> None:
    """Print a table of drills; with DRILL_TABLES=DIR, also write it to DIR/NAME.tsv."""
    table = pd.DataFrame([asdict(drill) for drill in drills])
    print(f"\n{table.to_string(index=False)}")
    if directory := os.environ.get("DRILL_TABLES"):
        table.to_csv(Path(directory, f"{name}.tsv"), sep="\t", index=False)


def run(workspace: Workspace, *arguments: str) -> tuple[int, str]:
    """Run all but the figures, after unlocking if the run says so. Returns status and output."""
    done = workspace.snakemake(*OPTIONS, *arguments, check=False)
    if "--unlock" in done.stdout:
        workspace.snakemake("--unlock")
        done = workspace.snakemake(*OPTIONS, *arguments, check=False)
    return done.returncode, done.stdout


def outcome(workspace: Workspace) -> dict[str, object]:
    """What must be equal to an undisturbed run: the rows of all cells, the bytes of all tables and texts."""
    found: dict[str, object] = {}
    for cell in _finished(workspace.cells()):
        found[str(cell.relative_to(workspace.path))] = read_frame(cell, CELL).to_csv(index=False)
    results = workspace.path / "results/small"
    tables = [*results.glob("*.tsv"), *results.glob("*.parquet"), results / "summary.txt"]
    for path in _finished(tables):
        found[str(path.relative_to(workspace.path))] = path.read_bytes() if path.exists() else None
    return found


def _finished(paths: Iterable[Path]) -> list[Path]:
    """Leave out files that were being written when their writer was killed. Nothing reads them."""
    return sorted(path for path in paths if not path.name.startswith(TEMPORARY))


def stored(workspace: Workspace) -> dict[str, tuple[int, int]]:
    """The finished cells in the store: name → (inode, time of the last change)."""
    cells = _finished(workspace.path.glob("cells/*.parquet"))
    return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in cells}


def differences(ours: Mapping[str, object], theirs: Mapping[str, object]) -> list[str]:
    """Names in two outcomes that differ or are missing on one side."""
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))


def cells_scored(workspace: Workspace) -> int:
    """Number of finished cells in the store."""
    return len(stored(workspace))


def progress(workspace: Workspace) -> int:
    """Number of files that a run has made so far."""
    return sum(len(names) for d in ("cells", "results", "logs") for *_, names in os.walk(workspace.path / d))


def start(workspace: Workspace) -> subprocess.Popen[bytes]:
    """Start a run of all but the figures in a session of its own; it prints to `OUTPUT`."""
    with (workspace.path / OUTPUT).open("wb") as output:
        return subprocess.Popen(
            [*workspace.command(), *OPTIONS],
            env=workspace.env,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float = 300) -> bool:
    """Wait for a condition while a process runs. Returns whether it came true before the process ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if ready():
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    raise AssertionError(f"nothing happened in {seconds} s")


def descendants(pid: int) -> list[int]:
    """A process and all that it started, children first."""
    return [d for child in _children(pid) for d in descendants(child)] + [pid]


def _children(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            yield from map(int, task.read_text().split())
        except OSError:  # it has ended
            continue


def workers(pid: int) -> list[int]:
    """The scoring workers below a process."""
    found = []
    for child in descendants(pid):
        try:
            arguments = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if WORKER.encode() in arguments:
            found.append(child)
    return found


def kill(pids: Sequence[int]) -> None:
    """SIGKILL; processes that have ended are passed over."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def last_words(output: str) -> str:
    """The last error of ours that an output names; `nothing` without one."""
    said = [line.strip() for line in output.splitlines() if "Error: " in line]
    return said[-1] if said else "nothing"
