"""Locks of the kernel (`flock`): on this node, or for all machines that share a directory. A lean module."""

import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from ebbtide.errors import EbbtideError
from ebbtide.files import digest

LOCKS = ".locks"  # directory of shared locks
POLL_SECONDS = 1.0  # between two attempts to take a lock that another machine holds


def try_lock(file: IO[bytes] | int) -> bool:
    """Lock an open file or a descriptor; return whether it is locked now.

    Another descriptor may have the lock. Raises `OSError` if the file system has no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_free(path: Path) -> bool:
    """Whether a lock file exists and no process holds its lock; False if that cannot be known."""
    try:
        with path.open("r+b") as file:
            return try_lock(file)
    except OSError:
        return False


def remove_free(path: Path) -> bool:
    """Remove a lock file unless a process holds its lock; return whether it is gone."""
    with suppress(FileNotFoundError), path.open("r+b") as file:
        if not try_lock(file):
            return False
        path.unlink()  # while it is locked: whoever waits for it makes another
    return True


def node_lock(directory: str | os.PathLike[str], name: str) -> IO[bytes]:
    """Take the lock `name` of this directory on node-local disk; held until the file object is closed.

    Two nodes may hold the same lock, so the guarded work must be idempotent. A child process that inherits
    the descriptor keeps the lock. Raises `EbbtideError` if the directory of locks is not private.
    """
    place = Path(tempfile.gettempdir()) / f"ebbtide-{os.getuid()}"
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        owner = place.lstat()
    except OSError as error:
        raise EbbtideError(f"{place}: {error.strerror}; set TMPDIR to another directory.") from error
    if not stat.S_ISDIR(owner.st_mode) or owner.st_uid != os.getuid() or owner.st_mode & 0o022:
        raise EbbtideError(
            f"{place} is not a private directory of yours; set TMPDIR to another directory for locks."
        )
    path = place / f"{digest([str(Path(directory).resolve()), name])}.lock"
    file = open(path, "r+b", opener=open_or_create)  # noqa: SIM115 (the caller holds it)
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def shared_lock(
    directory: str | os.PathLike[str], name: str, *, waiting: Callable[[Path], None]
) -> tuple[IO[bytes] | None, str | None]:
    """Take the lock `name` in `directory` itself, for which all machines that share the directory wait.

    Returns the open file that holds the lock, and why it may not exclude others, or None. Without locks on
    the file system, the file is None. Some file systems grant a lock to everybody, or to one process of each
    machine, so the guarded work must be idempotent. Take the node lock first.

    Parameters
    ----------
    waiting
        Called once, with the path, if another process holds the lock. Deleting the file ends the waiting, if
        the machine that held the lock is gone.
    """
    path = Path(directory) / LOCKS / f"{digest(name)}.lock"
    waited = False
    while True:
        try:
            if not path.parent.exists():
                path.parent.mkdir(exist_ok=True)
                path.parent.chmod(Path(directory).stat().st_mode & 0o7777)  # as others may write there
            file = open(path, "r+b", opener=open_or_create_for_all)  # noqa: SIM115 (the caller holds it)
        except OSError as error:
            return None, error.strerror or str(error)
        try:
            locked = try_lock(file)
            if locked and os.fstat(file.fileno()).st_nlink:
                return file, None if _excludes(path) else "locks have no effect there"
        except OSError as error:  # ENOLCK, EOPNOTSUPP, ENOSYS
            file.close()
            return None, error.strerror or str(error)
        file.close()
        if locked:  # `ebbtide gc` has removed the file since it was opened, and its lock excludes nobody
            continue
        if not waited:
            waiting(path)
        waited = True
        time.sleep(POLL_SECONDS)


def _excludes(path: Path) -> bool:
    """Whether a lock that is held is refused to others."""
    with path.open("r+b") as other:
        try:
            return not try_lock(other)
        except OSError:
            return True


def open_or_create_for_all(path: str, flags: int) -> int:
    """Open a lock file in a directory of several people, for all who may write to the directory."""
    try:
        return os.open(path, flags | os.O_NOFOLLOW)
    except FileNotFoundError:
        file = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        os.fchmod(file, Path(path).parent.stat().st_mode & 0o666)
        return file


def open_or_create(path: str, flags: int) -> int:
    """Open a lock file without following links or truncating it (an opener for `open`)."""
    return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW, 0o600)
