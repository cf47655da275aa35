"""The formats that a row of `models:` may name, and the source of a checkpoint in one of them."""

from collections.abc import Callable, Mapping
from pathlib import Path

from ebbtide.checkpoints.formats.dcp import DistributedCheckpoint
from ebbtide.checkpoints.formats.gguf import GgufFile
from ebbtide.checkpoints.formats.peft import PeftSource, base_of
from ebbtide.checkpoints.formats.pt import StateDictionary
from ebbtide.checkpoints.formats.rules import IDENTITY
from ebbtide.checkpoints.formats.source import Source

ADAPTER = "peft"  # the format of checkpoints that change those of another row
FORMATS: Mapping[str, Callable[[Path], Source]] = {
    "dcp": DistributedCheckpoint,
    "pt": StateDictionary,
    "gguf": GgufFile,
}  # value of `format:` → what reads it
MAPS = {"dcp": IDENTITY, "pt": IDENTITY, "gguf": "gguf", ADAPTER: "peft"}  # the map of each, by default

REMARKS = {
    "gguf": "quantised values become the float32 values that they stand for",
    ADAPTER: "each adapter is merged into its base in float32",
}  # what a format changes


def open_source(of_format: str, path: Path, base: str | None, where: str) -> Source:
    """Return the source of a checkpoint.

    Parameters
    ----------
    base
        Directory of the model that adapters change; None: the one that they name.
    where
        File and key of the row, for messages.

    Raises
    ------
    CheckpointError
        A checkpoint that cannot be read.
    """
    if of_format == ADAPTER:
        return PeftSource(path, base_of(path, base, f"{where}.base"))
    return FORMATS[of_format](path)
