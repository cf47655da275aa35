"""The header of a safetensors file: its tensors and their byte ranges. A lean module."""

import json
import operator
import re
from dataclasses import dataclass
from pathlib import Path

from ebbtide.errors import CheckpointError

# Buffers saved by older versions of transformers: masks and rotary frequencies, not weights.
BUFFERS = re.compile(r"(attention|attn)\.(bias|masked_bias)$|rotary_emb\.inv_freq$")

_LONGEST_HEADER = 100_000_000  # bytes; the limit of the format
POINTER_BYTES = range(100, 1025)  # sizes of pointers as tools write them
_POINTERS = (b"version https://git-lfs", b"version https://hawser", b"# xet version ")


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
    check_content(path)
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
                tuple(map(operator.index, entry["shape"])),
                *(start + operator.index(offset) for offset in entry["data_offsets"]),
            )
            for name, entry in json.loads(text).items()
            if name != "__metadata__"
        ]
        tensors.sort(key=lambda tensor: (tensor.begin, tensor.end))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _damaged(path) from error
    if any(not start <= tensor.begin <= tensor.end for tensor in tensors):
        raise _damaged(path)
    expected = max((tensor.end for tensor in tensors), default=start)
    if size != expected:
        raise CheckpointError(f"{path} has {size} bytes, its header implies {expected}; copy the file again.")
    return Header(prefix + text, tuple(tensors))


def check_content(path: Path) -> None:
    """Raise `CheckpointError` for an empty file, or a pointer of Git LFS in its place."""
    try:
        with path.open("rb") as file:
            beginning = file.read(POINTER_BYTES.stop)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}).") from error
    if not beginning:
        raise CheckpointError(f"{path} is empty; copy the file again.")
    if is_pointer(beginning):
        raise CheckpointError(
            f"{path} is a pointer of Git LFS ({len(beginning)} bytes) instead of the file; run git lfs pull "
            "in its repository."
        )


def is_pointer(data: bytes) -> bool:
    """Whether the bytes of a file are a pointer of Git LFS (or Xet), committed in place of the file."""
    return len(data) < POINTER_BYTES.stop and data.startswith(_POINTERS)


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(f"{path} is not a complete safetensors file; copy the file again.")
