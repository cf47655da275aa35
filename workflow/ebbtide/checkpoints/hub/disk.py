"""Room for fetched checkpoints: a budget on disk, kept by fetches that run at the same time.

    ROOT/{model}/{checkpoint}/hub-*            fetched
    ROOT/{model}/{checkpoint}/.partial-hub-*   on its way; `.room` in it says how many bytes it will hold

`.room` is locked by the process that fills the directory; where nobody holds the lock, the process is gone.
Whoever counts, removes or reserves holds the lock of ROOT. All locks vanish with their process.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO

from ebbtide.errors import CheckpointError
from ebbtide.files import open_or_create
from ebbtide.logs import log

WAITS = (5.0,) * 17_280  # seconds between looks while others' directories may still go away: a day
ROOM = ".room"
_LOCK = ".fetching.lock"
_PARTIAL = ".partial-"
_REMOVED = ".removed-"
_TRIES, _PAUSE = 864_000, 0.1  # a removal is short; a download of a killed run may take long


@dataclass(frozen=True)
class Budget:
    """Bytes that the fetched directories below `root` may take together.

    Attributes
    ----------
    needs
        Whether a fetched directory may not be removed to make room; asked at every look. Partial ones may.
    waits
        Seconds between looks while there is no room; a run removes what it has scored.
    check
        Called at every look; raises when nobody will make room.
    """

    root: Path
    size: int
    needs: Callable[[Path], bool] = lambda path: False
    waits: Iterable[float] = WAITS
    check: Callable[[], None] = lambda: None


def partial_of(directory: Path) -> Path:
    """Where a directory grows before it has its name."""
    return directory.with_name(f"{_PARTIAL}{directory.name}")


@contextmanager
def make_room(partial: Path, need: int, budget: Budget | None = None) -> Iterator[None]:
    """Make `partial` this process's own, with room for `need` bytes in it, within the budget if there is one.

    Directories that are not to be kept are removed as far as needed: partial ones that nobody fills, then
    fetched ones, oldest first. When the block ends, the directory may have been renamed, or stays for the
    next process.

    Raises
    ------
    CheckpointError
        Another process fills the directory; the budget cannot be met; no locks on this file system.
    """
    with _claimed(partial) as room:
        if budget is not None:
            _reserve(room, partial, need, budget)
        try:
            yield
        finally:
            room.truncate(0)


def free_bytes(directory: Path) -> int:
    """Bytes that the file system of a directory has left."""
    return shutil.disk_usage(directory).free


def held_bytes(directory: Path) -> int:
    """Bytes of the files in a directory and below; what vanishes meanwhile counts nothing."""
    total = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            with suppress(FileNotFoundError):
                total += (Path(parent) / name).lstat().st_size
    return total


def remove(directory: Path) -> None:
    """Remove a directory: at once under its name, so that no half of it is ever taken for the whole."""
    away = directory.with_name(f"{_REMOVED}{directory.name}")
    shutil.rmtree(away, ignore_errors=True)
    directory.rename(away)
    shutil.rmtree(away, ignore_errors=True)


def amount(size: int) -> str:
    """Bytes in words: `12.3 GB`."""
    for unit, power in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= power:
            return f"{size / power:.1f} {unit}"
    return f"{size} bytes"


@dataclass(frozen=True)
class _Held:
    """A directory below the root, and what it counts."""

    path: Path
    size: int
    time: float  # of its last change, Unix seconds
    wanted: bool  # may not be removed


def _reserve(room: IO[str], partial: Path, need: int, budget: Budget) -> None:
    root = budget.root
    for number, wait in enumerate(chain(budget.waits, [None])):
        budget.check()
        with _locked(root):
            others = _others(partial, budget)
            if _fits(others, need, budget.size):
                room.write(str(need))
                room.flush()
                return
        needed = f"{partial.name.removeprefix(_PARTIAL)} needs {amount(need)}"
        if wait is None or need > budget.size:
            lying = ", ".join(f"{held.path} {amount(held.size)}" for held in others[:5]) or "nothing"
            more = f" and {len(others) - 5} more" if len(others) > 5 else ""
            raise CheckpointError(
                f"{root} has no room: {needed}, there lie {amount(sum(held.size for held in others))} "
                f"({lying}{more}), and the budget weights.disk_gb is {amount(budget.size)}; raise it, or run "
                "again when what lies there has been scored."
            )
        if number == 0:
            log.info("%s; waiting for room in %s", needed, root)
        time.sleep(wait)


def _fits(others: list[_Held], need: int, size: int) -> bool:
    """Whether there is room, after removing from `others` what is needed; nothing when that is vain."""
    fixed = sum(held.size for held in others if held.wanted)
    if fixed + need > size:
        return False
    spare = [held for held in others if not held.wanted]
    spare.sort(key=lambda held: (not held.path.name.startswith(_PARTIAL), held.time))
    left = sum(held.size for held in spare)
    for held in spare:
        if fixed + left + need <= size:
            break
        if not _discard(held.path):
            return False
        left -= held.size
        log.info("removed %s (%s) to make room", held.path, amount(held.size))
    return True


def _others(partial: Path, budget: Budget) -> list[_Held]:
    """What lies below the root besides `partial`. The root's lock is held."""
    own, found = partial.resolve(), []
    for path in sorted(budget.root.glob(f"*/*/{_REMOVED}*")):  # a removal that was killed
        shutil.rmtree(path, ignore_errors=True)
    # Partial ones first: what is renamed between the two looks is counted twice now, and not missed.
    for pattern in (f"*/*/{_PARTIAL}hub-*", "*/*/hub-*"):
        for path in sorted(budget.root.glob(pattern)):
            if path.is_symlink() or not path.is_dir() or path.resolve() == own:
                continue
            reserved = _reservation(path) if path.name.startswith(_PARTIAL) else 0
            with suppress(FileNotFoundError):  # renamed or removed meanwhile
                size = max(held_bytes(path), reserved)
                wanted = bool(reserved) if path.name.startswith(_PARTIAL) else budget.needs(path)
                found.append(_Held(path, size, path.stat().st_mtime, wanted))
    return found


def _reservation(partial: Path) -> int:
    """Bytes that a living process has reserved for a directory; 0 if nobody has, or it waits itself."""
    try:
        with (partial / ROOM).open("r+", encoding="utf-8") as room:
            return 0 if _try_lock(room) else int(room.read() or 0)
    except FileNotFoundError:
        return 0


def _discard(directory: Path) -> bool:
    """Remove a directory, unless a process has begun to fill it; of one that waits, what is in it."""
    try:
        with (directory / ROOM).open("r+", encoding="utf-8") as room:
            if _try_lock(room):
                remove(directory)
            elif room.read():
                return False
            else:  # it looks at its files after it has got its room
                for path in directory.iterdir():
                    if path.name != ROOM:
                        path.unlink()
    except FileNotFoundError:  # fetched, or begun and never claimed
        with suppress(FileNotFoundError):
            remove(directory)
    return True


@contextmanager
def _claimed(partial: Path) -> Iterator[IO[str]]:
    """The locked and empty `.room` of a directory, both made if they are not there."""
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
    raise CheckpointError(f"{partial} is being filled by another process; end it, and run again.")


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
        raise CheckpointError(
            f"{file.name} cannot be locked ({error.strerror}); "
            "fetched checkpoints need a file system with locks."
        ) from None
