"""Fetch a locked checkpoint file by file, and verify each file against the lock.

Files are written to a temporary directory (`.partial-…`), which is renamed when it is complete. Files left
there by a killed run are verified and reused.
"""

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from ebbtide.checkpoints.disk import (
    ROOM,
    Budget,
    directory_bytes,
    format_bytes,
    free_bytes,
    make_room,
    partial_of,
    remove,
)
from ebbtide.checkpoints.header import POINTER_BYTES, is_pointer
from ebbtide.checkpoints.hub.digests import digest_of, kind_of
from ebbtide.checkpoints.hub.fetched import (
    Fetched,
    FetchedFile,
    is_fetched,
    read_fetched,
    write_fetched,
)
from ebbtide.checkpoints.hub.lock import CONFIG, INDICES, Locked, LockedFile, read_lock, weight_map
from ebbtide.checkpoints.hub.pickled import convert, convert_index, converted_from, safetensors_name
from ebbtide.checkpoints.precision import own_dtype
from ebbtide.checkpoints.verification import verify_fetched
from ebbtide.checkpoints.weight_files import weight_files
from ebbtide.errors import CheckpointError, StorageError, nearest
from ebbtide.logs import Progress, log

_ATTEMPTS = 2  # downloads of a file whose digest differs from the lock


class Source(Protocol):
    """The part of `ebbtide.checkpoints.hub.client.Hub` that fetching needs."""

    def download(
        self,
        repo: str,
        commit: str,
        name: str,
        directory: Path,
        received: Callable[[int], None],
        *,
        size: int,
    ) -> Path:
        """Download a file of `size` bytes to `directory/name`; `received` is called with the bytes so far."""


def locked_checkpoint(lock: str | Path, model: str, checkpoint: str) -> Locked:
    """Read a checkpoint from a lock file. Raises `CheckpointError` if the lock does not contain it."""
    models = read_lock(lock).models
    if model not in models:
        raise CheckpointError(
            f"{lock}: models: found no {model!r}{nearest(model, list(models))}; lock the study."
        )
    checkpoints = models[model].checkpoints
    if checkpoint not in checkpoints:
        close = nearest(checkpoint, list(checkpoints))
        raise CheckpointError(f"{lock}: models.{model}: found no {checkpoint!r}{close}; lock the study.")
    return checkpoints[checkpoint]


def fetch(
    hub: Source,
    locked: Locked,
    to: Path,
    *,
    format: str,
    remote_code: bool = False,
    budget: Budget | None = None,
) -> None:
    """Fetch a checkpoint into the directory `to`, which is created complete or not at all.

    Only files needed for loading are fetched, and Python files only with `remote_code`. Pickled weights are
    converted to safetensors, shard by shard. An existing, unchanged directory is left as it is.

    Parameters
    ----------
    format
        `safetensors` or `bin`: the weights to fetch.
    budget
        Limit on the total size of all copies of weights, see `ebbtide.checkpoints.disk`.

    Raises
    ------
    CheckpointError
        A needed file is missing in the lock, a digest differs from the lock, the disk or the budget is full,
        or the hub does not answer. Fetched files are kept for the next run.
    """
    names = _names(locked, format, remote_code=remote_code)
    if _is_fetched_already(to, locked, format, remote_code=remote_code):
        log.info("%s is already complete", to)
        return
    partial = partial_of(to)
    sizes = {name: locked.files[name].size for name in names}
    need = locked.peak_disk_bytes(format, remote_code=remote_code)
    with _full_disk_explained(partial, need), make_room(partial, need, budget):
        if _is_fetched_already(to, locked, format, remote_code=remote_code):  # meanwhile fetched
            remove(partial)
            return
        _remove_links(partial)
        _check_free(partial, need)
        started = time.monotonic()
        report = _Report(f"{locked.repo} {locked.revision}", sum(sizes.values()))
        for name in names:
            _complete_file(hub, locked, name, partial, report)
            report.finished += sizes[name]
        _finish(locked, names, partial, format=format, remote_code=remote_code)
        partial.rename(to)
        _sync(to.parent)
        (to / ROOM).unlink(missing_ok=True)
        report.done(f"in {time.monotonic() - started:.0f} s, {to}")


class _Report:
    """Reports the progress of a fetch in bytes."""

    def __init__(self, what: str, total: int) -> None:
        self._progress = Progress()
        self._what, self._total = what, total
        self.finished = 0  # bytes of the completed files

    def show(self, name: str, size: int) -> None:
        """Report that `size` bytes of this file are on disk."""
        fetched = f"{format_bytes(self.finished + size)} of {format_bytes(self._total)}"
        self._progress.show(f"fetching {self._what}: {fetched} ({name})")

    def done(self, how: str) -> None:
        """Report the end of the fetch."""
        self._progress.done(f"fetched {self._what}: {format_bytes(self._total)} {how}")


def _names(locked: Locked, format: str, *, remote_code: bool) -> list[str]:
    """The files to fetch, the small ones first, so that errors in them appear before the large downloads."""
    weights = locked.weights(format)
    where = f"{locked.repo} at {locked.revision}"
    if not weights:
        others = [other for other in INDICES if locked.weights(other)] or ["none"]
        raise CheckpointError(f"{where} has no weights as {format}; found: {', '.join(others)}.")
    for name in (CONFIG, "tokenizer.json"):
        if name not in locked.files:
            raise CheckpointError(f"{where} has no {name}; it is needed to load the checkpoint.")
    needed = locked.needed(format, remote_code=remote_code)
    small = [name for name in needed if name not in weights]
    return [*small, *sorted(weights, key=lambda name: locked.files[name].size not in POINTER_BYTES)]


def _is_fetched_already(to: Path, locked: Locked, format: str, *, remote_code: bool) -> bool:
    """Whether `to` already contains the checkpoint. A fetched directory that has changed is removed."""
    if not to.exists() and not to.is_symlink():
        return False
    if to.is_symlink() or not is_fetched(to):
        raise CheckpointError(f"{to} was not fetched by Ebbtide; remove it, or fetch to another directory.")
    try:
        weights = locked.weights_identity(format, remote_code=remote_code)
        verify_fetched(to, weights, locked.tokenizer_identity())
        if read_fetched(to).remote_code == remote_code:
            return True
    except CheckpointError as error:
        log.warning("fetching again: %s", error)
    remove(to)
    return False


def _complete_file(hub: Source, locked: Locked, name: str, partial: Path, report: _Report) -> None:
    """Complete one file of the lock in `partial`, from an existing copy or from the hub."""
    file, path = locked.files[name], partial / name
    pickled = name in locked.weights("bin")
    if pickled and converted_from(partial / safetensors_name(name)) == file.digest:
        path.unlink(missing_ok=True)
        return
    if not (path.is_file() and _digest_or_size(path, file) == file.digest):
        _download(hub, locked, name, partial, report)
    _check_small_file(path, locked)
    if pickled:
        convert(path, file.digest)


def _download(hub: Source, locked: Locked, name: str, partial: Path, report: _Report) -> None:
    file = locked.files[name]
    for attempt in range(_ATTEMPTS):
        path = hub.download(
            locked.repo,
            locked.commit,
            name,
            partial,
            lambda size: report.show(name, size),
            size=file.size,
        )
        found = _digest_or_size(path, file)
        if found == file.digest:
            return
        path.unlink()
        if attempt + 1 < _ATTEMPTS:
            log.warning("%s: the digest of %s differs from the lock; fetching it again", locked.repo, name)
    raise CheckpointError(
        f"{locked.repo} at commit {locked.commit[:12]}: {name}: found {found}, expected {file.digest} "
        f"({file.size} bytes) as in the lock. The file was removed; fetch again, check proxies and "
        "HF_ENDPOINT, and restore the lockfile if it was edited."
    )


def _digest_or_size(path: Path, file: LockedFile) -> str:
    """The digest of a file on disk, or its size as text if the size already differs from the lock."""
    size = path.stat().st_size
    return digest_of(path, kind_of(file.digest)) if size == file.size else f"{size} bytes"


def _finish(locked: Locked, names: list[str], partial: Path, *, format: str, remote_code: bool) -> None:
    """Turn the fetched files into a loadable directory with a record, and flush everything to disk."""
    convert_index(partial)
    of = {_final(name): locked.files[name].digest for name in names}
    _remove_all_but({*of, ROOM}, partial)
    weights = weight_files(partial)
    files = {}
    for name, digest in of.items():
        status = (partial / name).stat()
        made = name not in names
        files[name] = FetchedFile(
            digest=digest_of(partial / name, "sha256") if made else digest,
            size=status.st_size,
            of=digest if made else None,
        )
    record = Fetched(
        repo=locked.repo,
        revision=locked.revision,
        commit=locked.commit,
        format=format,
        weights=locked.weights_identity(format, remote_code=remote_code),
        tokenizer=locked.tokenizer_identity(),
        remote_code=remote_code,
        dtype=own_dtype(partial, weights),
        size_bytes=sum(files[path.name].size for path in weights),
        files=files,
    )
    write_fetched(record, partial)
    for name in files:
        _sync(partial / name)
    _sync(partial)


def _final(name: str) -> str:
    """The name of a fetched file in the finished directory."""
    if name == INDICES["bin"]:
        return INDICES["safetensors"]
    return safetensors_name(name) if name.endswith(".bin") else name


def _check_small_file(path: Path, locked: Locked) -> None:
    """Raise `CheckpointError` for a pointer, and for an index that names other files than those of the lock.

    Locks of earlier versions do not contain what small files contain, and an index is untrusted input.
    """
    where = f"{locked.repo} at commit {locked.commit[:12]}: {path.name}"
    if path.stat().st_size in POINTER_BYTES and is_pointer(path.read_bytes()):
        raise CheckpointError(
            f"{where} is a pointer of Git LFS ({path.stat().st_size} bytes) instead of the file; leave this "
            "step out, and inform the authors."
        )
    if path.name in INDICES.values() and (
        foreign := sorted(set(weight_map(path).values()) - locked.files.keys())
    ):
        raise CheckpointError(
            f"{where}: weight_map: found {foreign[0]!r}, which the lock does not have; leave this step out, "
            "and inform the authors."
        )


def _remove_links(directory: Path) -> None:
    """Remove all links in a directory, so that no download is written through one."""
    for parent, folders, names in os.walk(directory):
        for name in (*folders, *names):
            path = Path(parent) / name
            if path.is_symlink():
                log.warning("removed the link %s", path)
                path.unlink()


def _remove_all_but(names: set[str], directory: Path) -> None:
    """Remove leftovers of killed runs: partial files, and files of an older lock."""
    for path in directory.iterdir():
        if path.name in names:
            continue
        if path.is_dir():
            remove(path)
        else:
            path.unlink()


def _check_free(partial: Path, need: int) -> None:
    left, free = need - directory_bytes(partial), free_bytes(partial)
    if left > free:
        raise CheckpointError(
            f"the disk of {partial.parent} has {format_bytes(free)} free, but {format_bytes(left)} are still "
            "needed; free some space and run again."
        )


@contextmanager
def _full_disk_explained(partial: Path, need: int) -> Iterator[None]:
    try:
        yield
    except (OSError, StorageError) as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        fetched = format_bytes(directory_bytes(partial))
        raise CheckpointError(
            f"the disk of {partial.parent} is full: {fetched} of {format_bytes(need)} are fetched and kept; "
            "free some space and run again."
        ) from error


def _sync(path: Path) -> None:
    """Flush a file or a directory to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
