"""Models whose checkpoints are Hugging Face directories on disk."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ebbtide.checkpoints.directory import LOCATED, locate
from ebbtide.errors import CheckpointError, ConfigError
from ebbtide.grid import CHECKPOINTS, Checkpoint, Model
from ebbtide.logs import Progress

THREADS = 8  # directories read in parallel: network file systems have a high latency


def model_on_disk(row: Mapping[str, Any], where: str) -> Model:
    """Return the model of a row with a `path`.

    Raises `ConfigError` when a directory is missing or incomplete.
    """
    pattern, steps = row["path"], row.get("steps")
    if "{step}" in pattern and steps is None:
        raise ConfigError(
            f"{where}.steps: missing; list the steps, because path {pattern!r} contains {{step}}."
        )
    if "{step}" not in pattern and steps is not None and len(steps) > 1:
        raise ConfigError(
            f"{where}.path: found {pattern!r} for {len(steps)} steps; it must contain {{step}}."
        )
    every = sorted(steps or [0])
    checkpoints, progress = [], Progress()
    with ThreadPoolExecutor(THREADS) as pool:
        for checkpoint in pool.map(lambda step: _checkpoint(row, where, step), every):
            checkpoints.append(checkpoint)
            progress.show(f"{row['name']}: {len(checkpoints)} of {len(every)} directories read")
    return Model(row["name"], tuple(checkpoints))


def _checkpoint(row: Mapping[str, Any], where: str, step: int) -> Checkpoint:
    """The checkpoint of a step; the step is 0 if the row lists none."""
    directory = Path(row["path"].replace("{step}", str(step))).expanduser()
    name = f"step{step}" if row.get("steps") else "main"
    marker = f"{CHECKPOINTS}/{row['name']}/{name}/{LOCATED}"
    try:
        located = locate(directory, marker)
    except CheckpointError as error:
        raise ConfigError(f"{where}.path: {error.args[0]}") from error
    return Checkpoint(
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
