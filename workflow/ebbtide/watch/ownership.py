"""One watcher per study: a lock file with its owner and a heartbeat.

The kernel's lock (`flock`) on the file excludes a second watcher, and ends with the process that holds it.
Some file systems grant it to one process of each machine, or have none. Therefore the owner writes down its
machine, its process and, every `BEAT` seconds, the time. A watcher that finds a recent time of another
machine does not begin.
"""

import getpass
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from ebbtide.errors import EbbtideError
from ebbtide.files import storage_errors
from ebbtide.locks import open_or_create_for_all, try_lock
from ebbtide.logs import duration

BEAT = 15.0  # seconds
STALE = 120.0  # seconds without a heartbeat, after which an owner on another machine is taken for dead
_LONGEST = 1 << 20  # bytes


@dataclass
class Owner:
    """Who watches a study, as the lock file tells.

    Attributes
    ----------
    beat
        Time of the last sign of life, in seconds since the epoch.
    run
        The run of Snakemake that the watcher has started, see `watch.snakemake`; empty if it has ended.
    is_over
        Whether the owner has given the lock back.
    """

    host: str
    pid: int
    user: str
    started: float
    beat: float
    run: dict[str, Any] = field(default_factory=dict)
    is_over: bool = False

    def __str__(self) -> str:
        """Return the owner in words."""
        return f"process {self.pid} of {self.user} on {self.host}"


class Ownership:
    """The lock of a study, held by this process.

    `predecessor` is an owner that ended without giving the lock back, as after `kill -9`; None is none.
    """

    def __init__(self, file: IO[bytes], last: Owner | None) -> None:
        self.predecessor = last if last and not last.is_over else None
        self._file, self._guard = file, threading.Lock()
        now, host = time.time(), socket.gethostname()
        # Of another machine, nobody here can know whether its run has ended.
        run = last.run if last and last.host == host else {}
        self._owner = Owner(host, os.getpid(), _user(), now, now, run)
        self._write()

    @property
    def run(self) -> dict[str, Any]:
        """The last run of Snakemake that this watcher or its predecessor has started; empty is none."""
        return self._owner.run

    def note(self, run: dict[str, Any]) -> None:
        """Write down a run of Snakemake; empty: it has ended."""
        if run != self._owner.run:
            self._owner.run = run
            self._write()

    def beat(self) -> None:
        """Give a sign of life."""
        self._owner.beat = time.time()
        self._write()

    def release(self) -> None:
        """Give the lock back. A run that goes on, or has left a lock, stays known."""
        self._owner.is_over = True
        self._write()
        self._file.close()

    def _write(self) -> None:
        with self._guard, suppress(OSError, ValueError):  # a full disk, or a file that is closed
            content = json.dumps(asdict(self._owner)).encode()
            os.pwrite(self._file.fileno(), content, 0)
            os.ftruncate(self._file.fileno(), len(content))


@contextmanager
def owned(path: Path) -> Iterator[Ownership]:
    """Hold the lock file `path` during the block. Raises `EbbtideError` if another watcher holds it."""
    with storage_errors(path, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "r+b", opener=open_or_create_for_all)  # noqa: SIM115 (closed below, or when it is released)
    try:
        locked = try_lock(file)
    except OSError:  # the file system has no locks
        locked = None
    last = _owner_in(file)
    if why := _held(locked, last):
        file.close()
        raise EbbtideError(f"{path}: {why}")
    ownership, ended = Ownership(file, last), threading.Event()

    def live() -> None:
        while not ended.wait(BEAT):
            ownership.beat()

    heart = threading.Thread(target=live, daemon=True)
    heart.start()
    try:
        yield ownership
    finally:
        ended.set()
        heart.join()
        ownership.release()


def _held(locked: bool | None, owner: Owner | None) -> str:
    """Return why the lock is another watcher's, in words; empty if it is free.

    `locked` is whether the kernel granted the lock; None: the file system has no locks.
    """
    if owner is None or owner.is_over:  # it has not written its name yet
        return "another watcher holds this lock; wait until it has ended." if locked is False else ""
    age = time.time() - owner.beat
    said = f"another watcher of this study is running: {owner}, last sign of life {duration(max(age, 0))} ago"
    if locked is False:
        return f"{said}. Wait for it, or end that process."
    if owner.host == socket.gethostname():
        return f"{said}. Wait for it, or end that process." if locked is None and _is_alive(owner.pid) else ""
    if age >= STALE:
        return ""
    return f"{said}. If it has ended, start again in {duration(STALE - age)}."


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        return True
    return True


def _owner_in(file: IO[bytes]) -> Owner | None:
    """The last owner in a lock file; None for a new file, or one that is damaged."""
    try:
        return Owner(**json.loads(os.pread(file.fileno(), _LONGEST, 0)))
    except (OSError, ValueError, TypeError):
        return None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without the user
        return str(os.getuid())
