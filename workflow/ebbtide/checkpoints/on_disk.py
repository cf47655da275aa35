"""Models whose checkpoints are Hugging Face directories on disk."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ebbtide.checkpoints.load import LOCATED, locate
from ebbtide.errors import CheckpointError, ConfigError
from ebbtide.grid import CHECKPOINTS, Checkpoint, Model


def model_on_disk(row: Mapping[str, Any], where: str) -> Model:
    """The model of a row with a `path`.

    Raises `ConfigError` when a directory is missing or incomplete.
    """
    pattern, steps = row["path"], row.get("steps")
    if "{step}" in pattern and steps is None:
        raise ConfigError(
            f"{where}.steps: missing; path {pattern!r} has {{step}}, so the steps must be listed."
        )
    if "{step}" not in pattern and steps is not None and len(steps) > 1:
        raise ConfigError(
            f"{where}.path: found {pattern!r} for {len(steps)} steps; it must contain {{step}}."
        )
    checkpoints = []
    for step in sorted(steps or [0]):
        directory = Path(pattern.replace("{step}", str(step))).expanduser()
        name = f"step{step}" if steps else "main"
        marker = f"{CHECKPOINTS}/{row['name']}/{name}/{LOCATED}"
        try:
            located = locate(directory, marker)
        except CheckpointError as error:
            raise ConfigError(f"{where}.path: {error.args[0]}") from error
        checkpoints.append(
            Checkpoint(
                model=row["name"],
                name=name,
                step=step,
                tokens=step * row["tokens_per_step"],
                weights=located.weights,
                tokenizer=located.tokenizer,
                marker=marker,
                size_bytes=located.size_bytes,
                dtype=located.dtype,
            )
        )
    return Model(row["name"], tuple(checkpoints))
