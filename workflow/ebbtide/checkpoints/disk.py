"""A disk budget for copies of checkpoints, and averages of them, that the processes which make them share.

    ROOT/{model}/{checkpoint}/hub-*, converted-*   copies: fetched, or converted from another format
    ROOT/{model}/{checkpoint}/.partial-…           being made; its file `.room` contains the reserved bytes
    ROOT/{model}/{checkpoint}/averaged-*           averages; the last copy of its parents reserves the bytes

All parents of an average are on disk at once. So that two averages never wait for each other's space, the
checkpoints of a run with averages reserve theirs in the order of training (`Budget.earlier`).

The process that fills a directory locks its `.room`; an unlocked `.room` means that the process has ended.
Counting, removing and reserving require the lock of ROOT. The system releases the locks of ended processes.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import IO

from ebbtide.errors import CheckpointError
from ebbtide.locks import open_or_create
from ebbtide.logs import log

WAITS = (0.2,) * 25 + (5.0,) * 17_280  # seconds between attempts to reserve space: one day in all
ROOM = ".room"
_LOCK = ".fetching.lock"
_PARTIAL = ".partial-"
_COPIES = ("hub-*", "converted-*")
_REMOVED = ".removed-"
_TRIES, _PAUSE = 864_000, 0.1  # seconds; a removal is short, a download of a killed run may take hours


class NoLocksError(CheckpointError):
    """The file system of a directory has no locks."""


@dataclass(frozen=True)
class Averaged:
    """An average that a run makes of copies, or that is on disk.

    Attributes
    ----------
    size
        Bytes that it takes on disk.
    parents
        Directories, with absolute paths, that must be on disk at once to make it.
    """

    size: int
    parents: Sequence[Path]


@dataclass(frozen=True)
class Budget:
    """A limit on the total size of the copies below `root`.

    Attributes
    ----------
    size
        Bytes.
    needs
        Whether a directory is still needed and must not be removed; called at every attempt. Abandoned
        partial directories may always be removed.
    waits
        Seconds between attempts while there is not enough space; the run evicts scored checkpoints.
    check
        Called at every attempt; raises if no process is left that evicts checkpoints.
    averages
        Averages by directory. One that is needed counts as soon as all its parents are on disk or reserved.
    earlier
        Directories that are made in this run and reserve their space before this one.
    failed
        Whether the run no longer expects a directory, because its job failed.
    settle
        Seconds that a copy must be unneeded before it is removed: Snakemake removes weights itself a moment
        after their last cell, and the run ends if another process does so meanwhile.
    """

    root: Path
    size: int
    needs: Callable[[Path], bool] = lambda path: False
    waits: Iterable[float] = WAITS
    check: Callable[[], None] = lambda: None
    averages: Mapping[Path, Averaged] = field(default_factory=dict)
    earlier: Sequence[Path] = ()
    failed: Callable[[Path], bool] = lambda path: False
    settle: float = 5.0


def partial_of(directory: Path) -> Path:
    """The temporary directory in which `directory` is made."""
    return directory.with_name(f"{_PARTIAL}{directory.name}")


@contextmanager
def make_room(partial: Path, need: int, budget: Budget | None = None) -> Iterator[None]:
    """Lock `partial` for this process and reserve `need` bytes for it, within the budget if there is one.

    Without one they are reserved as well, because another run may have a budget and must not remove it.

    If space is short, directories that are not needed are removed: first abandoned partial ones, then whole
    ones, oldest first. The caller renames the directory within the block, or leaves it for the next process.

    Raises
    ------
    CheckpointError
        Another process fills the directory, the budget is too small, or, as `NoLocksError`, the file system
        has no locks.
    """
    with _claimed(partial) as room:
        if budget is not None:
            _reserve(room, partial, need, budget)
        else:
            _note(room, need)
        try:
            yield
        finally:
            room.truncate(0)


def free_bytes(directory: Path) -> int:
    """Free bytes on the file system of a directory."""
    return shutil.disk_usage(directory).free


def directory_bytes(directory: Path) -> int:
    """Total bytes of the files in a directory and below. Files that vanish meanwhile are not counted."""
    total = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            with suppress(FileNotFoundError):
                total += (Path(parent) / name).lstat().st_size
    return total


def remove(directory: Path) -> None:
    """Remove a directory. It is renamed first, so that a partly removed one is never taken for complete."""
    away = directory.with_name(f"{_REMOVED}{directory.name}")
    shutil.rmtree(away, ignore_errors=True)
    directory.rename(away)
    shutil.rmtree(away, ignore_errors=True)


def format_bytes(size: int) -> str:
    """Format a number of bytes: `12.3 GB`."""
    for unit, power in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= power:
            return f"{size / power:.1f} {unit}"
    return f"{size} bytes"


@dataclass(frozen=True)
class _Held:
    """A directory below the root and its size in the budget."""

    path: Path
    size: int
    time: float  # of its last change, Unix seconds
    wanted: bool  # must not be removed


def _reserve(room: IO[str], partial: Path, need: int, budget: Budget) -> None:
    root = budget.root
    since: dict[Path, float] = {}  # directories that are not needed, and when that was first seen
    for number, wait in enumerate(chain(budget.waits, [None])):
        budget.check()
        with _locked(root):
            others = _others(partial, budget)
            before = _unreserved(budget)
            now = time.monotonic()
            since = {held.path: since.get(held.path, now) for held in others if not held.wanted}
            settled = {path for path, seen in since.items() if wait is None or now - seen >= budget.settle}
            if before is None and _fits(others, need, budget.size, settled):
                _note(room, need)
                return
        needed = f"{partial.name.removeprefix(_PARTIAL)} needs {format_bytes(need)}"
        if wait is None or need > budget.size:
            listed = ", ".join(f"{held.path} {format_bytes(held.size)}" for held in others[:5]) or "nothing"
            used = sum(held.size for held in others)
            more = f" and {len(others) - 5} more" if len(others) > 5 else ""
            raise CheckpointError(
                f"{root}: {needed}, but {format_bytes(used)} are in use ({listed}{more}) and the budget "
                f"weights.disk_gb is {format_bytes(budget.size)}; raise it, or run again when those "
                "checkpoints have been scored."
            )
        if number == 0:
            what = f"{before.parent.relative_to(root)}, which is first" if before else f"space in {root}"
            log.info("%s; waiting for %s", needed, what)
        time.sleep(wait)


def _note(room: IO[str], need: int) -> None:
    room.write(str(need))
    room.flush()


def _unreserved(budget: Budget) -> Path | None:
    """The first directory that must reserve its space earlier and has not done so yet."""
    for path in budget.earlier:
        over = path.exists() or budget.failed(path) or not budget.needs(path)
        if not over and not _reservation(partial_of(path)):
            return path
    return None


def _fits(others: list[_Held], need: int, size: int, settled: Set[Path]) -> bool:
    """Whether `need` bytes fit, removing directories if needed. Removes nothing if they cannot fit.

    Whole directories are removed only if they are in `settled`.
    """
    spare = [h for h in others if not h.wanted and (h.path in settled or h.path.name.startswith(_PARTIAL))]
    fixed = sum(held.size for held in others if held not in spare)
    if fixed + need > size:
        return False
    spare.sort(key=lambda held: (not held.path.name.startswith(_PARTIAL), held.time))
    left = sum(held.size for held in spare)
    for held in spare:
        if fixed + left + need <= size:
            break
        if not _discard(held.path):
            return False
        left -= held.size
        log.info("removed %s (%s) to make room", held.path, format_bytes(held.size))
    return True


def _others(partial: Path, budget: Budget) -> list[_Held]:
    """The directories below the root other than `partial`, and averages. The caller holds the root's lock."""
    own, found = partial.resolve(), []
    for path in sorted(budget.root.glob(f"*/*/{_REMOVED}*")):  # a removal that was killed
        shutil.rmtree(path, ignore_errors=True)
    # Partial ones first: a directory renamed between the two listings is counted twice rather than missed.
    for before in (_PARTIAL, ""):
        for path in sorted(path for name in _COPIES for path in budget.root.glob(f"*/*/{before}{name}")):
            if path.is_symlink() or not path.is_dir() or path.resolve() == own:
                continue
            reserved = _reservation(path) if path.name.startswith(_PARTIAL) else 0
            with suppress(FileNotFoundError):  # renamed or removed meanwhile
                size = max(directory_bytes(path), reserved)
                wanted = bool(reserved) if path.name.startswith(_PARTIAL) else budget.needs(path)
                found.append(_Held(path, size, path.stat().st_mtime, wanted))
    held = {partial.absolute(), *(one.path.absolute() for one in found if one.wanted)}
    for path, average in budget.averages.items():
        wanted = budget.needs(path)
        size = max(directory_bytes(path), average.size if wanted and _is_next(average, held) else 0)
        if size:
            found.append(_Held(path, size, 0.0, wanted))
    return found


def _is_next(average: Averaged, held: Set[Path]) -> bool:
    """Whether all parents of an average are on disk or reserved; `held` are such directories."""
    return all(not held.isdisjoint((parent, partial_of(parent))) for parent in average.parents)


def _reservation(partial: Path) -> int:
    """Bytes that a running process has reserved for a directory; 0 if none has, or if it still waits."""
    try:
        with (partial / ROOM).open("r+", encoding="utf-8") as room:
            return 0 if _try_lock(room) else int(room.read() or 0)
    except FileNotFoundError:
        return 0


def _discard(directory: Path) -> bool:
    """Remove a directory unless a process is filling it. If its process still waits, only empty it."""
    try:
        with (directory / ROOM).open("r+", encoding="utf-8") as room:
            if _try_lock(room):
                remove(directory)
            elif room.read():
                return False
            else:  # the process lists its files only after it has reserved its space
                for path in directory.iterdir():
                    if path.name != ROOM:
                        path.unlink()
    except FileNotFoundError:  # whole, or never locked by a process
        with suppress(FileNotFoundError):
            remove(directory)
    return True


@contextmanager
def _claimed(partial: Path) -> Iterator[IO[str]]:
    """Yield the locked and empty `.room` of a directory; both are created if missing."""
    for number in range(_TRIES):
        room = _claim(partial)
        if room is not None:
            with room:
                room.truncate(0)
                yield room
            return
        if number == 100:
            log.info("%s is being filled by another process, perhaps of a killed run; waiting", partial)
        time.sleep(_PAUSE)
    raise CheckpointError(f"{partial} is being filled by another process; end that process and run again.")


def _claim(partial: Path) -> IO[str] | None:
    path = partial / ROOM
    for link in (partial, path):
        if link.is_symlink():
            link.unlink()
    partial.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack, suppress(FileNotFoundError):  # the directory may be removed meanwhile
        room = stack.enter_context(open(path, "r+", encoding="utf-8", opener=open_or_create))
        if _try_lock(room) and os.path.samestat(path.stat(), os.fstat(room.fileno())):
            stack.pop_all()
            return room
    return None


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    root.mkdir(parents=True, exist_ok=True)
    with open(root / _LOCK, "r+", encoding="utf-8", opener=open_or_create) as file:
        _lock(file, fcntl.LOCK_EX)
        yield


def _try_lock(file: IO[str]) -> bool:
    try:
        _lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock(file: IO[str], how: int) -> None:
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        raise
    except OSError as error:
        raise NoLocksError(
            f"{file.name} cannot be locked ({error.strerror}); "
            "put resources/checkpoints on a file system that supports locks."
        ) from None
