"""Rows of a data file: JSON Lines, JSON, CSV, TSV, Parquet, or plain text split into documents.

A file may be compressed (gzip, bzip2, zstd, lz4) and begin with a byte-order mark. Texts are kept byte for
byte. A number of JSON is the number, and as text what the file has: 1.10 is not 1.1.
"""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ebbtide.errors import TaskError, first_line
from ebbtide.texts import BYTE_ORDER_MARK, json_lines, read_content, read_text, suffix_of

SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".txt": "text",
    ".md": "text",
}

Rows = list[dict[str, Any]]


class Written(float):
    """A number of a JSON file, whose text is the file's."""

    _text: str

    def __new__(cls, text: str) -> "Written":
        """Parse the text, and keep it."""
        number = super().__new__(cls, text)
        number._text = text
        return number

    def __str__(self) -> str:
        """Return the text of the file."""
        return self._text

    __repr__ = __str__


def format_of(file: str) -> str:
    """Return the format of a file by its name, without the suffix of its compression; by default `jsonl`."""
    return SUFFIXES.get(suffix_of(file), "jsonl")


def read_rows(path: Path, source: Mapping[str, Any]) -> Rows:
    """Read the rows of a file in `source["format"]`, as dictionaries by field.

    A text file is split at `source["separator"]`, if given, into documents with the field `text`; documents
    of only whitespace are skipped. Raises `TaskError` for a file that is not in this format.
    """
    format_ = source["format"]
    if format_ == "parquet":
        return _parquet(path)
    text = read_text(path, TaskError)
    match format_:
        case "csv":
            return _table(path, text, "excel")
        case "tsv":
            return _table(path, text, "excel-tab")
        case "json":
            return _json(path, text)
        case "text":
            return _documents(path, text, source.get("separator"))
    return [row for _, row in json_lines(text.split("\n"), path, TaskError, _loads)]


def begins_with_mark(path: Path) -> bool:
    """Whether the text of a file begins with a byte-order mark, which `read_rows` removes."""
    return read_content(path, TaskError).startswith(BYTE_ORDER_MARK.encode())


def _loads(text: str) -> Any:
    """Parse JSON; numbers keep their texts, and a key that occurs twice is a `ValueError`."""
    return json.loads(text, parse_float=Written, parse_int=_integer, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {repeated!r} occurs twice")
    return row


def _integer(text: str) -> Any:
    """Return the integer, or its text if it has more digits than Python converts."""
    try:
        return int(text) if text != "-0" else Written(text)
    except ValueError:
        return text


def _documents(path: Path, text: str, separator: str | None) -> Rows:
    windows = (separator or "").replace("\n", "\r\n")
    if separator and separator not in text and windows in text:
        raise TaskError(
            f"{path}: source.separator: found {separator!r}, but the file has the line breaks of Windows; "
            f"write {windows!r}."
        )
    pieces = text.split(separator) if separator else [text]
    return [{"text": piece} for piece in pieces if piece.strip()]


def _table(path: Path, text: str, dialect: str) -> Rows:
    # Strict: otherwise the quotes of a cell such as `"a" b` are silently removed.
    reader = csv.DictReader(io.StringIO(text, newline=""), dialect=dialect, strict=True)
    try:
        names = list(reader.fieldnames or ())
        if repeated := [name for name in names if names.count(name) > 1]:
            raise TaskError(f"{path}: the column {repeated[0]!r} occurs twice in the header; rename one.")
        return list(reader)
    except csv.Error as error:
        raise TaskError(
            f"{path} is not a table: line {reader.reader.line_num}: {error}; quotes around a cell must be "
            'closed, and a quote inside is written twice ("").'
        ) from None


def _json(path: Path, text: str) -> Rows:
    try:
        rows = _loads(text)
    except (ValueError, RecursionError) as error:
        raise TaskError(f"{path} is not JSON ({error}).") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise TaskError(f"{path}: expected a list of rows, each with fields and values.")
    return rows


def _parquet(path: Path) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows: Rows = pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise TaskError(f"{path} is not a complete Parquet file: {first_line(error)}.") from None
    return rows
