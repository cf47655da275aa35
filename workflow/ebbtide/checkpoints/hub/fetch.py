"""Fetching a locked checkpoint: its files one after another, each verified against the lock.

A directory grows under another name beside its own (`.partial-…`) and is renamed when it is whole. What a
killed run has left there is verified and used.
"""

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from ebbtide.checkpoints.directory import weight_files
from ebbtide.checkpoints.hub.digests import digest_of, kind_of
from ebbtide.checkpoints.hub.disk import (
    ROOM,
    Budget,
    amount,
    free_bytes,
    held_bytes,
    make_room,
    partial_of,
    remove,
)
from ebbtide.checkpoints.hub.fetched import (
    Fetched,
    FetchedFile,
    is_fetched,
    read_fetched,
    verify_fetched,
    write_fetched,
)
from ebbtide.checkpoints.hub.lock import CONFIG, INDICES, Locked, LockedFile, read_lock, weight_map
from ebbtide.checkpoints.hub.pickled import convert, convert_index, converted_from, safetensors_name
from ebbtide.checkpoints.precision import own_dtype
from ebbtide.errors import CheckpointError, nearest
from ebbtide.logs import Progress, log

_ATTEMPTS = 2  # downloads of a file that arrives with other bytes than the lock has


class Source(Protocol):
    """What fetching needs of `ebbtide.checkpoints.hub.client.Hub`."""

    def download(
        self, repo: str, commit: str, name: str, directory: Path, received: Callable[[int], None]
    ) -> Path:
        """Fetch a file to `directory/name`; `received` is told the bytes that are there."""


def locked_checkpoint(lock: str | Path, model: str, checkpoint: str) -> Locked:
    """A checkpoint of a lock file. Raises `CheckpointError` when it is not in there."""
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
    """Fetch a checkpoint into the directory `to`, which is there afterwards as a whole or not at all.

    Only what loading takes is fetched; Python files only with `remote_code`. Pickled weights become
    safetensors, shard by shard. A directory that is there and unchanged is left as it is.

    Parameters
    ----------
    format
        `safetensors` or `bin`: which weights of the repository.
    budget
        Bytes that all fetched directories may take together, see `ebbtide.checkpoints.hub.disk`.

    Raises
    ------
    CheckpointError
        Files that the lock does not have, or that arrive with other bytes; no room on the disk or in the
        budget; a hub that does not answer. What has been fetched is kept for the next run.
    """
    names = _names(locked, format, remote_code=remote_code)
    if _is_there(to, locked, format, remote_code=remote_code):
        log.info("%s is there already", to)
        return
    partial = partial_of(to)
    sizes = {name: locked.files[name].size for name in names}
    need = locked.room(format, remote_code=remote_code)
    with _full_disk_explained(partial, need), make_room(partial, need, budget):
        if _is_there(to, locked, format, remote_code=remote_code):  # another process has just brought it
            remove(partial)
            return
        _remove_links(partial)
        _check_free(partial, need)
        started = time.monotonic()
        report = _Report(f"{locked.repo} {locked.revision}", sum(sizes.values()))
        for name in names:
            _bring(hub, locked, name, partial, report)
            report.finished += sizes[name]
        _finish(locked, names, partial, format=format, remote_code=remote_code)
        partial.rename(to)
        _sync(to.parent)
        (to / ROOM).unlink(missing_ok=True)
        report.done(f"in {time.monotonic() - started:.0f} s, {to}")


class _Report:
    """Says what is being fetched, and how much of all bytes is there."""

    def __init__(self, what: str, total: int) -> None:
        self._progress = Progress()
        self._what, self._total = what, total
        self.finished = 0  # bytes of the files before this one

    def show(self, name: str, size: int) -> None:
        """`size` bytes of this file are there."""
        there = f"{amount(self.finished + size)} of {amount(self._total)}"
        self._progress.show(f"fetching {self._what}: {there} ({name})")

    def done(self, how: str) -> None:
        """All is there."""
        self._progress.done(f"fetched {self._what}: {amount(self._total)} {how}")


def _names(locked: Locked, format: str, *, remote_code: bool) -> list[str]:
    """The files to fetch: the small ones first, for their faults to show before the weights come."""
    weights = locked.weights(format)
    where = f"{locked.repo} at {locked.revision}"
    if not weights:
        others = [other for other in INDICES if locked.weights(other)] or ["none"]
        raise CheckpointError(f"{where} has no weights as {format}; found: {', '.join(others)}.")
    for name in (CONFIG, "tokenizer.json"):
        if name not in locked.files:
            raise CheckpointError(f"{where} has no {name}; it is needed to load the checkpoint.")
    needed = locked.needed(format, remote_code=remote_code)
    return [*(name for name in needed if name not in weights), *weights]


def _is_there(to: Path, locked: Locked, format: str, *, remote_code: bool) -> bool:
    """Whether `to` is what would be fetched; one that was fetched and has changed is removed."""
    if not to.exists() and not to.is_symlink():
        return False
    if to.is_symlink() or not is_fetched(to):
        raise CheckpointError(f"{to} was not fetched by Ebbtide; remove it, or fetch to another place.")
    try:
        verify_fetched(to, locked.weights_identity(format, remote_code=remote_code))
        record = read_fetched(to)
        if (record.tokenizer, record.remote_code) == (locked.tokenizer_identity(), remote_code):
            return True
    except CheckpointError as error:
        log.warning("fetching again: %s", error)
    remove(to)
    return False


def _bring(hub: Source, locked: Locked, name: str, partial: Path, report: _Report) -> None:
    """Make one file of the lock whole in `partial`, from what is there or from the hub."""
    file, path = locked.files[name], partial / name
    pickled = name in locked.weights("bin")
    if pickled and converted_from(partial / safetensors_name(name)) == file.digest:
        path.unlink(missing_ok=True)
        return
    if not (path.is_file() and _found(path, file) == file.digest):
        _download(hub, locked, name, partial, report)
    if pickled:
        convert(partial, {name: file.digest})


def _download(hub: Source, locked: Locked, name: str, partial: Path, report: _Report) -> None:
    file = locked.files[name]
    for attempt in range(_ATTEMPTS):
        path = hub.download(locked.repo, locked.commit, name, partial, lambda size: report.show(name, size))
        found = _found(path, file)
        if found == file.digest:
            return
        path.unlink()
        if attempt + 1 < _ATTEMPTS:
            log.warning(
                "%s: %s arrived with other bytes than the lock has; fetching it again", locked.repo, name
            )
    raise CheckpointError(
        f"{locked.repo} at commit {locked.commit[:12]}: {name} arrived as {found}, the lock has "
        f"{file.digest} ({file.size} bytes); it was removed, fetch again or lock the study again."
    )


def _found(path: Path, file: LockedFile) -> str:
    """The digest of a file on disk; its size in words when that alone is wrong."""
    size = path.stat().st_size
    return digest_of(path, kind_of(file.digest)) if size == file.size else f"{size} bytes"


def _finish(locked: Locked, names: list[str], partial: Path, *, format: str, remote_code: bool) -> None:
    """Turn the fetched files into a directory that can be loaded, with its record, all of it on the disk."""
    convert_index(partial)
    of = {_final(name): locked.files[name].digest for name in names}
    _remove_all_but({*of, ROOM}, partial)
    _check_index(partial, of)
    weights = weight_files(partial)
    files = {}
    for name, digest in of.items():
        status = (partial / name).stat()
        made = name not in names
        files[name] = FetchedFile(
            digest=digest_of(partial / name, "sha256") if made else digest,
            size=status.st_size,
            mtime_ns=status.st_mtime_ns,
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


def _check_index(partial: Path, of: dict[str, str]) -> None:
    """An index is a stranger's file: what it lists must be among the fetched files."""
    path = partial / INDICES["safetensors"]
    if not path.exists():
        return
    if foreign := sorted(set(weight_map(path).values()) - set(of)):
        raise CheckpointError(f"{path}: weight_map: found {foreign[0]!r}, which the lock does not have.")


def _remove_links(directory: Path) -> None:
    """Nothing in the directory leads elsewhere: no download is written through a link."""
    for parent, folders, names in os.walk(directory):
        for name in (*folders, *names):
            path = Path(parent) / name
            if path.is_symlink():
                log.warning("removed %s, a link", path)
                path.unlink()


def _remove_all_but(names: set[str], directory: Path) -> None:
    """What killed runs have left: parts of files, and files of an older lock."""
    for path in directory.iterdir():
        if path.name in names:
            continue
        if path.is_dir():
            remove(path)
        else:
            path.unlink()


def _check_free(partial: Path, need: int) -> None:
    left, free = need - held_bytes(partial), free_bytes(partial)
    if left > free:
        raise CheckpointError(
            f"the disk of {partial.parent} has {amount(free)} left, and {amount(left)} are still to come; "
            "make room and run again."
        )


@contextmanager
def _full_disk_explained(partial: Path, need: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise CheckpointError(
            f"the disk of {partial.parent} is full: {amount(held_bytes(partial))} of {amount(need)} are "
            "there and kept; make room and run again."
        ) from error


def _sync(path: Path) -> None:
    """Have a file or a directory written to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
