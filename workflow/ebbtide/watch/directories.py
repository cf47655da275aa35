"""The checkpoints on disk that a study requests and that are not whole yet, with the reasons."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

from ebbtide.checkpoints.left_out import LeftOut
from ebbtide.checkpoints.on_disk import checkpoint_name, directories_of, record_path
from ebbtide.watch.whole import why_not_whole


def waiting_checkpoints(settings: Mapping[str, Any], file: str) -> LeftOut:
    """Return the checkpoints that are not whole yet, with the reasons; every model on disk is a key.

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
        row["name"]: dict(_waiting(row, f"{file}: models[{number}]", settle, now))
        for number, row in enumerate(settings["models"])
        if "path" in row
    }


def _waiting(row: Mapping[str, Any], where: str, settle: float, now: float) -> Iterator[tuple[str, str]]:
    out: dict[str, str] = {}
    if isinstance(row.get("steps"), list):
        there = directories_of({**row, "steps": "all"}, where, ()) if "{step" in row["path"] else row["steps"]
        for step in row["steps"]:
            if step not in there:
                out[checkpoint_name(row, step)] = f"no directory of step {step} matches {row['path']} yet"
    judged: set[str] = set()
    while True:
        chosen = {checkpoint_name(row, s): p for s, p in directories_of(row, where, out).items()}
        fresh = {name: path for name, path in chosen.items() if name not in judged}
        if not fresh:
            break
        judged |= fresh.keys()
        for name, path in fresh.items():
            record = record_path(row["name"], name)
            reason = why_not_whole(path, record, row.get("tokenizer"), settle=settle, now=now)
            if reason is not None:
                out[name] = reason
    yield from out.items()
