"""Digests of files in the hub's notation: `sha256:…` of the bytes, `git:…` of a git blob. A lean module."""

import hashlib
from pathlib import Path

from ebbtide.files import open_regular


def kind_of(digest: str) -> str:
    """The kind of a digest: `sha256` or `git`."""
    return digest.partition(":")[0]


def digest_of(path: str | Path, kind: str) -> str:
    """Digest of a file, read in blocks; `kind` is `sha256` or `git`."""
    with open_regular(path) as file:
        state = _start(kind, Path(path).stat().st_size)
        while piece := file.read(1 << 20):
            state.update(piece)
    return f"{kind}:{state.hexdigest()}"


def digest_of_bytes(data: bytes, kind: str) -> str:
    """Digest of bytes in memory; `kind` is `sha256` or `git`."""
    state = _start(kind, len(data))
    state.update(data)
    return f"{kind}:{state.hexdigest()}"


def _start(kind: str, size: int) -> "hashlib._Hash":
    """The hash state before the first byte; git first hashes a header with the size."""
    match kind:
        case "sha256":
            return hashlib.sha256()
        case "git":
            return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        case _:
            raise ValueError(f"found the kind {kind!r}, expected sha256 or git")
