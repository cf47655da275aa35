"""Parts of a prompt: texts of which a small window takes as many, from the first on, as fit (`fit`).

The row has them as a list of texts. They are joined where the prompt prints `{{ name }}`; a separator belongs
to their texts.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from ebbtide.errors import ConfigError
from ebbtide.tasks.kinds import Example, Kind, Request
from ebbtide.tasks.kinds.kind import Maker
from ebbtide.tasks.render import BadRow, Row, excerpt, is_template

PARTS = "parts"
# Stands for the parts while a row is rendered: a code point that Unicode keeps from ever being a character.
_PLACE = "\ufdd0"


def check_fit(definition: Mapping[str, Any], kind: Kind, path: Path) -> None:
    """Raise `ConfigError` for the key `fit` of a definition that its schema cannot refuse."""
    few_shot = definition.get("few_shot", {})
    if "fit" in few_shot and "k" not in few_shot:
        raise ConfigError(f"{path}: few_shot.fit: only with few_shot.k.")
    if "fit" not in definition:
        return
    name, prompt = definition["fit"], definition["fields"].get("prompt", "")
    if "prompt" not in kind.common:
        raise ConfigError(f"{path}: fit: kind {kind.name!r} has no prompt; remove the key.")
    if few_shot:
        raise ConfigError(f"{path}: fit: a task with few_shot cannot have it; remove one of them.")
    printed = re.findall(rf"\{{\{{-?\s*{re.escape(name)}\s*-?\}}\}}", prompt) if is_template(prompt) else ()
    if len(printed) != 1:
        raise ConfigError(
            f"{path}: fit: found {name!r}, which fields.prompt prints {len(printed)} times; write "
            f"{{{{ {name} }}}} once in it."
        )


def with_parts(make: Maker, name: str) -> Maker:
    """Return a function from a row to its requests, whose column `parts` has the offsets of the parts.

    It raises `BadRow` for a field `name` that is not a list of texts, and a prompt that prints it not once.
    """

    def made(row: Row) -> Example:
        parts = _texts(row, name)
        example = make({**row, name: _PLACE if parts else ""})
        return replace(example, requests=tuple(_filled(request, parts, name) for request in example.requests))

    return made


def offsets_of(parts: list[str], start: int = 0) -> list[int]:
    """Return where each of the parts begins, and the last ends, in a text in which they begin at `start`."""
    return list(accumulate(map(len, parts), initial=start))


def _texts(row: Row, name: str) -> list[str]:
    value = row.get(name)
    if not isinstance(value, list) or not all(isinstance(text, str) and text for text in value):
        raise BadRow(f"fit: {name} must be a list of texts that are not empty, found {excerpt(value)}")
    return value


def _filled(request: Request, parts: list[str], name: str) -> Request:
    found, most = request.context.count(_PLACE), int(bool(parts))
    least = most if request.role == "choice" else 0
    if not least <= found <= most or _PLACE in request.continuation:
        times = found + request.continuation.count(_PLACE)
        raise BadRow(f"fit: the request prints {name} {times} times; allowed: once, in its context")
    before, place, after = request.context.partition(_PLACE)
    joined = "".join(parts) if place else ""
    offsets = offsets_of(parts if place else [], len(before))
    return replace(request, context=before + joined + after, extra={**request.extra, PARTS: offsets})
