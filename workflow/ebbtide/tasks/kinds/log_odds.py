"""Kind `log_odds`: how far does a prompt shift the odds of two classes, compared with another prompt?"""

from collections.abc import Mapping
from typing import Any

from ebbtide.tasks.kinds.choices import (
    best_index,
    check_two_choices,
    choices_of,
    gold_value,
    some_wrong,
    two,
    weights_of,
)
from ebbtide.tasks.kinds.kind import Example, Kind, Maker, Request, register
from ebbtide.tasks.render import Row, text_of


def requests_of(fields: Mapping[str, Any], delimiter: str) -> Maker:
    """Two requests after the prompt, and the same two, of the role `other`, after the other prompt."""
    prompt, choices = text_of(fields["prompt"]), choices_of(fields["choices"])
    other_prompt = text_of(fields.get("other_prompt", "other_prompt"))

    def make(row: Row) -> Example:
        context, other, texts = prompt(row), other_prompt(row), two(choices(row))
        weights = some_wrong(weights_of(gold_value(fields["gold"], row), texts))
        requests = [
            Request(i, before, delimiter + text, weights[i], role)
            for before, role in ((context, "choice"), (other, "other"))
            for i, text in enumerate(texts)
        ]
        return Example(tuple(requests), context, delimiter + texts[best_index(weights)])

    return make


LOG_ODDS = register(
    Kind(
        "log_odds",
        "two classes after two prompts",
        requests_of,
        fields={
            "other_prompt": {
                "description": "Of kind log_odds: the context to compare with; default: the field "
                "`other_prompt`",
                "type": "string",
            }
        },
        check=check_two_choices("log_odds"),
        rows=2,
        roles=("other",),
    )
)
