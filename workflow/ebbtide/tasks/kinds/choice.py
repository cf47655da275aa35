"""Kind `choice`: which of K continuations is right?"""

from collections.abc import Callable, Mapping
from typing import Any

from ebbtide.tasks.kinds.choices import (
    QUESTION,
    best_index,
    check_choices,
    checked_choices,
    choices_of,
    gold_value,
    some_wrong,
    weights_of,
)
from ebbtide.tasks.kinds.kind import Example, Kind, Maker, Request, register
from ebbtide.tasks.render import BadRow, Row, excerpt, text_of, value_of

MC1 = {
    "description": "For TruthfulQA: the choices of MC1, all among `choices`, and its right one",
    "type": "object",
    "additionalProperties": False,
    "required": ["choices", "gold"],
    "properties": {
        "choices": {"description": "Field or template that gives the list", "type": "string"},
        "gold": {"description": "Field or template that gives an index, a text or labels", "type": "string"},
    },
}


def requests_of(fields: Mapping[str, Any], delimiter: str) -> Maker:
    """One request per choice, with `best` where there is MC1."""
    prompt, choices, gold = text_of(fields["prompt"]), choices_of(fields["choices"]), fields["gold"]
    best = _best_of(fields["mc1"]) if "mc1" in fields else None

    def make(row: Row) -> Example:
        context, texts = prompt(row), choices(row)
        weights = some_wrong(weights_of(gold_value(gold, row), texts))
        marks = best(row, texts) if best else None
        requests = [
            Request(i, context, delimiter + text, weights[i], extra={"best": marks[i]} if marks else {})
            for i, text in enumerate(texts)
        ]
        return Example(tuple(requests), context, delimiter + texts[best_index(weights)])

    return make


def _best_of(mc1: Mapping[str, Any]) -> Callable[[Row, list[str]], list[int]]:
    """Reads MC1's choices: 1 for the right one, 0 for its others, -1 for choices that are not MC1's."""
    choices_of_mc1, gold_of = choices_of(mc1["choices"]), value_of(mc1["gold"])

    def best(row: Row, texts: list[str]) -> list[int]:
        choices = checked_choices(choices_of_mc1(row))
        weights = weights_of(gold_of(row), choices)
        if missing := [choice for choice in choices if choice not in texts]:
            raise BadRow(f"MC1's choice {excerpt(missing[0])} is not among the choices")
        if sum(map(bool, weights)) != 1:
            raise BadRow(f"MC1 has {sum(map(bool, weights))} right choices, expected one")
        marks = dict(zip(choices, map(bool, weights), strict=True))
        return [int(marks.get(text, -1)) for text in texts]

    return best


CHOICE = register(
    Kind(
        "choice",
        "one or more of K continuations are right",
        requests_of,
        fields={"mc1": MC1, "question": QUESTION},
        check=check_choices,
        unconditional=True,
        formats=True,
    )
)
