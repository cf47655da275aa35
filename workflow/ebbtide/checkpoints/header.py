"""The header of a safetensors file: its tensors and their byte ranges. A lean module."""

import json
import math
import operator
import re
from dataclasses import dataclass
from pathlib import Path

from ebbtide.errors import CheckpointError
from ebbtide.files import open_regular

# Buffers saved by older versions of transformers: masks and rotary frequencies, not weights.
# The biases of GPT-2's `c_attn` are weights.
BUFFERS = re.compile(r"(^|\.)(attention|attn)\.(bias|masked_bias)$|rotary_emb\.inv_freq$")

_LONGEST_HEADER = 100_000_000  # bytes; the limit of the format
_MOST_TENSORS = 200_000  # of one file
_MOST_DIMENSIONS = 64
_BITS = {  # of a value; files with other types are not checked for the sizes of their tensors
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "I8", "U8", "BOOL"), 8),
}
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

    Raises `CheckpointError` if the file is not a safetensors file, or if the sizes of the file, of its
    tensors and of their values differ.
    """
    path = Path(path)
    check_content(path)
    try:
        with open_regular(path) as file:
            size = path.stat().st_size
            prefix = file.read(8)
            length = int.from_bytes(prefix, "little")
            if length > min(size, _LONGEST_HEADER):
                raise _damaged(path, f"its header claims {length:,} of {size:,} bytes")
            text = file.read(length)
        if text.count(b"[") > 2 * _MOST_TENSORS:  # a shape and offsets each; before parsing takes minutes
            raise _damaged(path, f"its header has more than {_MOST_TENSORS:,} tensors")
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
    place = start
    for tensor in tensors:
        if tensor.begin != place or tensor.end < place:
            raise _damaged(path, f"tensor {tensor.name:.200} does not begin where the one before it ends")
        place = tensor.end
        if (bits := _BITS.get(tensor.dtype)) and not _has_bytes(tensor, bits):
            found = f"{tensor.end - tensor.begin:,} bytes"
            raise _damaged(path, f"tensor {tensor.name:.200} has {found}, its shape implies another number")
    if size != place:
        raise CheckpointError(f"{path} has {size} bytes, its header implies {place}; copy the file again.")
    return Header(prefix + text, tuple(tensors))


def _has_bytes(tensor: Stored, bits: int) -> bool:
    """Whether a tensor has as many bytes as its shape implies. The product of a bad shape may be endless."""
    if len(tensor.shape) > _MOST_DIMENSIONS or any(not 0 <= length < 1 << 63 for length in tensor.shape):
        return False
    return math.prod(tensor.shape) * bits == 8 * (tensor.end - tensor.begin)


def check_regular(path: Path, most: int | None = None) -> bytes:
    """The beginning of a file. Raises `CheckpointError` unless it is regular, and of at most `most` bytes."""
    try:
        with open_regular(path) as file:
            size = path.stat().st_size
            beginning = file.read(POINTER_BYTES.stop)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}).") from error
    if most is not None and size > most:
        raise CheckpointError(f"{path} has {size:,} bytes, allowed: at most {most:,}; copy the file again.")
    return beginning


def check_content(path: Path, most: int | None = None) -> None:
    """Raise `CheckpointError` for an empty file, a pointer of Git LFS, or what `check_regular` refuses."""
    beginning = check_regular(path, most)
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


def _damaged(path: Path, why: str = "") -> CheckpointError:
    reason = f" ({why})" if why else ""
    return CheckpointError(f"{path} is not a complete safetensors file{reason}; copy the file again.")
