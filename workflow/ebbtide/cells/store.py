"""The cell store: cells by identity, written once and copied from there. A lean module (no dependencies).

A cell's *identity* is a flat dictionary of everything that determines its numbers, known before anything
runs: weights, tokenizer, task, scoring version, dtype, and how requests are tokenized. The store keeps the
cell at `{store}/{key}.parquet`, where `key` is the digest of the identity. `results/scores/` has copies, not
links, so that damage to an output does not damage the store.

Planning asks for every cell whether it is there (`is_whole`), which looks at a few bytes only. Before a cell
is used, all its bytes are compared with its *seal*: the sha256 of the file, in its own footer.
"""

import errno
import hashlib
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ebbtide.files import canonical_json, digest, file_kind

Identity = Mapping[str, Any]

MAGIC = b"PAR1"
IDENTITY_KEY = "ebbtide.identity"  # footer key of the identity as plain text
SEAL_KEY = "ebbtide.seal"  # footer key of the sha256 of the file, computed with `UNSEALED` in its place
UNSEALED = "0" * 64
DAMAGED = ".damaged"  # suffix of files that were moved aside

_SEAL = re.compile(re.escape(SEAL_KEY).encode() + rb"[^0-9a-f]{1,4}([0-9a-f]{64})")


def key(identity: Identity) -> str:
    """Name of a cell in the store: 32 hex digits."""
    return digest(dict(identity))


def path_of(store: str | Path, identity: Identity) -> Path:
    """The path of the cell of this identity in the store."""
    return Path(store) / f"{key(identity)}.parquet"


def is_whole(path: str | Path, identity: Identity, *, after: float = 0.0) -> bool:
    """Whether `path` is a complete Parquet file whose footer carries this identity.

    Reads only the magic numbers, the footer's length and the footer's text, which takes microseconds and no
    Parquet reader. Files written before `after` (a Unix time) do not count. Whatever cannot be read is not
    whole; `unusable` says why.
    """
    try:
        descriptor = _open(path)
    except OSError:
        return False
    try:
        return _is_whole(descriptor, identity, after)
    except OSError:  # such as a stale handle of a network file system
        return False
    finally:
        os.close(descriptor)


def obstacle(path: str | Path) -> str | None:
    """Say what is in the place of a file and cannot be read as one; None for a file, and for nothing."""
    try:
        descriptor = _open(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        loop = error.errno == errno.ELOOP
        return "is a link to itself" if loop else f"cannot be read ({os.strerror(error.errno or 0)})"
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            return f"is {file_kind(mode)}, not a file"
        os.pread(descriptor, 1, 0)
    except OSError as error:
        return f"cannot be read ({os.strerror(error.errno or 0)})"
    finally:
        os.close(descriptor)
    return None


def unusable(path: str | Path, identity: Identity) -> str:
    """Say why a file in the place of a cell is not one; empty for a cell, and if there is nothing."""
    if (reason := obstacle(path)) is not None:
        return reason
    if is_whole(path, identity) or not Path(path).exists():
        return ""
    return "is incomplete, or another cell"


def _open(path: str | Path) -> int:
    """Open for reading, without waiting for the writer of a named pipe."""
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def _is_whole(descriptor: int, identity: Identity, after: float) -> bool:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size < 12 or status.st_mtime < after:
        return False
    tail = os.pread(descriptor, 8, status.st_size - 8)
    length = int.from_bytes(tail[:4], "little")
    if os.pread(descriptor, 4, 0) != MAGIC or tail[4:] != MAGIC or length > status.st_size - 12:
        return False
    footer = os.pread(descriptor, length, status.st_size - 8 - length)
    return canonical_json(dict(identity)).encode() in footer


def seal(path: str | Path) -> None:
    """Write the sha256 of a cell into its footer, where it has `UNSEALED`."""
    data = Path(path).read_bytes()
    found = _SEAL.search(data, _footer(data))
    if found is None or found[1] != UNSEALED.encode():
        raise ValueError(f"{path} has no place for a seal")
    with Path(path).open("r+b") as file:
        file.seek(found.start(1))
        file.write(hashlib.sha256(data).hexdigest().encode())


def seal_of(data: bytes) -> tuple[str, str] | None:
    """The sha256 of a cell's bytes, and the one in its footer; None for a cell of an earlier version."""
    found = _SEAL.search(data, _footer(data))
    if found is None:
        return None
    digested = hashlib.sha256(memoryview(data)[: found.start(1)])
    digested.update(UNSEALED.encode())
    digested.update(memoryview(data)[found.end(1) :])
    return digested.hexdigest(), found[1].decode()


def _footer(data: bytes) -> int:
    return max(0, len(data) - 8 - int.from_bytes(data[-8:-4], "little"))


def set_aside(path: str | Path) -> Path:
    """Rename a file that is not a good cell, so that the next run writes it again; return its new name."""
    path = Path(path)
    names = (path.with_name(f"{path.name}{f'.{i}' if i else ''}{DAMAGED}") for i in range(1000))
    free = next(name for name in names if not os.path.lexists(name))
    path.rename(free)
    return free


def unchecked(cell: str | Path) -> Path:
    """The path of a finished cell while it is being checked.

    It remains if the process dies in the check; its footer says that the check did not finish.
    """
    return Path(cell).with_suffix(".unchecked.parquet")


def refuted(cell: str | Path) -> Path:
    """The path of a cell that a check found to be wrong. It is never read as a cell."""
    return Path(cell).with_suffix(".refuted.parquet")


def recover(cell: str | Path, identity: Identity, *, after: float = 0.0) -> bool:
    """Put a finished cell, whose check died with its process, in its place. Return whether there is one."""
    left = unchecked(cell)
    if not is_whole(left, identity, after=after):
        return False
    left.replace(cell)
    Path(cell).with_suffix(".tried").unlink(missing_ok=True)
    return True


def attempt_mark(store: str | Path, identity: Identity) -> Path:
    """The marker of a cell that is being scored for another job.

    It remains if the process dies while scoring the cell. The cell is then scored by its own job, which
    reports the error.
    """
    return path_of(store, identity).with_suffix(".tried")


def failed_mark(cell: str | Path) -> Path:
    """The marker of a cell whose own job has failed; the next attempt removes it.

    It contains the error if that would recur.
    """
    return Path(cell).with_suffix(".failed")
