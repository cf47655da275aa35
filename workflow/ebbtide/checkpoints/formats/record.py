"""The record of a conversion: what it was made of, and whether it can be made again. A lean module."""

from collections.abc import Mapping
from pathlib import Path

from ebbtide.checkpoints.record import stamp
from ebbtide.errors import CheckpointError
from ebbtide.training.record import read_made

CONVERTED = "converted"  # kind of the identity, and the beginning of the directory's name
STAMPS = "stamps"  # entry of the record: the stamp of each file that was read


def is_conversion(directory: Path) -> bool:
    """Whether a directory has the name of converted weights."""
    return directory.name.startswith(f"{CONVERTED}-")


def can_be_made_again(directory: Path) -> bool:
    """Whether the files that it was made of have their sizes and times of modification.

    It is not known of conversions by earlier versions, whose records do not have the files.
    """
    try:
        stamps = read_made(directory, CONVERTED).content[STAMPS]
        return all(_is_same(stamp(Path(file)), seen) for file, seen in stamps.items())
    except (CheckpointError, OSError, KeyError, AttributeError):
        return False


def _is_same(found: Mapping[str, int], seen: Mapping[str, int]) -> bool:
    """Whether a file has not been written to; permissions and links do not matter."""
    return all(found[key] == seen[key] for key in ("size", "mtime_ns"))
