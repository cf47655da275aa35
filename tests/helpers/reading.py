"""Checkpoint files under observation: what a call reads of them, and changes that only their bytes show."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ebbtide.checkpoints.directory import identities, locate
from ebbtide.files import file_sha256

needs_proc = pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="needs /proc to count bytes")
_lists: list[list[str]] = []  # names of the files that this process opens, while somebody wants to know


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open":
        for names in _lists:
            names.append(str(arguments[0]))


sys.addaudithook(_audit)


def opened(call: Callable[[], Any]) -> list[str]:
    """Names of the weight files that a call opens, by whatever function."""
    names: list[str] = []
    _lists.append(names)
    try:
        call()
    finally:
        _lists.remove(names)
    return [Path(name).name for name in names if name.endswith(".safetensors")]


def bytes_read(call: Callable[[], Any]) -> int:
    """Bytes that a call asks the system for."""

    def count() -> int:
        return int(Path("/proc/self/io").read_text().split("\n")[0].removeprefix("rchar: "))

    before = count()
    call()
    return count() - before


def flip(path: Path, place: int) -> None:
    """Change one byte of a file; size and modification time stay."""
    times = path.stat()
    with path.open("r+b") as file:
        file.seek(place)
        [byte] = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_mtime_ns == times.st_mtime_ns


def old_record(directory: Path, record: Path) -> str:
    """Write a record as it was when every file was hashed; returns its identity of the weights."""
    weights, tokenizer = identities(directory)
    located = locate(directory, record)
    files = json.loads(record.read_text())["files"]
    content = {
        "directory": str(directory.resolve()),
        "weights": weights,
        "tokenizer": tokenizer,
        "size_bytes": located.size_bytes,
        "dtype": located.dtype,
        "files": {
            name: {
                "size": file["size"],
                "mtime_ns": file["mtime_ns"],
                "sha256": file_sha256(directory / name),
            }
            for name, file in files.items()
        },
    }
    record.write_text(json.dumps(content))
    return weights
