"""Read JSON files of lm-evaluation-harness; errors name the file and line."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ebbtide.errors import CellError
from ebbtide.files import json_lines


def read_lines(path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Objects of a JSON Lines file, each with file and line for messages. Raises `CellError`."""
    try:
        with Path(path).open(encoding="utf-8", newline="\n") as file:
            for number, row in json_lines(file, path, CellError):
                yield f"{path}: line {number}", row
    except (OSError, UnicodeDecodeError) as error:
        raise CellError(f"{path} cannot be read: {error}.") from None


def model_of(config: Mapping[str, Any], where: str) -> tuple[str, str, str]:
    """Name and revision of the model in the config of a run, and its `model_args` as text.

    `model_args` is `pretrained=owner/name,revision=step1000` or a mapping. Raises `CellError` without a name.
    """
    arguments = config.get("model_args")
    if isinstance(arguments, str):
        pairs = [part.split("=", 1) for part in re.split(r",(?=[A-Za-z_]+=)", arguments) if "=" in part]
        arguments = {key.strip(): value for key, value in pairs}
    if not isinstance(arguments, Mapping):
        arguments = {}
    # Adapters (peft, delta) first, as in lm-eval: they name the model that results.
    name = next(
        (arguments[k] for k in ("peft", "delta", "pretrained", "model", "path") if arguments.get(k)), None
    )
    if not isinstance(name, str):
        raise CellError(
            f"{where}: config.model_args: found {config.get('model_args')!r}, allowed: pretrained=… or a "
            "mapping with that key."
        )
    revision = str(arguments.get("revision") or config.get("model_revision") or "main")
    return name, revision, ",".join(f"{k}={v}" for k, v in arguments.items())
