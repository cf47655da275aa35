"""A sketch of every tensor of a checkpoint: a few of its values, at places that follow from its shape.

    block    values at the crossings of 16 rows and 16 columns; of a square matrix, the same indices in both
             directions, so the block of the transposed matrix is the transposed block
    strip    the first 128 rows in 4 columns: of rows in another order, or shifted, it has the same values

Vectors have a strip of 128 values. The sketch of a tensor has at most 1.5 KB. Values are read from the weight
files, a page of memory per row, whatever back end has loaded them. With half precision, the largest magnitude
of the whole tensor is read as well.
"""

import base64
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ebbtide.checkpoints.configuration import configuration
from ebbtide.checkpoints.header import BUFFERS, Stored
from ebbtide.checkpoints.weight_files import assigned_files, read_headers, weight_files

SIDE, ROWS, COLUMNS = 16, 128, 4
MOST_TENSORS = 4096  # sketched, of mixtures with many experts; the first by name
_GOLDEN = (math.sqrt(5) - 1) / 2  # multiples of it, modulo 1, spread evenly over any range
_STORED = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_LARGEST_HALF = 65504.0
_PIECE = 1 << 22  # values compared at a time

Values = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Sketch:
    """A few values of a tensor.

    Attributes
    ----------
    block
        (r, c) with r, c at most `SIDE`; (0, 0) of a vector.
    strip
        (R, C) with R at most `ROWS` and C at most `COLUMNS`.
    bits
        Digest of these values as they are stored.
    peak
        Largest magnitude in the tensor; None if half precision is not involved.
    """

    shape: tuple[int, ...]
    block: Values
    strip: Values
    bits: str
    peak: float | None = None

    @property
    def values(self) -> Values:
        """All values as a vector."""
        return np.concatenate([self.block.ravel(), self.strip.ravel()])

    def record(self) -> dict[str, Any]:
        """The sketch as JSON; values are kept in half precision."""
        texts = {name: _text(values) for name, values in (("block", self.block), ("strip", self.strip))}
        return {"shape": list(self.shape), **texts, "bits": self.bits, "peak": self.peak}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Sketch":
        """The sketch of a record."""
        shape = tuple(record["shape"])
        rows, columns = as_matrix(shape)
        block = _values(record["block"])
        sides = (0, 0) if len(shape) < 2 else (min(rows, SIDE), min(columns, SIDE))
        strip = _values(record["strip"]).reshape(min(rows, ROWS), min(columns, COLUMNS))
        return cls(shape, block.reshape(sides), strip, record["bits"], record["peak"])


@dataclass(frozen=True, eq=False)
class Sketches:
    """The sketches of a checkpoint by tensor, tensors without one, and the width of an attention head.

    `head` is 0 if it is unknown. Tensors without a sketch are of another type than floating point, or beyond
    `MOST_TENSORS`.
    """

    tensors: Mapping[str, Sketch]
    left_out: int = 0
    head: int = 0


def sketches_of(directory: str | Path, dtype: str) -> Sketches:
    """Sketch the tensors in the weight files of a checkpoint that is scored in the precision `dtype`.

    Raises `CheckpointError` for files that cannot be loaded.
    """
    files, assigned = weight_files(directory), assigned_files(directory)
    held = [
        (tensor, path)
        for path, header in read_headers(files).items()
        for tensor in header.tensors
        if assigned.get(tensor.name, path.name) == path.name and not BUFFERS.search(tensor.name)
    ]
    held.sort(key=lambda item: item[0].name)
    found, maps = {}, {path: np.memmap(path, dtype=np.uint8, mode="r") for path in files}
    for tensor, path in held[:MOST_TENSORS]:
        if tensor.dtype in _STORED:
            found[tensor.name] = _sketch(maps[path], tensor, half=dtype == "float16")
    return Sketches(found, len(held) - len(found), _head_width(configuration(directory)))


def places(length: int, most: int) -> npt.NDArray[np.int64]:
    """At most `most` distinct indices below `length`, in ascending order, spread over the whole range."""
    if length <= most:
        return np.arange(length)
    found: dict[int, None] = {}
    step = 0
    while len(found) < most:
        step += 1
        found[int(step * _GOLDEN % 1.0 * length)] = None
    return np.array(sorted(found))


def as_matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """The rows and columns of a tensor as a matrix: the last dimension is that of the columns."""
    if len(shape) < 2:
        return math.prod(shape), 1
    return math.prod(shape[:-1]), shape[-1]


def _sketch(file: npt.NDArray[np.uint8], tensor: Stored, *, half: bool) -> Sketch:
    stored = file[tensor.begin : tensor.end].view(_STORED[tensor.dtype])
    matrix = stored.reshape(as_matrix(tensor.shape))
    rows, columns = matrix.shape
    strip = np.ascontiguousarray(matrix[:ROWS, places(columns, COLUMNS)])
    block = strip[:0, :0]
    if len(tensor.shape) > 1:
        block = np.ascontiguousarray(matrix[np.ix_(places(rows, SIDE), places(columns, SIDE))])
    bits = hashlib.sha256(block.tobytes() + strip.tobytes()).hexdigest()[:16]
    peak = _peak(stored, tensor.dtype) if half or tensor.dtype == "F16" else None
    return Sketch(tensor.shape, _wide(block, tensor.dtype), _wide(strip, tensor.dtype), bits, peak)


def _wide(values: npt.NDArray[Any], dtype: str) -> Values:
    if dtype == "BF16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32)


def _peak(stored: npt.NDArray[Any], dtype: str) -> float:
    """The largest magnitude of a tensor. Bits without the sign have the order of magnitudes."""
    width = stored.dtype.itemsize
    integers = stored.view(f"<u{width}")
    mask = integers.dtype.type((1 << (8 * width - 1)) - 1)
    pieces = (integers[start : start + _PIECE] & mask for start in range(0, len(integers), _PIECE))
    largest = max(piece.max() for piece in pieces)
    value = float(_wide(np.array([largest], integers.dtype).view(_STORED[dtype]), dtype)[0])
    return value if math.isfinite(value) else math.inf


def overflows(sketch: Sketch) -> bool:
    """Whether a tensor has a value that is the largest in half precision, or beyond."""
    return sketch.peak is not None and sketch.peak >= _LARGEST_HALF


def _head_width(config: Mapping[str, Any]) -> int:
    try:
        width = config.get("hidden_size") or config["n_embd"]
        heads = config.get("num_attention_heads") or config["n_head"]
        return int(config.get("head_dim") or width // heads)
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return 0


def _text(values: Values) -> str:
    with np.errstate(over="ignore"):
        half = values.astype("<f2")
    return base64.b64encode(half.tobytes()).decode("ascii")


def _values(text: str) -> Values:
    return np.frombuffer(base64.b64decode(text, validate=True), dtype="<f2").astype(np.float32)
