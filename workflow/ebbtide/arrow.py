"""Values in and out of Arrow without pandas.

pyarrow imports pandas by itself in `pa.array`, `pa.scalar`, `to_numpy`, `group_by` and `pq.read_table`.
That is half a second of CPU in a process that scores and has no use for it; these functions go through
buffers.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute


def array_of(values: Sequence[Any], type_: pa.DataType) -> pa.Array:
    """An Arrow array of this type (text, numbers or flags) from Python values, none of them missing.

    Raises `TypeError` for values that the type cannot hold as they are.
    """
    count = len(values)
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        encoded = [value.encode() for value in values]
        ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
        return pa.Array.from_buffers(pa.large_string(), count, buffers).cast(type_)
    if pa.types.is_boolean(type_):  # Arrow packs flags into bits
        return array_of(values, pa.uint8()).cast(type_)
    plain = _numpy_type(type_)
    held = np.asarray(values).astype(plain, casting="safe") if count else np.empty(0, plain)
    return pa.Array.from_buffers(type_, count, [None, pa.py_buffer(held)])


def numbers(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """A column of numbers, flags or times in numpy. A missing real number is NaN; no other may be missing."""
    if pa.types.is_temporal(column.type) or pa.types.is_float16(column.type):
        return np.asarray(column.to_numpy())  # has rules of its own; no table of Ebbtide has such a column
    if pa.types.is_boolean(column.type):
        return numbers(column.cast(pa.uint8())).astype(bool)
    parts = [_chunk(chunk) for chunk in column.chunks if len(chunk)]
    return np.concatenate(parts) if parts else np.empty(0, _numpy_type(column.type))


def lengths(column: pa.ChunkedArray) -> list[str]:
    """The number of characters of every text, as text; "-" for a missing one."""
    counts = pa.compute.utf8_length(column)
    if not column.null_count:
        return list(map(str, numbers(counts).tolist()))
    return ["-" if count is None else str(count) for count in counts.to_pylist()]


def encoded(column: pa.ChunkedArray) -> Iterator[memoryview | bytes]:
    """All texts of a column one after another in UTF-8, without a copy of each; missing ones are empty."""
    for chunk in column.chunks:
        if chunk.null_count:
            yield "".join(text for text in chunk.to_pylist() if text is not None).encode()
        elif len(chunk):
            wide = np.int64 if pa.types.is_large_string(chunk.type) else np.int32
            _, ends, text = chunk.buffers()
            start, stop = np.frombuffer(ends, wide)[[chunk.offset, chunk.offset + len(chunk)]]
            yield memoryview(text)[start:stop] if text is not None else b""


def key_codes(table: pa.Table, key: Sequence[str]) -> npt.NDArray[np.int64]:
    """A number per row, equal for two rows exactly when their values in the columns `key` are equal."""
    codes = np.zeros(len(table), np.int64)
    for name in key:
        encoded = table.column(name).combine_chunks().dictionary_encode()
        found = numbers(pa.chunked_array([encoded.indices]))
        # Numbered anew each time: the codes stay below the number of rows, and products do not overflow.
        codes = np.unique(codes * len(encoded.dictionary) + found, return_inverse=True)[1]
    return codes


def _chunk(chunk: pa.Array) -> npt.NDArray[Any]:
    type_ = _numpy_type(chunk.type)
    values = np.frombuffer(chunk.buffers()[1], type_, len(chunk), chunk.offset * type_.itemsize)
    if not chunk.null_count:
        return values
    missing = numbers(pa.chunked_array([chunk.is_null()]))
    return np.where(missing, type_.type(np.nan), values)


def _numpy_type(type_: pa.DataType) -> np.dtype[Any]:
    kind = "f" if pa.types.is_floating(type_) else "i" if pa.types.is_signed_integer(type_) else "u"
    return np.dtype(f"{kind}{type_.bit_width // 8}")
