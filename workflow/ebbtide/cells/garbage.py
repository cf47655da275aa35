"""Files of a cell store that nothing refers to."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from ebbtide.locks import LOCKS, is_free, remove_free
from ebbtide.scoring.proof.load_key import PROOFS

HOUR, DAY = 3600.0, 86400.0  # seconds
LEFTOVER_AGE = DAY
ENCODED_AGE = 30 * DAY  # of a file in `encoded/`, which is made again if it is needed

# Directories whose files are all alike: why they can be removed, and their least age.
_PLACES = {
    "encoded": ("encoded requests, of an unknown study", ENCODED_AGE),
    LOCKS: ("lock that no process holds", LEFTOVER_AGE),
}
# Directories whose files have the name of what they are about: why they can be removed, and their least age.
_RECORDS = {
    "weights": ("digests of unused weights", LEFTOVER_AGE),
    PROOFS: ("load proof of no study named", 0.0),
}
_CELL = re.compile(r"([0-9a-f]{32})\.parquet")
_LEFTOVER = re.compile(
    r"([0-9a-f]{32})\.(tried|failed|unchecked\.parquet|refuted\.parquet|parquet.*\.damaged)"
)
_TEMPORARY = re.compile(r"\..*\.tmp[0-9a-f]{12}(\..*)?")


@dataclass(frozen=True)
class Garbage:
    """A file that can be removed."""

    path: Path
    reason: str
    size_bytes: int
    modified: float  # Unix time


def garbage(
    store: str | Path, keep: Collection[str], weights: Collection[str], *, now: float, older_than: float
) -> Iterator[Garbage]:
    """Yield the files of a store that can be removed, in the order of names.

    Parameters
    ----------
    keep
        Keys of the cells and of the load proofs to keep.
    weights
        Identities of weights whose records are kept (see `checkpoints.verification`).
    now
        Unix time.
    older_than
        Least age of a cell, in seconds: another run may just have scored it.

    Yields
    ------
    Files only. Temporary files, marks of failed jobs, damaged cells and locks that no process holds must be
    older than `LEFTOVER_AGE`, and files in `encoded/` than `ENCODED_AGE`.
    """
    places = [Path(store), *(Path(store, name) for name in (*_RECORDS, *_PLACES))]
    for path in (path for place in places if place.is_dir() for path in sorted(place.iterdir())):
        try:
            status = path.lstat()
        except FileNotFoundError:  # another run has renamed it
            continue
        held = path.parent.name == LOCKS and not is_free(path)
        found = None if held or path.is_dir() else _reason(path, keep, weights)
        if found and now - status.st_mtime >= max(found[1], older_than):
            yield Garbage(path, found[0], status.st_size, status.st_mtime)


def remove(item: Garbage) -> bool:
    """Remove a file, unless it was written since it was listed; return whether it is gone."""
    try:
        if item.path.lstat().st_mtime != item.modified:
            return False
        if item.path.parent.name == LOCKS:
            return remove_free(item.path)
        item.path.unlink()
    except FileNotFoundError:
        return True
    return True


def _reason(path: Path, keep: Collection[str], weights: Collection[str]) -> tuple[str, float] | None:
    """Return why a file can be removed, and its least age in seconds."""
    if path.parent.name in _PLACES:
        return _PLACES[path.parent.name]
    if _TEMPORARY.fullmatch(path.name):
        return "temporary file of a killed job", LEFTOVER_AGE
    if path.parent.name in _RECORDS:
        needed = path.stem in keep or path.stem in {one.partition(":")[2] for one in weights}
        return None if needed else _RECORDS[path.parent.name]
    if found := _CELL.fullmatch(path.name):
        return None if found[1] in keep else ("cell of no study named", 0.0)
    if found := _LEFTOVER.fullmatch(path.name):
        # The next run puts a finished cell, whose check died, in its place, and checks a refuted one harder.
        needed = found[1] in keep and found[2] in ("unchecked.parquet", "refuted.parquet")
        kind = "damaged" if found[2].endswith("damaged") else found[2].removesuffix(".parquet")
        return None if needed else (f"left over ({kind})", LEFTOVER_AGE)
    return None
