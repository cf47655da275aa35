"""Conversions to and from Arrow without pandas, and digests of tables.

pyarrow imports pandas in `pa.array`, `pa.scalar`, `to_numpy`, `group_by` and `pq.read_table`, and
`pyarrow.compute` in `cast`, `take` and others. These imports cost 0.2 and 0.04 seconds of CPU, which is as
much as a job needs to measure a checkpoint. These functions use the buffers instead, wherever they can.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

if TYPE_CHECKING:
    import pandas as pd

# Columns of a table. Texts are Python objects; a missing number is NaN, a missing text None.
Columns = dict[str, npt.NDArray[Any]]

MANY = 50_000  # rows from which Arrow finds equal keys faster, including the import of `pyarrow.compute`


def digests(table: pa.Table) -> tuple[str, dict[str, str]]:
    """Return the sha256 of column names and values, and that of each column.

    They are independent of chunking, encoding and metadata.
    """
    whole, of_columns = hashlib.sha256(), {}
    for name in table.column_names:
        column = hashlib.sha256()
        for part in _hashed(name, table.column(name)):
            whole.update(part)
            column.update(part)
        of_columns[name] = column.hexdigest()
    return whole.hexdigest(), of_columns


def array_of(values: Sequence[Any] | npt.NDArray[Any], type_: pa.DataType) -> pa.Array:
    """Convert Python values, none of them missing, to an Arrow array of text, numbers or booleans.

    Raises `TypeError` for values that cannot be converted without loss.
    """
    count = len(values)
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        encoded = [value.encode() for value in values]
        ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        wide = pa.types.is_large_string(type_) or ends[-1] >= 2**31
        buffers = [
            None,
            pa.py_buffer(ends if wide else ends.astype(np.int32)),
            pa.py_buffer(b"".join(encoded)),
        ]
        texts = pa.Array.from_buffers(pa.large_string() if wide else pa.string(), count, buffers)
        return texts if texts.type == type_ else texts.cast(type_)
    if pa.types.is_boolean(type_):
        flags = np.asarray(values).astype(bool, casting="safe") if count else np.empty(0, bool)
        return pa.Array.from_buffers(type_, count, [None, _bits_of(flags)])
    plain = _numpy_type(type_)
    converted = np.asarray(values).astype(plain, casting="safe") if count else np.empty(0, plain)
    return pa.Array.from_buffers(type_, count, [None, pa.py_buffer(converted)])


def numbers(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Convert a column of numbers, booleans or times to numpy. Only floats may be missing, and become NaN."""
    if pa.types.is_temporal(column.type) or pa.types.is_float16(column.type):
        return np.asarray(column.to_numpy())  # stored differently; no table of Ebbtide has such a column
    parts = [_chunk(chunk) for chunk in column.chunks if len(chunk)]
    return np.concatenate(parts) if parts else np.empty(0, _numpy_type(column.type))


def columns_of(table: "pa.Table | pd.DataFrame | Mapping[str, npt.NDArray[Any]]") -> Columns:
    """Return the columns of an Arrow table, a data frame or a mapping."""
    if isinstance(table, pa.Table):
        return {name: _objects_or_numbers(table.column(name)) for name in table.column_names}
    return {str(name): np.asarray(table[name]) for name in table}  # type: ignore[index]


def arrow_of(columns: Columns) -> pa.Table:
    """Return columns of texts (objects), numbers and booleans as an Arrow table; NaN is missing in it."""
    arrays = {}
    for name, values in columns.items():
        if values.dtype == object:
            arrays[name] = array_of(values.tolist(), pa.large_string())
        elif values.dtype.kind == "f":
            arrays[name] = floats_of(values)
        else:
            arrays[name] = array_of(values.tolist(), pa.from_numpy_dtype(values.dtype))
    return pa.table(arrays)


def floats_of(values: npt.NDArray[Any]) -> pa.Array:
    """Convert floats to Arrow, where NaN is missing, as it is when a data frame is converted."""
    plain = np.ascontiguousarray(values, dtype=np.float64)
    return masked(array_of(plain, pa.float64()), np.isnan(plain))


def masked(array: pa.Array, missing: npt.NDArray[np.bool_]) -> pa.Array:
    """Return an array without missing values with those of `missing` masked."""
    valid = _bits_of(~missing) if missing.any() else None
    return pa.Array.from_buffers(array.type, len(array), [valid, *array.buffers()[1:]])


def filled(column: pa.ChunkedArray) -> pa.Array:
    """Return a column of whole numbers in which missing ones are 0."""
    parts = []
    for chunk in column.chunks:
        valid, values = chunk.buffers()
        found = np.frombuffer(values, np.int64)[chunk.offset : chunk.offset + len(chunk)]
        parts.append(np.where(_flags(valid, chunk), found, 0) if chunk.null_count else found)
    return array_of(np.concatenate(parts), pa.int64())


def unknown_counts(columns: "Mapping[str, Any] | pd.DataFrame") -> dict[str, npt.NDArray[np.bool_]]:
    """Return where counts of a table are unknown, by column. They are 0 in memory and missing on disk.

    Training tokens are also 0 at step 0, which is untrained, and examples where a value is undefined. A table
    without steps or without values is not judged in these columns.
    """
    found = {}
    for name in map(str, columns):
        if name.startswith("parameters"):
            known = np.ones(len(columns[name]), dtype=bool)
        elif name == "tokens" and "step" in columns:
            known = np.asarray(columns["step"], dtype=float) > 0
        elif name == "n" and "value" in columns:
            known = ~np.isnan(np.asarray(columns["value"], dtype=float))
        else:
            continue
        found[name] = known & (np.asarray(columns[name], dtype=float) == 0)
    return found


def with_missing_counts(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Return a table for readers outside Ebbtide, in which unknown counts are missing."""
    masks = {name: missing for name, missing in unknown_counts(frame).items() if missing.any()}
    return frame.assign(**{name: frame[name].astype("Int64").mask(where) for name, where in masks.items()})


def metrics_on_disk(table: pa.Table) -> pa.Table:
    """Mask unknown counts of a table of metrics, and add `group`: of `accuracy[part=1]` it is `part=1`."""
    names = [name for name in table.column_names if _is_number(table.schema.field(name).type)]
    counts = {name: numbers(table.column(name)) for name in names}
    for name, missing in unknown_counts(counts).items():
        column = masked(array_of(counts[name], pa.int64()), missing)
        table = table.set_column(table.column_names.index(name), name, column)
    groups = [metric.partition("[")[2].removesuffix("]") for metric in table.column("metric").to_pylist()]
    column = masked(
        array_of(groups, pa.large_string()), np.array([not group for group in groups], dtype=bool)
    )
    return table.add_column(table.column_names.index("metric") + 1, "group", column)


def metrics_in_memory(table: pa.Table) -> pa.Table:
    """Undo `metrics_on_disk`; a table of an earlier version is unchanged."""
    for name in unknown_counts(dict.fromkeys(table.column_names, ())):
        column = table.column(name)
        if column.null_count and pa.types.is_int64(column.type):
            table = table.set_column(table.column_names.index(name), name, filled(column))
    return table.drop_columns(["group"]) if "group" in table.column_names else table


def lengths(column: pa.ChunkedArray) -> list[str]:
    """Return the number of characters of each text as a string; "-" for a missing text."""
    return [length for chunk in column.chunks if len(chunk) for length in _lengths(chunk)]


def encoded(column: pa.ChunkedArray) -> Iterator[memoryview | bytes]:
    """Yield the texts of a column, concatenated, in UTF-8, without copying each; missing texts are empty."""
    for chunk in column.chunks:
        if chunk.null_count:
            yield "".join(text for text in chunk.to_pylist() if text is not None).encode()
        elif len(chunk):
            start, stop = _ends(chunk)[[0, -1]]
            text = chunk.buffers()[2]
            yield memoryview(text)[start:stop] if text is not None else b""


def first_bytes(column: pa.ChunkedArray) -> npt.NDArray[np.uint8]:
    """Return the first byte of each text in UTF-8; 0 for an empty or missing one."""
    parts = [_first_bytes(chunk) for chunk in column.chunks if len(chunk)]
    return np.concatenate(parts) if parts else np.empty(0, np.uint8)


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
    codes, count = np.zeros(len(table), np.int64), 1
    for name in key:
        found, more = _codes(table.column(name))
        if count * more >= 2**62:  # renumbered, codes are below the number of rows
            codes, count = np.unique(codes, return_inverse=True)[1], len(table)
        codes, count = codes * more + found, count * more
    return codes


def first_repeat(table: pa.Table, key: Sequence[str]) -> int | None:
    """Return the first row that agrees with an earlier one in the columns `key`; None if no row does."""
    codes = key_codes(table, key)
    order = np.argsort(codes, kind="stable")  # fast for tables in the order of their key, as most are
    repeats = order[1:][np.diff(codes[order]) == 0]
    return int(repeats.min()) if len(repeats) else None


def _codes(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], int]:
    """Return an integer from 0 per value, equal for equal values, and the number of them."""
    if pa.types.is_integer(column.type) and not column.null_count:
        values, of_rows = np.unique(numbers(column), return_inverse=True)
        return of_rows, len(values)
    if len(column) > MANY:
        encoded_values = column.combine_chunks().dictionary_encode()
        indices = numbers(pa.chunked_array([encoded_values.indices]))
        return indices.astype(np.int64), len(encoded_values.dictionary)
    number: dict[Any, int] = {}
    codes = [number.setdefault(value, len(number)) for value in column.to_pylist()]
    return np.array(codes, dtype=np.int64), len(number)


def _hashed(name: str, column: pa.ChunkedArray) -> Iterator[bytes | memoryview]:
    """Yield the bytes of a column for its digest."""
    if pa.types.is_dictionary(column.type):  # categories are text on disk
        column = column.cast(column.type.value_type)
    yield f"{name}:{column.null_count}:".encode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        # Lengths first: "ab", "c" and "a", "bc" must not collide.
        yield ",".join(lengths(column)).encode()
        yield from encoded(column)
    elif pa.types.is_floating(column.type) or (_is_plain(column.type) and not column.null_count):
        yield numbers(column).tobytes()
    else:
        yield repr(column.to_pylist()).encode()


def _ends(chunk: pa.Array) -> npt.NDArray[Any]:
    """Return where each text of a chunk begins in its buffer, and where the last one ends."""
    wide = np.int64 if pa.types.is_large_string(chunk.type) else np.int32
    return np.frombuffer(chunk.buffers()[1], wide)[chunk.offset : chunk.offset + len(chunk) + 1]


def _lengths(chunk: pa.Array) -> list[str]:
    text = b"" if chunk.buffers()[2] is None else chunk.buffers()[2]
    ends = _ends(chunk)
    if not chunk.null_count and bytes(memoryview(text)[ends[0] : ends[-1]]).isascii():
        found, which = np.unique(np.diff(ends), return_inverse=True)
        lengths_as_text: list[str] = np.array(list(map(str, found.tolist())), dtype=object)[which].tolist()
        return lengths_as_text
    return ["-" if text is None else str(len(text)) for text in chunk.to_pylist()]


def _first_bytes(chunk: pa.Array) -> npt.NDArray[np.uint8]:
    ends = _ends(chunk)
    found = np.zeros(len(chunk), np.uint8)
    if (some := np.diff(ends) > 0).any():  # missing texts have no bytes
        found[some] = np.frombuffer(chunk.buffers()[2], np.uint8)[ends[:-1][some]]
    return found


def _bits_of(flags: npt.NDArray[np.bool_]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(flags, bitorder="little"))


def _flags(bits: pa.Buffer, chunk: pa.Array) -> npt.NDArray[np.bool_]:
    """Return the bits of the values of a chunk."""
    unpacked = np.unpackbits(
        np.frombuffer(bits, np.uint8), count=chunk.offset + len(chunk), bitorder="little"
    )
    return unpacked[chunk.offset :].astype(bool)


def _objects_or_numbers(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    plain = pa.types.is_integer(column.type) or pa.types.is_boolean(column.type)
    if pa.types.is_floating(column.type) or (plain and not column.null_count):
        return numbers(column)
    values = column.to_pylist()
    objects = np.empty(len(values), dtype=object)
    objects[:] = values  # `np.array` would make a second dimension of lists
    return objects


def _chunk(chunk: pa.Array) -> npt.NDArray[Any]:
    valid, values = chunk.buffers()
    if pa.types.is_boolean(chunk.type):
        return _flags(values, chunk)
    type_ = _numpy_type(chunk.type)
    found = np.frombuffer(values, type_, len(chunk), chunk.offset * type_.itemsize)
    return np.where(_flags(valid, chunk), found, type_.type(np.nan)) if chunk.null_count else found


def _numpy_type(type_: pa.DataType) -> np.dtype[Any]:
    if pa.types.is_boolean(type_):
        return np.dtype(bool)
    kind = "f" if pa.types.is_floating(type_) else "i" if pa.types.is_signed_integer(type_) else "u"
    return np.dtype(f"{kind}{type_.bit_width // 8}")


def _is_number(type_: pa.DataType) -> bool:
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_))


def _is_plain(type_: pa.DataType) -> bool:
    """Whether a numpy array contains the values, not references to them, as for lists, texts and decimals."""
    return bool(pa.types.is_integer(type_) or pa.types.is_boolean(type_) or pa.types.is_temporal(type_))
