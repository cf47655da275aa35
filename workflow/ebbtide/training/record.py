"""The record of a checkpoint made here, trained, averaged or converted: the digests of its files.

A lean module.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebbtide.errors import CheckpointError
from ebbtide.files import read_json

RECORD = "checkpoint.json"
TRAINED = "trained"


@dataclass(frozen=True)
class Made:
    """The record: the identity of the weights, and the sha256 of each file by name.

    For the identity, see `training.spec` and `checkpoints.average`.
    """

    weights: str
    files: Mapping[str, str]
    content: Mapping[str, Any]  # the whole record


def read_made(checkpoint: Path, how: str = TRAINED) -> Made:
    """Read the record of a checkpoint. `how` is for messages: `trained`, `averaged` or `converted`.

    Raises `CheckpointError` if it is missing or damaged.
    """
    path, end = checkpoint / RECORD, made_remedy(checkpoint, how)
    content = read_json(path, CheckpointError, end)
    weights, files = content.get("weights"), content.get("files")
    if not isinstance(weights, str) or not isinstance(files, dict) or not files:
        article = "an" if how[0] in "aeiou" else "a"
        raise CheckpointError(f"{path} is not the record of {article} {how} checkpoint; {end}.")
    for name, sha256 in files.items():
        if Path(name).name != name or not isinstance(sha256, str):
            raise CheckpointError(
                f"{path}: files: found {name!r:.80}, expected a file name and sha256; {end}."
            )
    return Made(weights, files, content)


def made_remedy(checkpoint: Path, how: str = TRAINED) -> str:
    """What to do about a damaged checkpoint."""
    end = ", if its source is still there" if how == "converted" else ""
    return f"delete {checkpoint}: it is {how} again{end}"
