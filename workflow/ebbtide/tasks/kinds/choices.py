"""Choices and right choices of a row, for several kinds."""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ebbtide.errors import ConfigError
from ebbtide.tasks.kinds.kind import Gold
from ebbtide.tasks.render import (
    BadRow,
    Row,
    TextReader,
    encodable,
    excerpt,
    literal_of,
    python_literal,
    value_of,
)

NO_GOLD = "the right choice must be an index, the text of a choice, or one weight per choice"
QUESTION = {
    "description": "For the format choice: the text before the listed options; a field or template",
    "type": "string",
}
_INDEX = re.compile(r"[0-9]+")  # not str.isdigit, which also accepts ² and ②
_LONGEST_INDEX = 18  # digits
LARGEST = sys.float_info.max


def check_choices(fields: Mapping[str, Any], where: str) -> None:
    """Raise `ConfigError` for a list of choices with a repetition, or without the one that is right."""
    choices = fields["choices"]
    if not isinstance(choices, list):
        return
    if len(set(choices)) < len(choices):
        raise ConfigError(f"{where}: fields.choices: a choice occurs twice: {excerpt(choices)}.")
    if isinstance(fields["gold"], int) and not 0 <= fields["gold"] < len(choices):
        raise ConfigError(f"{where}: fields.gold: found {fields['gold']}; allowed: 0 to {len(choices) - 1}.")


def check_two_choices(kind: str) -> Callable[[Mapping[str, Any], str], None]:
    """Return `check_choices` for a kind with exactly two choices."""

    def check(fields: Mapping[str, Any], where: str) -> None:
        choices = fields["choices"]
        if isinstance(choices, list) and len(choices) != 2:
            raise ConfigError(f"{where}: fields.choices: found {len(choices)}; kind {kind!r} has 2.")
        check_choices(fields, where)

    return check


def weights_of(value: Any, choices: Sequence[str]) -> list[Gold]:
    """Return the weights of the choices, from an index, the text of a choice, or one weight per choice.

    A text of the digits 0 to 9 is an index. Other texts are compared without surrounding whitespace. Weights
    of 0 and 1 become booleans. Raises `BadRow`.
    """
    if isinstance(value, str) and not _INDEX.fullmatch(value):
        value = _listed(value, choices)
    if isinstance(value, list | tuple):
        return _weights(list(value), len(choices))
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise BadRow(f"{NO_GOLD}, found {excerpt(value)}")
    if isinstance(value, str) and len(value) > _LONGEST_INDEX:
        raise BadRow(f"the right choice is {excerpt(value)}, allowed: 0 to {len(choices) - 1}")
    gold = int(value)
    texts = [index for index, choice in enumerate(choices) if choice.strip() == str(value).strip()]
    if isinstance(value, str) and texts and gold not in texts and 0 <= gold < len(choices):
        raise BadRow(
            f"the right choice {value!r} is an index, and the text of another choice; "
            "write an index as a number"
        )
    if not 0 <= gold < len(choices):
        raise BadRow(f"the right choice is {excerpt(gold)}, allowed: 0 to {len(choices) - 1}")
    return [index == gold for index in range(len(choices))]


def some_wrong(weights: list[Gold]) -> list[Gold]:
    """Return the weights. Raises `BadRow` unless at least one choice is wrong, with weight 0."""
    if all(weights):
        raise BadRow(f"at least one choice must be wrong (0), found {excerpt(weights)}")
    return weights


def _listed(value: str, choices: Sequence[str]) -> Any:
    """Return the index of the choice with this text, or the list that the text is as a Python literal."""
    same = [index for index, choice in enumerate(choices) if choice.strip() == value.strip()]
    if len(same) == 1:
        return same[0]
    try:
        literal = python_literal(value)
    except ValueError:
        literal = None
    if not isinstance(literal, list | tuple):
        raise BadRow(f"{NO_GOLD}, found {excerpt(value)}")
    return literal


def _weights(values: list[Any], choices: int) -> list[Gold]:
    numbers = all(isinstance(v, int | float) and 0 <= v <= LARGEST for v in values)
    if not numbers or len(values) != choices or not any(values):
        raise BadRow(
            f"the right choices must be {choices} weights of at least 0, one per choice and not all 0, "
            f"found {excerpt(values)}"
        )
    flags = all(v in (0, 1) for v in values)
    return [bool(v) if flags else float(v) for v in values]


def choices_of(spec: str | list[str]) -> Callable[[Row], list[str]]:
    """Return a function that reads the choices of a row: from a field, a template, or a list of texts."""
    if isinstance(spec, list):
        readers: list[TextReader] = [literal_of(text) for text in spec]
        return lambda row: checked_choices([reader(row) for reader in readers])
    value = value_of(spec)
    return lambda row: checked_choices(value(row))


def checked_choices(value: Any) -> list[str]:
    """Return two or more different, non-empty texts, from a list or its Python literal. Raises `BadRow`."""
    if isinstance(value, str):  # CSV files contain the list as a Python literal
        try:
            value = python_literal(value)
        except ValueError:
            raise BadRow(f"choices are not a list: {excerpt(value)}") from None
    value = list(value) if isinstance(value, tuple) else value
    if not isinstance(value, list) or len(value) < 2 or not all(isinstance(c, str) and c for c in value):
        raise BadRow(f"choices must be two or more non-empty texts, found {excerpt(value)}")
    if len(set(value)) < len(value):
        raise BadRow(f"a choice occurs twice: {excerpt(value)}")
    return [encodable(choice, f"choice {index}") for index, choice in enumerate(value)]


def gold_value(spec: Any, row: Row) -> Any:
    """Return the right choice of a row, or that of the definition for all rows."""
    return value_of(spec)(row) if isinstance(spec, str) else spec


def two(choices: list[str]) -> list[str]:
    """Return the choices. Raises `BadRow` unless there are two."""
    if len(choices) != 2:
        raise BadRow(f"there must be 2 choices, found {excerpt(choices)}")
    return choices


def best_index(weights: Sequence[Gold]) -> int:
    """Return the index of the right choice, the first one with the largest weight."""
    return max(range(len(weights)), key=lambda index: weights[index])
