"""Kind `binary`: yes or no?"""

from collections.abc import Mapping
from typing import Any

from ebbtide.tasks.kinds.choices import (
    QUESTION,
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
    """Two requests: the negative answer, of value 0, then the positive, of value 1."""
    prompt, choices = text_of(fields["prompt"]), choices_of(fields["choices"])

    def make(row: Row) -> Example:
        context, texts = prompt(row), two(choices(row))
        value = gold_value(fields["gold"], row)
        weights = some_wrong(weights_of(int(value) if isinstance(value, bool) else value, texts))
        requests = [
            Request(i, context, delimiter + text, weights[i], extra={"value": float(i)})
            for i, text in enumerate(texts)
        ]
        return Example(tuple(requests), context, delimiter + texts[best_index(weights)])

    return make


BINARY = register(
    Kind(
        "binary",
        "yes or no",
        requests_of,
        fields={"question": QUESTION},
        check=check_two_choices("binary"),
        rows=2,
        columns=("value",),
        formats=True,
    )
)
