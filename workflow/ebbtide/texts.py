"""Texts as people have them: files, compressed, with a byte-order mark, JSON Lines; and what formats escape.

Titles, names and the texts of tasks may contain anything. Importing this module is cheap.
"""

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from ebbtide.errors import EbbtideError, first_line
from ebbtide.files import open_regular

if TYPE_CHECKING:
    import pandas as pd

BYTE_ORDER_MARK = "\ufeff"
# First bytes of a compressed file → codec of Arrow.
_CODECS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4"}
_PACKED = (".gz", ".bz2", ".zst", ".lz4")

# Spreadsheets run a text that begins like this as a formula. Apostrophes before it are those of `for_sheets`.
_FORMULA = re.compile(r"'*(=|[-+@]|\t|\r)", re.DOTALL)
_NUMBER = re.compile(r"[-+]?((\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|inf)?")
_TEX = str.maketrans(
    {
        **{c: f"\\{c}" for c in "&%$#_{}"},
        **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"},
        # In the default encoding of fonts, these print other characters.
        **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"},
    }
)


def suffix_of(path: str | Path) -> str:
    """Return the suffix of a file, without that of its compression: `.jsonl` for `a.jsonl.gz`."""
    path = Path(path)
    return Path(path.stem).suffix if path.suffix in _PACKED else path.suffix


def read_content(path: str | Path, error: type[EbbtideError]) -> bytes:
    """Return the bytes of a file, decompressed (gzip, bzip2, zstd, lz4). Raises `error`."""
    try:
        content = Path(path).read_bytes()
        codec = next((codec for first, codec in _CODECS.items() if content.startswith(first)), None)
        return content if codec is None else _decompressed(content, codec)
    except OSError as reason:
        raise error(f"{path} cannot be read ({first_line(reason)}).") from None


def read_text(path: str | Path, error: type[EbbtideError]) -> str:
    """Return the text of a file, decompressed, without a byte-order mark, line breaks as they are.

    Raises `error`.
    """
    try:
        return read_content(path, error).decode().removeprefix(BYTE_ORDER_MARK)
    except UnicodeDecodeError as reason:
        raise error(f"{path} is not UTF-8 text ({first_line(reason)}); save it as UTF-8.") from None


def _decompressed(content: bytes, codec: str) -> bytes:
    import pyarrow as pa

    try:
        with pa.CompressedInputStream(pa.BufferReader(content), codec) as stream:
            unpacked: bytes = stream.read()
    except pa.ArrowException as error:
        raise OSError(str(error)) from None
    return unpacked


def json_lines(
    lines: Iterable[str],
    path: str | os.PathLike[str],
    error: type[EbbtideError],
    loads: Callable[[str], Any] = json.loads,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers, from 1, and objects of JSON Lines. Skips blank lines; raises `error` naming the line.

    Split a text at "\\n" for it, not by `splitlines`: JSON texts may contain the line separators of Unicode.
    """
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = loads(line)
        except (ValueError, RecursionError) as reason:
            raise error(f"{path}: line {number} is not JSON ({first_line(reason)}).") from None
        if not isinstance(row, dict):
            raise error(f"{path}: line {number}: found {line.strip()[:40]!r}, expected a JSON object.")
        yield number, row


def one_line(text: str) -> str:
    """Return a text without line breaks and other control characters, for lines of text on a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def for_tex(text: str) -> str:
    """Return a text as LaTeX, on one line."""
    return one_line(text).translate(_TEX)


def for_script(text: str) -> str:
    """Return JSON for a `<script>` of an HTML page, which `</script>` in a text would end."""
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def write_sheet(
    table: "pd.DataFrame", to: str | Path | TextIO, separator: str, float_format: str | None = None
) -> None:
    """Write a table as TSV or CSV; missing values are empty. `from_sheets` returns the texts as they were."""
    guarded = for_sheets(table)
    # A reader may take a carriage return for the end of a row, unless the text is quoted.
    returns = any("\r" in str(text) for _, column in _text_columns(guarded) for text in column.unique())
    quoting: Literal[0, 2] = csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL
    guarded.to_csv(to, sep=separator, index=False, float_format=float_format, quoting=quoting)


def read_sheet(
    path: str | Path, separator: str, types: dict[str, type], error: type[EbbtideError]
) -> "pd.DataFrame":
    """Read a table of `write_sheet`, with the texts as written; only an empty field is missing.

    Raises `error` if the file is missing, cut within a row, or not such a table.
    """
    import pandas as pd

    again = "if it is in results, delete it and run snakemake"
    try:
        with open_regular(path) as file:
            content = file.read()
        if not content.endswith(b"\n"):  # pandas would take half a number for the whole
            raise ValueError("its last row is cut" if content else "it is empty")
        return pd.read_csv(
            io.BytesIO(content), sep=separator, dtype=types, keep_default_na=False, na_values=[""]
        )
    except FileNotFoundError:
        raise error(f"{path} does not exist; run snakemake to make it.") from None
    except OSError as reason:
        raise error(f"{path} cannot be read ({reason.strerror}); {again}.") from None
    except ValueError as reason:  # of pandas, too: rows that are too long, quotes without end, not UTF-8
        found = first_line(reason).removeprefix("Error tokenizing data. C error: ")
        raise error(f"{path} is not a whole table ({found}); {again}.") from None


def for_sheets(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return a table with an apostrophe before each text that a spreadsheet would run as a formula.

    Numbers such as -0.5 are not formulas. `from_sheets` returns the original.
    """

    def guarded(text: str) -> str:
        return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text

    return _changed(table, guarded)


def from_sheets(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return the table that was given to `for_sheets`."""

    def bare(text: str) -> str:
        return text[1:] if text.startswith("'") and _FORMULA.match(text) else text

    return _changed(table, bare)


def _changed(table: "pd.DataFrame", change: Callable[[str], str]) -> "pd.DataFrame":
    for name, column in _text_columns(table):
        texts = {text: change(text) for text in column.unique() if isinstance(text, str)}
        if any(old != new for old, new in texts.items()):
            values = [texts.get(value, value) for value in column]
            table = table.assign(**{name: values}).astype({name: column.dtype})
    return table


def _text_columns(table: "pd.DataFrame") -> "list[tuple[str, pd.Series]]":
    return [(str(name), column) for name, column in table.items() if column.dtype.kind in "OSU"]
