"""The record of a conversion: what it was made of, and whether it can be made again. A lean module."""

from pathlib import Path

from ebbtide.checkpoints.record import stamp
from ebbtide.errors import CheckpointError
from ebbtide.training.record import read_made

CONVERTED = "converted"  # kind of the identity, and the beginning of the directory's name
STAMPS = "stamps"  # entry of the record: the stamp of each file of the source


def is_conversion(directory: Path) -> bool:
    """Whether a directory has the name of converted weights."""
    return directory.name.startswith(f"{CONVERTED}-")


def can_be_made_again(directory: Path) -> bool:
    """Whether the weight files of the source are unchanged; its configuration and tokenizer are not checked.

    It is not known of conversions by earlier versions, whose records do not have the files.
    """
    try:
        stamps = read_made(directory, CONVERTED).content[STAMPS]
        return all(stamp(Path(file)) == seen for file, seen in stamps.items())
    except (CheckpointError, OSError, KeyError, AttributeError):
        return False
