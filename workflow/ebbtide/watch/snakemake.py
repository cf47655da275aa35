"""Runs of Snakemake and of other commands, started by a watcher and ended with it.

A command runs in a session of its own, so that a signal to the watcher's terminal does not reach it twice.
Its output goes to a log file.

Snakemake locks the files of a run in `.snakemake/locks`. A run that finds them locked ends. A lock is removed
if a run left it that this watcher, or a killed one before it, has started: its lock files are those that were
written down, and none of its processes exists any more. No other lock is touched.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebbtide.watch.ownership import Ownership

LOCKS = Path(".snakemake/locks")
_OWN_LOCKS = 2  # lock files that a run writes, one after the other: of its inputs and of its outputs
LOCKED = "Directory cannot be locked"  # of Snakemake's message
_ERROR = re.compile(r"\w*Error: ")
_POLL = 0.2  # seconds
_GRACE = (30.0, 10.0)  # seconds that a command gets to end after SIGINT, then after SIGTERM
_CORES = ("--cores", "-c", "--jobs", "-j", "--profile", "--executor", "-e")


@dataclass(frozen=True)
class Ended:
    """How a command ended: its status as of `subprocess`, what it printed, and the log that has it."""

    status: int
    output: str
    log: Path

    @property
    def found_lock(self) -> bool:
        """Whether it is a run of Snakemake that did not begin, because another one has locked its files."""
        return self.status != 0 and LOCKED in self.output

    def last_words(self) -> str:
        """Return the first error that the command printed, or its last line, and the log."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        errors = [line for line in lines if _ERROR.match(line)]
        found = errors or lines[-1:] or ["it printed nothing"]
        return f"{found[0]} (see {self.log})"


def run_snakemake(
    targets: Sequence[str], files: Sequence[str], options: Sequence[str], log: Path, ownership: Ownership
) -> Ended:
    """Run Snakemake on these targets.

    Parameters
    ----------
    files
        Configuration files, as for --configfile.
    options
        Further options, such as --profile. Without cores, jobs or a profile among them, all cores are used.
    """
    cores = [] if any(option.split("=")[0] in _CORES for option in options) else ["--cores", "all"]
    command = [sys.executable, "-m", "snakemake", *targets, *cores, "--keep-going", *options]
    command += ["--configfile", *files]
    before, noted = _lock_files(), dict[str, Any]()

    def note(pid: int) -> None:
        locks = noted.get("locks", [])
        if len(locks) < _OWN_LOCKS:  # what appears later is of another run
            locks = [lock for lock in _lock_files() if lock not in before]
        noted.update(group=pid, started=noted.get("started") or _start_of(pid), locks=locks)
        ownership.note(dict(noted))

    ended = run(command, log, each=note)
    # After kill -9 of Snakemake its lock is still there. One that ends by itself, whatever its status, has
    # removed its own.
    is_left = ended.status < 0 and bool(noted.get("locks")) and noted["locks"] == _lock_files()
    ownership.note(noted if is_left else {})
    return ended


def still_running(run: Mapping[str, Any]) -> str:
    """Return in words that a run which a killed watcher has started goes on; empty if it does not."""
    if not run or not _group_exists(run["group"], run["started"]):
        return ""
    return f"the run of Snakemake that a killed watcher has started goes on (process group {run['group']})"


def remove_left_lock(run: Mapping[str, Any]) -> bool:
    """Remove the lock of a run that was killed; return whether there was one."""
    locks = _lock_files()
    if not run or not locks or locks != run["locks"] or _group_exists(run["group"], run["started"]):
        return False
    for path, *_ in locks:
        Path(path).unlink(missing_ok=True)
    return True


def run(
    command: Sequence[str],
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    each: Callable[[int], None] = lambda pid: None,
) -> Ended:
    """Run a command and wait for it; end it and all its processes if this process is interrupted.

    `each` is called with the process id about five times a second. Raises `OSError` for an unknown command.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    try:
        while process.poll() is None:
            each(process.pid)
            time.sleep(_POLL)
    except BaseException:
        _end(process)
        raise
    return Ended(process.returncode, log.read_text(encoding="utf-8", errors="replace"), log)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command and its processes; first as Ctrl-C does, so that Snakemake cancels jobs and unlocks."""
    try:
        for number, grace in zip((signal.SIGINT, signal.SIGTERM), _GRACE, strict=True):
            _signal(process.pid, number)
            deadline = time.monotonic() + grace
            while time.monotonic() < deadline:
                if process.poll() is not None and not _group_exists(process.pid, ""):
                    return
                time.sleep(_POLL)
    finally:  # also at once, if this process is interrupted again
        _signal(process.pid, signal.SIGKILL)
        process.wait()


def _signal(group: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def _lock_files() -> list[list[Any]]:
    """Snakemake's lock files here: path, time of modification in ns and inode."""
    found = []
    for path in sorted(LOCKS.glob("*.lock")):
        with suppress(OSError):
            status = path.stat()
            found.append([str(path), status.st_mtime_ns, status.st_ino])
    return found


def _group_exists(group: int, started: str) -> bool:
    """Whether a process group exists whose first process, if it still runs, started at this time."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user, who got the number later
        return False
    now = _start_of(group)
    return (not now or not started or now == started) and _has_running(group)


def _has_running(group: int) -> bool:
    """Whether a group of processes has one that has not ended; without /proc, that is not known, so it has.

    A container whose first process waits for no others keeps those that have ended.
    """
    if not Path("/proc/self/stat").exists():
        return True
    return any(stat[0] != "Z" and stat[2] == str(group) for stat in map(_stat, _processes()) if stat)


def _processes() -> Iterator[int]:
    yield from (int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal())


def _start_of(pid: int) -> str:
    """When a process started, in ticks since the machine did; empty if that cannot be known."""
    stat = _stat(pid)
    return stat[19] if stat else ""


def _stat(pid: int) -> list[str]:
    """State, parent, group and so on of a process, as the kernel writes them; empty if it does not exist."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
