"""Conversions to and from Arrow without pandas.

pyarrow imports pandas in `pa.array`, `pa.scalar`, `to_numpy`, `group_by` and `pq.read_table`. The import
costs half a second of CPU, and a scoring process does not need pandas. These functions use the buffers
instead.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute


def array_of(values: Sequence[Any], type_: pa.DataType) -> pa.Array:
    """Convert Python values, none of them missing, to an Arrow array of text, numbers or booleans.

    Raises `TypeError` for values that cannot be converted without loss.
    """
    count = len(values)
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        encoded = [value.encode() for value in values]
        ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
        return pa.Array.from_buffers(pa.large_string(), count, buffers).cast(type_)
    if pa.types.is_boolean(type_):  # Arrow packs booleans into bits
        return array_of(values, pa.uint8()).cast(type_)
    plain = _numpy_type(type_)
    converted = np.asarray(values).astype(plain, casting="safe") if count else np.empty(0, plain)
    return pa.Array.from_buffers(type_, count, [None, pa.py_buffer(converted)])


def numbers(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Convert a column of numbers, booleans or times to numpy. Only floats may be missing, and become NaN."""
    if pa.types.is_temporal(column.type) or pa.types.is_float16(column.type):
        return np.asarray(column.to_numpy())  # stored differently; no table of Ebbtide has such a column
    if pa.types.is_boolean(column.type):
        return numbers(column.cast(pa.uint8())).astype(bool)
    parts = [_chunk(chunk) for chunk in column.chunks if len(chunk)]
    return np.concatenate(parts) if parts else np.empty(0, _numpy_type(column.type))


def lengths(column: pa.ChunkedArray) -> list[str]:
    """Return the number of characters of each text as a string; "-" for a missing text."""
    counts = pa.compute.utf8_length(column)
    if not column.null_count:
        return list(map(str, numbers(counts).tolist()))
    return ["-" if count is None else str(count) for count in counts.to_pylist()]


def encoded(column: pa.ChunkedArray) -> Iterator[memoryview | bytes]:
    """Yield the texts of a column, concatenated, in UTF-8, without copying each; missing texts are empty."""
    for chunk in column.chunks:
        if chunk.null_count:
            yield "".join(text for text in chunk.to_pylist() if text is not None).encode()
        elif len(chunk):
            wide = np.int64 if pa.types.is_large_string(chunk.type) else np.int32
            _, ends, text = chunk.buffers()
            start, stop = np.frombuffer(ends, wide)[[chunk.offset, chunk.offset + len(chunk)]]
            yield memoryview(text)[start:stop] if text is not None else b""


def converted(column: pa.ChunkedArray, types: Sequence[pa.DataType]) -> pa.ChunkedArray:
    """Convert a column of another program to one of `types`, without loss; unchanged if that is impossible.

    Polars, DuckDB and pandas write the same values in other layouts: text as views or as dictionaries, whole
    numbers with fewer bits, without a sign or as decimals.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.type in types:
        return column
    if pa.types.is_string_view(column.type):
        wanted = pa.large_string()
    elif pa.types.is_integer(column.type) or (pa.types.is_decimal(column.type) and not column.type.scale):
        wanted = pa.int64()
    elif pa.types.is_floating(column.type):
        wanted = pa.float64()
    else:
        return column
    try:
        return column.cast(wanted) if wanted in types else column
    except pa.ArrowInvalid:  # a number beyond 64 bits
        return column


def key_codes(table: pa.Table, key: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return an integer per row; two rows have the same one exactly if they agree in the columns `key`."""
    codes = np.zeros(len(table), np.int64)
    for name in key:
        encoded = table.column(name).combine_chunks().dictionary_encode()
        found = numbers(pa.chunked_array([encoded.indices]))
        # Renumbering keeps the codes below the number of rows, so that products do not overflow.
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
