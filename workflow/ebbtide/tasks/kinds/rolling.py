"""Kind `rolling`: the loss of whole documents."""

from collections.abc import Mapping
from typing import Any

from ebbtide.tasks.kinds.kind import Example, Kind, Maker, Request, register
from ebbtide.tasks.render import Row, not_empty, text_of


def requests_of(fields: Mapping[str, Any], delimiter: str) -> Maker:
    """One request: the document."""
    del delimiter
    text = text_of(fields.get("text", "text"))

    def make(row: Row) -> Example:
        return Example((Request(0, "", not_empty(text(row), "the document"), True),))

    return make


ROLLING = register(
    Kind(
        "rolling",
        "whole documents",
        requests_of,
        common=frozenset(),
        fields={
            "text": {
                "description": "Of kind rolling: the document; default: the field `text`",
                "type": "string",
            }
        },
        gold="all",
        needs="losses",
        rows=1,
        few_shot=False,
        invertible=False,
    )
)
