"""Records of checkpoint directories: what `directory.locate` has read, and whether it is still valid."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ebbtide.checkpoints.facts import Facts
from ebbtide.errors import CheckpointError
from ebbtide.files import read_json

LOCATED = "located.json"  # file name of the record of a directory on disk
SOURCE = "source.json"  # file name of the record of a checkpoint that is converted

File = dict[str, Any]  # entry of a record: the `stamp`, and `sha256` if the file was hashed in full


def read_record(path: Path) -> dict[str, Any]:
    """Read a record. A missing or damaged one is empty: records only save time."""
    try:
        record = read_json(path, CheckpointError)
    except CheckpointError:
        return {}
    return record if "weights" in record else {}


def is_record_of(known: Mapping[str, Any], directory: Path) -> bool:
    """Whether a record is about a directory that may no longer exist.

    A record of the same absolute path is, also if the path is now written differently. So is one of the same
    relative path in a checkout that was moved, unless the path now leads elsewhere through a link.
    """
    resolved = str(directory.resolve())
    unlinked = resolved == os.path.abspath(directory)  # noqa: PTH100 (follows no links)
    return known.get("directory") == resolved or (unlinked and known.get("path") == str(directory))


def stamp(path: Path) -> dict[str, int]:
    """Size, modification and change time (ns) and inode of a file: they change when the file does."""
    status = path.stat()
    return {
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "ctime_ns": status.st_ctime_ns,
        "inode": status.st_ino,
    }


def stamp_in(file: File) -> File:
    """The stamp in an entry of a record."""
    return {key: value for key, value in file.items() if key != "sha256"}


def recorded_digests(
    weights: Sequence[Path], content: Mapping[str, Any], known: Mapping[str, Any], *, unmoved: bool
) -> dict[str, str]:
    """Full digests by name from the record, if no weight file has changed since; otherwise an empty dict.

    Records of earlier versions have no sample, change time or inode.
    """
    old, files = known.get("files", {}), content["files"]
    pairs = [(old.get(path.name, {}), files[path.name]) for path in weights]
    if unmoved and "sample" not in known:
        same = all(before.get(key) == now[key] for before, now in pairs for key in ("size", "mtime_ns"))
    else:
        same = known.get("sample") == content["sample"]
    if not same or not all("sha256" in before for before, _ in pairs):
        return {}
    return {path.name: before["sha256"] for path, (before, _) in zip(weights, pairs, strict=True)}


def facts_in(known: Mapping[str, Any]) -> Facts | None:
    """The facts in a record; None in those of earlier versions."""
    try:
        facts = {**known["facts"], "files": dict(known["facts"]["files"])}
        return Facts(**{**facts, "repeated": tuple(facts["repeated"])})
    except (KeyError, TypeError, ValueError):
        return None
