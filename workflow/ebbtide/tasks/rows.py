"""Rows of a data file: JSON Lines, JSON, CSV, TSV, Parquet, or plain text split into documents."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ebbtide.errors import TaskError, first_line
from ebbtide.files import json_lines

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


def read_rows(path: Path, source: Mapping[str, Any]) -> Rows:
    """Read the rows of a file in `source["format"]`, as dictionaries by field.

    A text file is split at `source["separator"]`, if given, into documents with the field `text`; documents
    of only whitespace are skipped. Raises `TaskError` for a file that is not in this format.
    """
    format_ = source["format"]
    if format_ == "parquet":
        return _parquet(path)
    try:
        text = path.read_text(encoding="utf-8-sig") if format_ != "text" else path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise TaskError(f"{path} is not UTF-8 text: {error}.") from None
    except OSError as error:
        raise TaskError(f"{path} cannot be read: {error.strerror}.") from None
    match format_:
        case "csv":
            return _table(path, text, "excel")
        case "tsv":
            return _table(path, text, "excel-tab")
        case "json":
            return _json(path, text)
        case "text":
            separator = source.get("separator")
            pieces = text.split(separator) if separator else [text]
            return [{"text": piece} for piece in pieces if piece.strip()]
    return [row for _, row in json_lines(text.split("\n"), path, TaskError)]


def _table(path: Path, text: str, dialect: str) -> Rows:
    try:
        return list(csv.DictReader(io.StringIO(text, newline=""), dialect=dialect))
    except csv.Error as error:
        raise TaskError(f"{path} is not a table: {error}.") from None


def _json(path: Path, text: str) -> Rows:
    try:
        rows = json.loads(text)
    except ValueError as error:
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
