"""Atomic writes, bounded reads and digests. Standard library only, so that importing it is cheap."""

import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any

from ebbtide.errors import EbbtideError, StorageError, first_line

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # whatever file they are about, it was written
_LITTLE = 64_000  # bytes: less is no space for a log or a table

MOST_JSON_BYTES = 64 << 20  # bytes; an index of a million tensors, or a lock of ten thousand checkpoints
_DEEPEST_JSON, _MOST_JSON_VALUES = 64, 10_000_000
_TOO_DEEP = f"values are nested more than {_DEEPEST_JSON} deep"
_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on success fsync it and rename it to `path`.

    A reader sees the old file or the new one, never a partial one. If two processes write, the last one wins.
    The temporary file is removed when the block raises. After `kill -9` it remains and is ignored.

    Raises
    ------
    StorageError
        The file cannot be written; the message names it and the reason.
    """
    path = Path(path)
    # The suffix stays last, because writers such as matplotlib infer the format from it.
    temporary = path.with_name(f".{path.stem}.{_unique()}{path.suffix}")
    with storage_errors(path, temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            with suppress(OSError):  # the error that led here is the one to report
                temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary directory beside `path`; on success fsync its files and rename it to `path`.

    Raises `StorageError` if it cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{_unique()}")
    with storage_errors(path, temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        try:
            yield temporary
            replace_directory(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def replace_directory(temporary: Path, path: Path) -> None:
    """Fsync the files of a complete directory and rename it to `path`."""
    for file in temporary.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
    if path.exists():
        shutil.rmtree(path)
    temporary.replace(path)


@contextmanager
def storage_errors(path: Path, temporary: Path) -> Iterator[None]:
    """Raise `StorageError` for an error of writing `path`; errors of reading other files pass."""
    try:
        yield
    except EbbtideError:
        raise
    except Exception as error:
        number = _number_of(error)
        about = Path(os.fsdecode(getattr(error, "filename", None) or ""))
        ours = isinstance(error, OSError) and about.name and about in (path, *path.parents, temporary)
        if number in _FULL or ours or temporary in about.parents:
            raise StorageError(_not_written(path, number, error), number) from error
        raise


def _number_of(error: Exception) -> int:
    """The number of a system error; libraries written in Rust raise errors of their own with it as text."""
    if isinstance(error, OSError):
        return error.errno or 0
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else 0


def _not_written(path: Path, number: int, error: Exception) -> str:
    again = "and run the same command again; what is finished is kept."
    place = next((p for p in (path, *path.parents) if p.is_dir()), Path())
    if number == errno.EISDIR:
        return f"{path} is a directory, but a file is to be written there; delete it (rm -r), {again}"
    if number in (errno.EEXIST, errno.ENOTDIR):
        file = next((p for p in (path, *path.parents) if p.is_file()), place)
        return f"{path} cannot be written: {file} is a file, not a directory. Move it away, {again}"
    if number in (errno.ENOSPC, errno.EDQUOT):
        full = "the disk quota is used up" if number == errno.EDQUOT else f"no space left{_free(place)}"
        return f"{path} cannot be written: {full}. Free some space in {place.resolve()}, {again}"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        reason = "the file system is read-only" if number == errno.EROFS else "no permission"
        return f"{path} cannot be written: {reason}. Make {place.resolve()} writable, {again}"
    reason = os.strerror(number) if number else first_line(error)
    return f"{path} cannot be written: {reason}. Check {place.resolve()}, {again}"


def _free(place: Path) -> str:
    """Free bytes of a file system in words, which may be of another than one expects."""
    try:
        found = os.statvfs(place)
    except OSError:
        return ""
    if found.f_files and not found.f_favail:
        return ": the file system has no room for further files (inodes)"
    free, total = (f"{blocks * found.f_frsize / 1e6:,.1f}" for blocks in (found.f_bavail, found.f_blocks))
    return f" ({free} of {total} MB are free)"


def full_disks(directories: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Return a sentence for each directory whose file system has no space left."""
    found = []
    for directory in map(Path, directories):
        with suppress(OSError):
            left = os.statvfs(directory)
            if left.f_bavail * left.f_frsize < _LITTLE or (left.f_files and not left.f_favail):
                place = f"{directory} ({directory.resolve()}): no space left{_free(directory)}"
                found.append(
                    f"StorageError: {place}. Free some space there, and run the same command again; cells in "
                    "the store are not scored again."
                )
    return found


def check_writable(directory: str | os.PathLike[str]) -> None:
    """Raise `StorageError` unless a file can be written in the directory, which is made if missing."""
    directory = Path(directory)
    probe = directory / f".writable.{_unique()}"
    with storage_errors(directory, probe):
        directory.mkdir(parents=True, exist_ok=True)
        try:
            probe.write_bytes(bytes(4096))
        finally:
            probe.unlink(missing_ok=True)


def _unique() -> str:
    """Return a random part of a temporary name. Machines that share a disk may have equal process ids."""
    return f"tmp{os.urandom(6).hex()}"


def write_text(text: str, path: str | os.PathLike[str]) -> None:
    """Write `text` to `path` atomically, as UTF-8."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a file for reading, through links. Raises `OSError` for anything but a regular file.

    Opening a named pipe waits for a writer, and a device may never end.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, f"it is {file_kind(mode)}, not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def file_kind(mode: int) -> str:
    """Return the kind of a file that is not regular, from its mode, for messages, such as `a directory`."""
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "of another kind")


def kind_in_place(path: str | os.PathLike[str]) -> str | None:
    """Return what is in the place of a file, such as `directory`; None for a file, and for nothing."""
    with suppress(OSError):
        if not stat.S_ISREG(mode := os.stat(path).st_mode):  # noqa: PTH116 (also text)
            return file_kind(mode).removeprefix("a ")
    return None


def read_bounded(path: str | os.PathLike[str], most: int) -> bytes:
    """Read a regular file. Raises `OSError` if it is larger than `most` bytes, or not a regular file."""
    with open_regular(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > most:
            raise OSError(errno.EFBIG, f"it has {size:,} bytes, at most {most:,} are read", str(path))
        return file.read()


def read_json(
    path: str | os.PathLike[str],
    error: type[EbbtideError],
    remedy: str = "",
    *,
    most: int = MOST_JSON_BYTES,
) -> dict[str, Any]:
    """The JSON object in a file. Raises `error`, with the `remedy`, for a file without one.

    So it does for anything but a regular file, for one of more than `most` bytes, and for values nested very
    deep: the file may be from anywhere.
    """
    end = f"; {remedy}." if remedy else "."
    try:
        value = json.loads(read_bounded(path, most).decode("utf-8"))
        _check_nesting(value)
    except FileNotFoundError:
        raise error(f"{path} does not exist{end}") from None
    except OSError as reason:
        raise error(f"{path} cannot be read ({reason.strerror}){end}") from None
    except RecursionError:
        raise error(f"{path} is not readable JSON ({_TOO_DEEP}){end}") from None
    except ValueError as reason:
        raise error(f"{path} is not readable JSON ({first_line(reason)}){end}") from None
    if not isinstance(value, dict):
        raise error(f"{path}: found JSON of type {type(value).__name__}, expected an object{end}")
    return value


def _check_nesting(document: Any) -> None:
    """Raise `ValueError` for values that are too many or nested too deep for what recurses over them."""
    level, values = [document], 0
    for _ in range(_DEEPEST_JSON + 1):
        level = [value for value in level if isinstance(value, dict | list)]
        if not level:
            return
        values += sum(map(len, level))
        if values > _MOST_JSON_VALUES:
            raise ValueError(f"it has more than {_MOST_JSON_VALUES:,} values")
        level = [value for one in level for value in (one.values() if isinstance(one, dict) else one)]
    raise ValueError(_TOO_DEEP)


# Made once: `json.dumps` makes an encoder per call, and planning calls this for every cell.
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def canonical_json(value: Any) -> str:
    """Return the canonical JSON of `value`: sorted keys, no spaces. Digests and identities are made of it."""
    return _ENCODER.encode(value)


def digest(value: Any) -> str:
    """Return the first 32 hex digits of the sha256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:32]


def file_sha256(path: str | os.PathLike[str], algorithm: str = "sha256") -> str:
    """Return the sha256 of a regular file's bytes, in hex. Raises `OSError` for anything else.

    `algorithm` may be another one of `hashlib`.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
