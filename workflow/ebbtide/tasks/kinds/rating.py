"""Kind `rating`: which of K values does the model expect, and how far is that from the true one?"""

from collections.abc import Mapping
from typing import Any

from ebbtide.errors import ConfigError
from ebbtide.tasks.kinds.choices import check_choices, choices_of
from ebbtide.tasks.kinds.kind import Example, Kind, Maker, Request, register
from ebbtide.tasks.render import Row, as_number, text_of, value_of

TARGET = {
    "description": "Of kind rating: the true value, default: the field `target`; of kind generation: the "
    "accepted text, or a list of accepted texts, default: none; a field or template",
    "type": "string",
}


def requests_of(fields: Mapping[str, Any], delimiter: str) -> Maker:
    """One request per choice, each with its value and the target."""
    prompt, choices = text_of(fields["prompt"]), choices_of(fields["choices"])
    values = [float(v) for v in fields.get("values", range(1, len(fields["choices"]) + 1))]
    target_of = value_of(fields.get("target", "target"))
    baselines = {f"baseline_{name}": value_of(spec) for name, spec in fields.get("baselines", {}).items()}

    def make(row: Row) -> Example:
        context, texts, target = prompt(row), choices(row), as_number(target_of(row), "the rating")
        predicted = {name: as_number(of(row), name) for name, of in baselines.items()}
        own = {"target": target, **predicted}
        requests = [
            Request(i, context, delimiter + text, value == target, extra={"value": value, **own})
            for i, (text, value) in enumerate(zip(texts, values, strict=True))
        ]
        answer = delimiter + texts[values.index(target)] if target in values else None
        return Example(tuple(requests), context, answer)

    return make


def _check(fields: Mapping[str, Any], where: str) -> None:
    choices = fields["choices"]
    check_choices(fields, where)
    if not isinstance(choices, list):
        raise ConfigError(
            f"{where}: fields.choices: kind 'rating' needs a list of texts, one per value, "
            f"such as [' 1', ' 2', ' 3']; found {choices!r}."
        )
    if len(fields.get("values", choices)) != len(choices):
        raise ConfigError(
            f"{where}: fields.values: found {len(fields['values'])} values for {len(choices)} choices."
        )


RATING = register(
    Kind(
        "rating",
        "K ratings and a true one",
        requests_of,
        common=frozenset({"prompt", "choices"}),
        fields={
            "values": {
                "description": "Of kind rating: the value of each choice; default: 1, 2, …",
                "type": "array",
                "items": {"type": "number"},
                "minItems": 2,
                "uniqueItems": True,
            },
            "baselines": {
                "description": "Of kind rating: predictions to compare with, such as the mean of other "
                "ratings of the item; name → field or template of the number",
                "type": "object",
                "propertyNames": {"pattern": "^[a-z][a-z0-9_]*$"},
                "additionalProperties": {"type": "string", "minLength": 1},
            },
            "target": TARGET,
        },
        check=_check,
        gold="target",
        columns=("value", "target"),
        example_columns=("target",),
        invertible=False,
    )
)
