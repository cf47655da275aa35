"""The header of a safetensors file: its tensors and their byte ranges. A lean module."""

import json
from dataclasses import dataclass
from pathlib import Path

from ebbtide.errors import CheckpointError

_LONGEST_HEADER = 100_000_000  # bytes; the limit of the format


@dataclass(frozen=True)
class Stored:
    """A tensor of a file: bytes `begin` to `end`, counted from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """The header as bytes, including its 8-byte length, and the tensors in order of their byte ranges."""

    raw: bytes
    tensors: tuple[Stored, ...]


def read_header(path: str | Path) -> Header:
    """Read the header of a safetensors file.

    Raises `CheckpointError` if the file is not a safetensors file, or if its size does not match its tensors.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            prefix = file.read(8)
            length = int.from_bytes(prefix, "little")
            text = file.read(min(length, _LONGEST_HEADER))
        start = 8 + length
        tensors = [
            Stored(
                name,
                str(entry["dtype"]),
                tuple(map(int, entry["shape"])),
                *(start + offset for offset in entry["data_offsets"]),
            )
            for name, entry in json.loads(text).items()
            if name != "__metadata__"
        ]
        tensors.sort(key=lambda tensor: (tensor.begin, tensor.end))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path} is not a complete safetensors file.") from error
    if any(not start <= tensor.begin <= tensor.end for tensor in tensors):
        raise CheckpointError(f"{path} is not a complete safetensors file.")
    expected = max((tensor.end for tensor in tensors), default=start)
    if size != expected:
        raise CheckpointError(f"{path} has {size} bytes, its header implies {expected}; copy the file again.")
    return Header(prefix + text, tuple(tensors))
