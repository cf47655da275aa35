"""The checkpoints on disk that a study requests: which are whole, and why others are not."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ebbtide.checkpoints.on_disk import (
    available_directories,
    checkpoint_name,
    directories_of,
    reading_of,
    record_path,
)
from ebbtide.watch.whole import why_not_whole


@dataclass(frozen=True)
class Found:
    """The requested checkpoints of one model: the names of whole ones, and why others wait."""

    whole: tuple[str, ...]
    waiting: Mapping[str, str]


def find_checkpoints(settings: Mapping[str, Any], file: str) -> dict[str, Found]:
    """Return what is on disk of each model that has a `path`.

    A step that the study lists waits until its directory exists. If the schedule is `last` or `log2`, a
    directory that is not whole makes room for the one before it, as if it did not exist.

    Parameters
    ----------
    settings
        The checked configuration of the study.
    file
        The study file, for messages.

    Raises
    ------
    ConfigError
        An invalid pattern, or two directories of one step.
    """
    settle, now = settings["watch"]["settle_seconds"], time.time()
    return {
        row["name"]: _find(row, f"{file}: models[{number}]", settle, now)
        for number, row in enumerate(settings["models"])
        if "path" in row
    }


def _find(row: Mapping[str, Any], where: str, settle: float, now: float) -> Found:
    reading = reading_of(row, where)
    there = {checkpoint_name(row, step) for step in available_directories(row, where)}
    listed = row["steps"] if isinstance(row.get("steps"), list) else []
    names = {checkpoint_name(row, step): step for step in listed}
    waiting = {
        name: f"there is no directory of step {step} yet ({row['path']})"
        for name, step in names.items()
        if name not in there
    }
    whole: dict[str, None] = {}
    while fresh := {
        name: path
        for step, path in directories_of(row, where, there - waiting.keys()).items()
        if (name := checkpoint_name(row, step)) not in whole
    }:
        for name, path in fresh.items():
            record = record_path(row["name"], name, reading)
            reason = why_not_whole(path, record, row.get("tokenizer"), reading, settle=settle, now=now)
            if reason is None:
                whole[name] = None
            else:
                waiting[name] = reason
    chosen = directories_of(row, where, there - waiting.keys())
    return Found(tuple(checkpoint_name(row, step) for step in chosen), waiting)
