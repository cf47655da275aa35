"""Kind `sequence`: how probable is one continuation, and would the model write it and stop?"""

from collections.abc import Mapping
from typing import Any

from ebbtide.tasks.kinds.kind import Example, Kind, Maker, Request, register
from ebbtide.tasks.render import BadRow, Row, not_empty, text_of

STOP = "stop"  # role of the request that asks whether the model stops after the completion


def requests_of(fields: Mapping[str, Any], delimiter: str) -> Maker:
    """One request: the text after the prompt; with the field `stop`, another: the stop after both."""
    prompt, stop = text_of(fields["prompt"]), fields.get("stop")
    completion = text_of(fields.get("completion", "completion"))

    def make(row: Row) -> Example:
        context, text = prompt(row), delimiter + not_empty(completion(row), "the completion")
        requests = [Request(0, context, text, True)]
        if stop is not None:
            if stop in text:
                raise BadRow(f"the completion {text!r:.80} contains the stop {stop!r}, so no model gives it")
            requests.append(Request(0, context + text, stop, True, STOP))
        return Example(tuple(requests), context, text)

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
            },
            "stop": {
                "description": "Of kind sequence: the text that ends an answer, such as a line break (no "
                "template); for greedy_exact_match",
                "type": "string",
                "minLength": 1,
            },
        },
        gold="all",
        rows=1,
        field_roles={"stop": STOP},
    )
)
