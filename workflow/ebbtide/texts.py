"""Text files as people have them: compressed, with a byte-order mark, JSON Lines. Importing it is cheap."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from ebbtide.errors import EbbtideError, first_line

BYTE_ORDER_MARK = "\ufeff"
# First bytes of a compressed file → codec of Arrow.
_CODECS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4"}
_PACKED = (".gz", ".bz2", ".zst", ".lz4")


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
