"""Kind `sequence`: how probable is one continuation?"""

from collections.abc import Mapping
from typing import Any

from ebbtide.tasks.kinds.kind import Example, Kind, Maker, Request, register
from ebbtide.tasks.render import Row, not_empty, text_of


def requests_of(fields: Mapping[str, Any], delimiter: str) -> Maker:
    """One request: the text after the prompt."""
    prompt = text_of(fields["prompt"])
    completion = text_of(fields.get("completion", "completion"))

    def make(row: Row) -> Example:
        context, text = prompt(row), delimiter + not_empty(completion(row), "the completion")
        return Example((Request(0, context, text, True),), context, text)

    return make


SEQUENCE = register(
    Kind(
        "sequence",
        "one continuation",
        requests_of,
        common=frozenset({"prompt"}),
        fields={
            "completion": {
                "description": "Of kind sequence: the text after the prompt; default: the field `completion`",
                "type": "string",
            }
        },
        gold="all",
        rows=1,
    )
)
