"""Read JSON Lines of lm-evaluation-harness; errors name the file and line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ebbtide.errors import CellError, first_line
from ebbtide.texts import json_lines


def read_lines(path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Objects of a JSON Lines file, each with file and line for messages. Raises `CellError`.

    A byte-order mark is ignored.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="\n") as file:
            for number, row in json_lines(file, path, CellError):
                yield f"{path}: line {number}", row
    except UnicodeDecodeError as error:
        raise CellError(f"{path} is not UTF-8 ({first_line(error)}). Convert it to UTF-8.") from None
    except OSError as error:
        raise CellError(f"{path} cannot be read: {error}.") from None
    except CellError as error:
        if "is not JSON" in error.args[0] and not _ends_a_line(path):
            raise CellError(
                f"{error.args[0].removesuffix('.')}, and the file does not end with a line break, so it was "
                "probably cut off while it was written or copied. Copy or make it again."
            ) from None
        raise


def _ends_a_line(path: str | Path) -> bool:
    with Path(path).open("rb") as file:
        file.seek(0, 2)
        if not file.tell():
            return True
        file.seek(-1, 2)
        return file.read(1) == b"\n"
