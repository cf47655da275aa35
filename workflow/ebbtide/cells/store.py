"""The cell store: cells by identity, written once, copied out. Standard library only (a lean module).

A cell's *identity* is a flat dictionary of what determines its numbers and is known before anything
runs (weights, tokenizer, task, recipe version, dtype, and how requests become tokens). The store keeps
the cell at `{store}/{key}.parquet`, where `key` is the digest of the identity. Copies go to
`results/scores/`; a link would let a damaged output damage the store.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ebbtide.files import atomic, canonical_json, digest

Identity = Mapping[str, Any]

MAGIC = b"PAR1"
IDENTITY_KEY = "ebbtide.identity"  # footer key that holds the identity as plain text


def key(identity: Identity) -> str:
    """Name of a cell in the store: 32 hex digits."""
    return digest(dict(identity))


def path_of(store: str | Path, identity: Identity) -> Path:
    """Where the cell of this identity lies in the store."""
    return Path(store) / f"{key(identity)}.parquet"


def is_whole(path: str | Path, identity: Identity, *, after: float = 0.0) -> bool:
    """Whether `path` is a complete Parquet file whose footer carries this identity.

    Looks at the magic numbers, the footer's length and the footer's text only: microseconds, no Parquet
    reader. `after` (a Unix time) distrusts files written earlier.
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
    """Copy a cell from the store to its place among the results, atomically."""
    with atomic(target) as temporary, Path(source).open("rb") as reader, temporary.open("wb") as writer:
        try:
            while os.copy_file_range(reader.fileno(), writer.fileno(), 1 << 30):
                pass
        except (OSError, AttributeError):  # file systems (EXDEV, EOPNOTSUPP) and systems without it
            reader.seek(0)
            writer.seek(0)
            writer.truncate()
            while block := reader.read(1 << 20):
                writer.write(block)


def tried(store: str | Path, identity: Identity) -> Path:
    """Mark beside a cell that is being scored ahead of its own job.

    It stays when the process dies there: the cell is then left to its own job, whose error is its own.
    """
    return path_of(store, identity).with_suffix(".tried")


def failed_mark(cell: str | Path) -> Path:
    """Mark beside a cell of the store whose own job has failed; the next attempt takes it away."""
    return Path(cell).with_suffix(".failed")
