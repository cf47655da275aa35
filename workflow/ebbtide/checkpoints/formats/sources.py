"""The formats that a row of `models:` may name, and the source of a checkpoint in one of them."""

from collections.abc import Callable, Mapping
from pathlib import Path

from ebbtide.checkpoints.formats.dcp import DistributedCheckpoint
from ebbtide.checkpoints.formats.pt import StateDictionary
from ebbtide.checkpoints.formats.source import Source

FORMATS: Mapping[str, Callable[[Path], Source]] = {
    "dcp": DistributedCheckpoint,
    "pt": StateDictionary,
}  # value of `format:` → what reads it


def open_source(of_format: str, path: Path) -> Source:
    """Return the source of a checkpoint. Raises `CheckpointError` if it cannot be read."""
    return FORMATS[of_format](path)
