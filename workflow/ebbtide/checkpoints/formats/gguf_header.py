"""The header of a GGUF file: metadata, and the names, shapes, types and places of its tensors. A lean module.

Planning reads the headers of all checkpoints, so texts of vocabularies are skipped: the package gguf takes 35
times as long. Every number in the file is checked before it is used: files may be from anywhere. The format:
versions 2 and 3, little-endian, as in the specification of ggml.
"""

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ebbtide.checkpoints.header import check_content
from ebbtide.errors import CheckpointError
from ebbtide.files import open_regular

Value = int | float | bool | str | tuple[int | float | bool, ...]

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_FLOAT32, _STRING, _ARRAY = 6, 8, 9
_MOST_ENTRIES, _MOST_TENSORS, _MOST_DIMENSIONS = 10_000, 200_000, 8
_LONGEST_STRING, _LONGEST_NUMBERS = 1 << 20, 1_000_000  # of values that are kept
_MOST_STRINGS = 10_000_000  # of a vocabulary
_ALIGNMENT = 32


@dataclass(frozen=True)
class Stored:
    """A tensor: its shape with the fastest axis last, its type as a number, its first byte in the file."""

    name: str
    shape: tuple[int, ...]
    type: int
    begin: int


@dataclass(frozen=True)
class Header:
    """The metadata that were kept (numbers, texts, arrays of numbers), the places of others, and the tensors.

    `texts` has the first byte of each array of texts, such as the vocabulary.
    """

    metadata: Mapping[str, Value]
    texts: Mapping[str, int]
    tensors: tuple[Stored, ...]


def read_gguf_header(path: Path) -> Header:
    """Read the header of a GGUF file. Raises `CheckpointError` for other files, and for truncated ones."""
    check_content(path)
    with open_regular(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return _header(_Reader(data, path))
        except (UnicodeDecodeError, OverflowError, MemoryError) as error:
            raise _damaged(path, f"its header has an unreadable value ({type(error).__name__})") from error


def read_texts(path: Path, begin: int) -> list[bytes]:
    """The texts of an array that begins at this byte. Raises `CheckpointError` if the file ends before."""
    with open_regular(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        reader, found = _Reader(data, path), []
        reader.skip(begin)
        for _ in range(reader.bounded("<Q", _MOST_STRINGS, "texts")):
            length = reader.number("<Q")
            place = reader.skip(length)
            found.append(data[place : place + length])
    return found


class _Reader:
    """A place in the bytes of a file."""

    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self.data, self.path, self.place = data, path, 0

    def skip(self, size: int) -> int:
        """Move over `size` bytes, and return where they begin."""
        begin = self.place
        if size > len(self.data) - begin:
            raise _damaged(self.path, f"it ends within its header, after {len(self.data):,} bytes")
        self.place += size
        return begin

    def number(self, form: str) -> int:
        value: int
        [value] = struct.unpack_from(form, self.data, self.skip(struct.calcsize(form)))
        return value

    def peek(self, form: str) -> int:
        place, value = self.place, self.number(form)
        self.place = place
        return value

    def bounded(self, form: str, most: int, what: str) -> int:
        value = self.number(form)
        if value > most:
            raise _damaged(self.path, f"it claims {value:,} {what}, at most {most:,} are read")
        return value

    def text(self) -> str:
        length = self.bounded("<Q", _LONGEST_STRING, "bytes of text")
        begin = self.skip(length)
        return self.data[begin : begin + length].decode("utf-8")


def _header(reader: _Reader) -> Header:
    _check_version(reader)
    tensors = reader.bounded("<Q", _MOST_TENSORS, "tensors")
    metadata: dict[str, Value] = {}
    texts: dict[str, int] = {}
    for _ in range(reader.bounded("<Q", _MOST_ENTRIES, "metadata")):
        key = reader.text()
        if key in metadata or key in texts:
            raise _damaged(reader.path, f"its metadata have {key!r} twice")
        kind = reader.number("<I")
        if kind == _ARRAY and reader.peek("<I") == _STRING:
            texts[key] = reader.place + struct.calcsize("<I")
        value = _value(reader, kind)
        if value is not None:
            metadata[key] = value
    found = [_tensor(reader) for _ in range(tensors)]
    if len({tensor.name for tensor in found}) < tensors:
        raise _damaged(reader.path, "two of its tensors have one name")
    alignment = metadata.get("general.alignment", _ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise _damaged(reader.path, f"general.alignment is {alignment!r}, which is not a power of two")
    start = -(-reader.place // alignment) * alignment
    placed = (Stored(one.name, one.shape, one.type, start + one.begin) for one in found)
    return Header(metadata, texts, tuple(placed))


def _check_version(reader: _Reader) -> None:
    begin = reader.skip(len(_MAGIC))
    if (magic := reader.data[begin : reader.place]) != _MAGIC:
        raise CheckpointError(f"{reader.path} is not a GGUF file: it begins with {magic!r}, not {_MAGIC!r}.")
    version = reader.number("<I")
    if version not in _VERSIONS:
        order = " (big-endian)" if int.from_bytes(version.to_bytes(4, "little"), "big") in _VERSIONS else ""
        raise CheckpointError(
            f"{reader.path} is GGUF of version {version}{order}; allowed: {', '.join(map(str, _VERSIONS))}, "
            "little-endian. Convert the model again with a current llama.cpp."
        )


def _value(reader: _Reader, kind: int) -> Value | None:
    """The next value; None for arrays that are skipped."""
    if kind == _STRING:
        return reader.text()
    if kind == _FLOAT32:
        return _shortest(reader.number("<f"))
    if kind in _SCALARS:
        return reader.number(_SCALARS[kind])
    if kind == _ARRAY:
        return _array(reader)
    raise _damaged(reader.path, f"its metadata have a value of the unknown type {kind}")


def _shortest(value: float) -> float:
    """The number with the fewest digits that is this value in float32: 1e-5, not 0.00000999999974."""
    texts = (f"{value:.{digits}g}" for digits in range(1, 9))
    return next((float(text) for text in texts if _float32(float(text)) == value), value)


def _float32(value: float) -> float:
    rounded: float
    [rounded] = struct.unpack("<f", struct.pack("<f", value))
    return rounded


def _array(reader: _Reader) -> Value | None:
    kind = reader.number("<I")
    if kind == _STRING:
        for _ in range(reader.bounded("<Q", _MOST_STRINGS, "texts")):
            reader.skip(reader.number("<Q"))
        return None
    if kind not in _SCALARS:
        raise _damaged(reader.path, f"its metadata have an array of the unknown type {kind}")
    count, form = reader.number("<Q"), _SCALARS[kind]
    begin = reader.skip(count * struct.calcsize(form))
    if count > _LONGEST_NUMBERS:
        return None
    return struct.unpack_from(f"<{count}{form[1]}", reader.data, begin)


def _tensor(reader: _Reader) -> Stored:
    name = reader.text()
    dimensions = reader.bounded("<I", _MOST_DIMENSIONS, f"dimensions of {name:.200}")
    shape = tuple(reader.number("<Q") for _ in range(dimensions))[::-1]
    return Stored(name, shape, reader.number("<I"), reader.number("<Q"))


def _damaged(path: Path, why: str) -> CheckpointError:
    return CheckpointError(f"{path} is not a complete GGUF file: {why}; copy the file again.")
