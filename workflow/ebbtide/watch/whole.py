"""Whether a checkpoint directory is whole, or still being written.

Trainers and copying tools write a directory file by file. It is whole when it has everything that loading
needs, when no temporary file is left, and when nothing has changed for a while. The change time (ctime) of a
file counts, because tools that copy set the modification time back.

A directory that was read before and has not changed since is whole, whatever else is written into it. So is
one whose weights were deleted after they were read: trainers that keep the last N checkpoints do that.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ebbtide.checkpoints.directory import identity_files, tokenizer_directory
from ebbtide.checkpoints.formats.planning import Reading, is_unchanged
from ebbtide.checkpoints.formats.sources import open_source
from ebbtide.checkpoints.record import is_record_of, read_record, stamp, stamp_in
from ebbtide.checkpoints.weight_files import has_weight_files, read_headers, repeated_tensors, weight_files
from ebbtide.errors import CheckpointError
from ebbtide.logs import duration

# Names of files that trainers, downloaders and copying tools rename at the end, and of lock files.
_ENDINGS = r"\.(tmp|temp|part|partial|incomplete|filepart|crdownload|aria2|lock|lck)"
_TEMPORARY = re.compile(
    rf".*{_ENDINGS}|tmp[-_.].*|\..*\.tmp[^/]*|\..+\.[A-Za-z0-9]{{6}}",  # the last: rsync
    re.IGNORECASE,
)


def why_not_whole(
    path: Path, record: str, tokenizer: str | None, reading: Reading | None, *, settle: float, now: float
) -> str | None:
    """Return why a checkpoint must wait, in words; None if it is whole.

    Parameters
    ----------
    record
        Path of its record, see `checkpoints.directory.locate`.
    tokenizer
        Directory of the tokenizer; None: the directory itself, or its parent.
    reading
        How the checkpoint is converted; None if it is not.
    settle
        Seconds for which no file may have changed.
    now
        The time, in seconds since the epoch.
    """
    try:
        if _is_known(path, Path(record), tokenizer, reading):
            return None
        if not (path.is_dir() if reading is None else path.exists()):
            return f"{path} does not exist yet"
        if found := next(_temporaries(path), None):
            return f"{found} is there, as while files are written"
        return _unsettled([path, *_complete(path, tokenizer, reading)], settle, now)
    except CheckpointError as error:
        # It may be copied just now.
        return re.sub(r"; copy .* again(, or .*)?$", "", str(error.args[0]).rstrip("."))
    except OSError as error:  # a file is renamed or deleted at this moment, or the disk is gone
        return f"{error.filename or path} cannot be read ({error.strerror})"


def _unsettled(files: Sequence[Path], settle: float, now: float) -> str | None:
    newest = max(path.stat().st_ctime for path in files if path.exists())
    if now - newest >= settle:
        return None
    ago = "in the future, so clocks differ" if newest > now + 1 else f"{duration(max(now - newest, 0))} ago"
    return f"its files changed {ago}; they must not change for {duration(settle)}"


def _is_known(directory: Path, record: Path, tokenizer: str | None, reading: Reading | None) -> bool:
    """Whether a checkpoint has been read before, and has the same files or no weights at all now."""
    known = read_record(record)
    if not known or not is_record_of(known, directory):
        return False
    if reading is not None:
        return not directory.exists() or is_unchanged(directory, known)
    if not has_weight_files(directory):
        return True
    try:
        stamps = {name: stamp(path) for name, path in identity_files(directory, tokenizer).items()}
    except CheckpointError:
        return False
    return {name: stamp_in(file) for name, file in known.get("files", {}).items()} == stamps


def _temporaries(directory: Path) -> Iterator[str]:
    """Yield temporary files and locks in the directory, or beside it with its name."""
    if _TEMPORARY.fullmatch(directory.name):
        yield str(directory)
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        if _TEMPORARY.fullmatch(path.name):
            yield str(path)
    beside = re.compile(
        rf"\.?{re.escape(directory.name)}{_ENDINGS}|tmp[-_.]{re.escape(directory.name)}", re.I
    )
    yield from (str(path) for path in sorted(directory.parent.iterdir()) if beside.fullmatch(path.name))
    # A download of a hub repository keeps its partial files here, and its lock files for ever.
    yield from (str(path) for path in sorted(directory.glob(".cache/huggingface/**/*.incomplete")))


def _complete(directory: Path, tokenizer: str | None, reading: Reading | None) -> Sequence[Path]:
    """The files of a checkpoint.

    Raises `CheckpointError` unless every file that loading needs has the size that its header implies.
    """
    if reading is not None:
        return open_source(reading.format, directory, reading.base, reading.where).files
    headers = read_headers(weight_files(directory))
    repeated_tensors(directory, headers)  # also compares the index with the headers
    tokenizer_directory(directory, tokenizer)
    return list(directory.iterdir())
