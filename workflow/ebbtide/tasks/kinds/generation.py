"""Kind `generation`: which texts does the model write after the prompt?"""

import json
from collections.abc import Mapping
from typing import Any

from ebbtide.tasks.kinds.kind import Example, Kind, Maker, Request, register
from ebbtide.tasks.kinds.rating import TARGET
from ebbtide.tasks.render import BadRow, Row, as_text, excerpt, text_of, value_of


def requests_of(fields: Mapping[str, Any], delimiter: str) -> Maker:
    """One request: the prompt, with the accepted texts as a list in JSON, if the definition has a target."""
    prompt = text_of(fields["prompt"])
    target_of = value_of(fields["target"]) if "target" in fields else None

    def make(row: Row) -> Example:
        context = prompt(row)
        if target_of is None:
            return Example((Request(0, context, "", True),), context)
        targets = _accepted(target_of(row))
        extra = {"targets": json.dumps(targets, ensure_ascii=False)}
        return Example((Request(0, context, "", True, extra=extra),), context, delimiter + targets[0])

    return make


def _accepted(value: Any) -> list[str]:
    """Return the accepted texts, from one text or number, or a list of them. Raises `BadRow`."""
    values = value if isinstance(value, list | tuple) else [value]
    if not values:
        raise BadRow(f"the target must be a text, or a list of accepted texts, found {excerpt(value)}")
    return [as_text(one, "the target") for one in values]


GENERATION = register(
    Kind(
        "generation",
        "texts that the model writes",
        requests_of,
        common=frozenset({"prompt"}),
        fields={"target": TARGET},
        gold="all",
        needs="samples",
        invertible=False,
    )
)
