"""The record of a trained checkpoint: the digests of its files, written with them. A lean module."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebbtide.errors import CheckpointError
from ebbtide.files import read_json

RECORD = "checkpoint.json"


@dataclass(frozen=True)
class Trained:
    """The record: the identity of the weights (see `training.spec`), and the sha256 of each file by name."""

    weights: str
    files: Mapping[str, str]
    content: Mapping[str, Any]  # the whole record


def read_trained(checkpoint: Path) -> Trained:
    """Read the record of a checkpoint. Raises `CheckpointError` if it is missing or damaged."""
    path, end = checkpoint / RECORD, trained_remedy(checkpoint)
    content = read_json(path, CheckpointError, end)
    weights, files = content.get("weights"), content.get("files")
    if not isinstance(weights, str) or not isinstance(files, dict) or not files:
        raise CheckpointError(f"{path} is not the record of a trained checkpoint; {end}.")
    for name, sha256 in files.items():
        if Path(name).name != name or not isinstance(sha256, str):
            raise CheckpointError(
                f"{path}: files: found {name!r:.80}, expected a file name and sha256; {end}."
            )
    return Trained(weights, files, content)


def trained_remedy(checkpoint: Path) -> str:
    """What to do about a damaged checkpoint."""
    return f"delete {checkpoint}: it is trained again"
