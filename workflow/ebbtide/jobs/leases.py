"""Leases of GPUs: one lock file per device, so that no device is used by two jobs. A lean module.

The locks are of the kernel (`flock`), on node-local disk, and the same for all users of the machine. A
process that dies frees its locks; a worker that inherits the descriptors keeps them, also if its parent is
killed. Whoever locks a file also binds a socket to a name made from its path, which is in the kernel alone:
the lock of a deleted file would exclude nobody. Containers have names of their own, so files are needed too.

A job takes all the devices that it needs or none, and waits without holding any, so jobs cannot wait for each
other. Whoever has waited for `PATIENCE` seconds is served next: otherwise a stream of jobs for one GPU could
keep a job for several waiting for ever.
"""

import errno
import json
import math
import os
import pwd
import random
import re
import socket
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ebbtide.errors import ScoringError
from ebbtide.files import digest
from ebbtide.jobs.devices import Device, visible_only
from ebbtide.locks import try_lock

DIRECTORY = "EBBTIDE_GPU_LOCKS"
# Not the directory of `TMPDIR`, which differs between users and jobs.
DEFAULT_DIRECTORY = "/tmp/ebbtide-gpus"

PATIENCE = 300.0  # seconds
REPORT = 180.0  # seconds between two messages of a job that waits
_SHORTEST, _LONGEST = 0.05, 1.0  # seconds between two attempts
_LONGEST_NOTE = 4096  # bytes

Window = tuple[Device, ...]  # adjacent devices


@dataclass(frozen=True)
class Lease:
    """Devices that are this process's as long as one of the descriptors is open, here or in a child."""

    devices: Window = ()
    descriptors: tuple[int, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)  # of the process that uses the devices
    purpose: str = ""

    def note(self, worker: int | None = None) -> None:
        """Write down who holds the devices, for the messages of those who wait."""
        content = {"pid": os.getpid(), "worker": worker, "user": _user(), "purpose": self.purpose}
        for descriptor in self.descriptors:
            with suppress(OSError):  # a full disk; the lock holds without it
                status = os.fstat(descriptor)
                # Another user can put a hard link to a file of yours in place of the lock; it stays as it is.
                if status.st_nlink > 1 or not stat.S_ISREG(status.st_mode):
                    continue
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, json.dumps(content).encode(), 0)


@contextmanager
def lease(
    windows: Sequence[Window],
    purpose: str,
    say: Callable[[str], None],
    *,
    patience: float = PATIENCE,
    report: float = REPORT,
) -> Iterator[Lease]:
    """Hold one of these windows, the first that is free; wait until there is one.

    Parameters
    ----------
    windows
        Alternatives, by preference; empty windows are not allowed.
    purpose
        What the devices are for, in the messages of other jobs.
    say
        Gets a sentence when the job begins to wait, every `report` seconds, and when it has its devices.

    Raises
    ------
    ScoringError
        The lock files cannot be opened.
    """
    started = time.monotonic()
    said, tried, pause = -math.inf, False, _SHORTEST
    with ExitStack() as turn, ExitStack() as held:
        has_turn = False  # the right to try, of one job at a time
        while True:
            directory = lock_directory(create=True)  # each time: it may be deleted in the meantime
            has_turn = has_turn or bool(_lock(directory / "turn.lock", turn))
            waited = time.monotonic() - started
            if has_turn:
                tried = True
                if found := _first_free(directory, windows, purpose, held):
                    turn.close()
                    found.note()
                    say(f"leased {' and '.join(map(str, found.devices))}{_after(waited)}")
                    yield found
                    return
                if waited < patience:
                    turn.close()
                    has_turn = False
            if (tried or waited > _LONGEST) and waited - said > report:
                said = waited
                say(_waiting(windows) + _after(waited))
            time.sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, _LONGEST)


def lock_directory(*, create: bool = False) -> Path:
    """Return the directory of the locks. Raises `ScoringError` if it is to be created and cannot be used."""
    path = Path(os.environ.get(DIRECTORY) or DEFAULT_DIRECTORY)
    if create:
        try:
            with suppress(FileExistsError):
                path.mkdir()
                path.chmod(0o1777)  # all users may create locks in it, and remove only their own
            if not stat.S_ISDIR(path.lstat().st_mode):
                raise _unusable(path, "it is not a directory")
        except OSError as error:
            raise _unusable(path, error.strerror or str(error)) from None
    return path


def holder(device: Device) -> str | None:
    """Describe who holds a device; None if nobody does, or if that cannot be known."""
    path = _lock_file(lock_directory(), device)
    with suppress(OSError), ExitStack() as opened:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        opened.callback(os.close, descriptor)
        if not try_lock(descriptor):
            return _described(os.read(descriptor, _LONGEST_NOTE))
    with ExitStack() as bound:
        return "a process whose lock file was deleted" if _bind(path, bound) is None else None


def _waiting(windows: Sequence[Window]) -> str:
    devices = {device.uuid: device for window in windows for device in window}
    held = [f"{uuid} is held by {who}" for uuid, device in devices.items() if (who := holder(device))]
    count = len(windows[0])
    wanted = f"waiting for {count} GPU{'s' * (count > 1)}"
    return f"{wanted}: {', '.join(held) or 'another job has waited longer, and is served first'}"


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # no entry, as in some containers
        return f"user {os.getuid()}"


def _described(note: bytes) -> str:
    try:
        found: Mapping[str, object] = json.loads(note)
        pids = f"process {found['pid']}" + (f" (worker {found['worker']})" if found["worker"] else "")
        text = f"{pids} of {found['user']} for {found['purpose']}"
    except (ValueError, TypeError, KeyError):  # not written yet
        return "an unnamed process"
    return "".join(c for c in text[:300] if c.isprintable())


def _after(seconds: float) -> str:
    return f" (waited {seconds:.0f} s)" if seconds >= 1 else ""


def _first_free(directory: Path, windows: Sequence[Window], purpose: str, held: ExitStack) -> Lease | None:
    """Lock all devices of the first window that is free; `held` closes them."""
    for window in windows:
        with ExitStack() as taken:
            descriptors: list[int] = []
            for device in window:
                if not (locked := _lock(_lock_file(directory, device), taken)):
                    break
                descriptors += locked
            else:
                held.push(taken.pop_all())
                return Lease(window, tuple(descriptors), visible_only(window), purpose)
    return None


def _lock_file(directory: Path, device: Device) -> Path:
    return directory / f"{re.sub(r'[^A-Za-z0-9-]', '_', device.uuid)}.lock"


def _lock(path: Path, held: ExitStack) -> list[int]:
    """Lock a file; return the descriptors of the lock, which `held` closes; none if another has it."""
    with ExitStack() as opened:
        try:
            descriptor = _open(path)
        except FileNotFoundError:  # somebody deletes the directory
            return []
        opened.callback(os.close, descriptor)
        try:
            if not try_lock(descriptor) or not _is_at(descriptor, path):
                return []
        except OSError as error:  # a file system without locks
            raise _unusable(path, error.strerror or str(error)) from None
        if (name := _bind(path, opened)) is None:
            return []
        held.push(opened.pop_all())
        return [descriptor, *name]


def _bind(path: Path, held: ExitStack) -> list[int] | None:
    """Bind a socket to the name of a lock, until `held` closes it; None if another process has the name.

    Returns the descriptor, or none where sockets cannot have such names, which only Linux has.
    """
    name = f"\0ebbtide-gpu-{digest(os.path.realpath(path))}"
    with ExitStack() as opened:
        try:
            bound = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            bound.bind(name)
        except OSError as error:
            return None if error.errno == errno.EADDRINUSE else []
        held.push(opened.pop_all())
        return [bound.fileno()]


def _open(path: Path) -> int:
    """Open a lock file, and create it for all users if it does not exist; links are not followed.

    Raises `ScoringError`, and `FileNotFoundError` without the directory.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        # Creation is a step of its own: Linux refuses O_CREAT for another user's file in such a directory.
        with suppress(FileNotFoundError):
            return _plain(os.open(path, flags), path)
        fresh = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
        descriptor = os.open(fresh, flags | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.fchmod(descriptor, 0o666)  # before others can see it
            with suppress(FileExistsError):
                path.hardlink_to(fresh)
        finally:
            os.close(descriptor)
            fresh.unlink()
        return _plain(os.open(path, flags), path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from None


def _plain(descriptor: int, path: Path) -> int:
    """Return the descriptor if it is that of a plain file, since its content is replaced."""
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        return descriptor
    os.close(descriptor)
    raise _unusable(path, "it is not a plain file")


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the file is still that of the path. A cleaner of temporary files may have removed it."""
    with suppress(FileNotFoundError):
        there, own = path.lstat(), os.fstat(descriptor)
        return (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino)
    return False


def _unusable(path: Path, reason: str) -> ScoringError:
    return ScoringError(
        f"the GPU lock {path} cannot be used ({reason}); remove it, or set {DIRECTORY} to a directory of "
        "this machine that all its users can write to."
    )
