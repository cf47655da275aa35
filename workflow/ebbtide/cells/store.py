"""The cell store: cells by identity, written once and copied from there. A lean module (no dependencies).

A cell's *identity* is a flat dictionary of everything that determines its numbers, known before anything
runs: weights, tokenizer, task, scoring version, dtype, and how requests are tokenized. The store keeps the
cell at `{store}/{key}.parquet`, where `key` is the digest of the identity. `results/scores/` has copies, not
links, so that damage to an output does not damage the store.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ebbtide.files import atomic, canonical_json, digest

Identity = Mapping[str, Any]

MAGIC = b"PAR1"
IDENTITY_KEY = "ebbtide.identity"  # footer key of the identity as plain text


def key(identity: Identity) -> str:
    """Name of a cell in the store: 32 hex digits."""
    return digest(dict(identity))


def path_of(store: str | Path, identity: Identity) -> Path:
    """The path of the cell of this identity in the store."""
    return Path(store) / f"{key(identity)}.parquet"


def is_whole(path: str | Path, identity: Identity, *, after: float = 0.0) -> bool:
    """Whether `path` is a complete Parquet file whose footer carries this identity.

    Reads only the magic numbers, the footer's length and the footer's text, which takes microseconds and no
    Parquet reader. Files written before `after` (a Unix time) do not count.
    """
    try:
        with Path(path).open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_size < 12 or status.st_mtime < after or file.read(4) != MAGIC:
                return False
            file.seek(-8, os.SEEK_END)
            tail = file.read(8)
            length = int.from_bytes(tail[:4], "little")
            if tail[4:] != MAGIC or length > status.st_size - 12:
                return False
            file.seek(-8 - length, os.SEEK_END)
            return canonical_json(dict(identity)).encode() in file.read(length)
    except FileNotFoundError:
        return False


def publish(source: str | Path, target: str | Path) -> None:
    """Copy a cell from the store to the results, atomically."""
    with atomic(target) as temporary, Path(source).open("rb") as reader, temporary.open("wb") as writer:
        try:
            while os.copy_file_range(reader.fileno(), writer.fileno(), 1 << 30):
                pass
        except (
            OSError,
            AttributeError,
        ):  # not supported by the file system (EXDEV, EOPNOTSUPP) or the system
            reader.seek(0)
            writer.seek(0)
            writer.truncate()
            while block := reader.read(1 << 20):
                writer.write(block)


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
    """The marker of a cell whose own job has failed; the next attempt removes it."""
    return Path(cell).with_suffix(".failed")
