"""Right choices of samples of lm-evaluation-harness: the reading that agrees with the logged accuracies."""

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ebbtide.errors import CellError
from ebbtide.exchange.sample_lines import Line

_TOLERANCE = 1e-6
_LONGEST_INDEX = 9  # digits


def right_choices(lines: Sequence[Line], gold: str) -> list[set[int]]:
    """Right choices of every example, by the only reading of `gold` that agrees with all logged accuracies.

    A target `1` may be an index or the text of a choice; the logged accuracies decide.
    """
    values = [_value(line, gold) for line in lines]
    fits: list[list[set[int]]] = []
    contradiction: CellError | None = None
    for reading in (_as_indices, _as_labels, _as_texts):
        read = [reading(line, value) for line, value in zip(lines, values, strict=True)]
        right = [found for found in read if found]
        if len(right) < len(lines):
            continue
        try:
            for line, found in zip(lines, right, strict=True):
                _check(line, found, gold)
        except CellError as error:
            contradiction = contradiction or error
            continue
        if right not in fits:
            fits.append(right)
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise CellError(
            f"{lines[0].where}: {gold} may be an index or the text of a choice, and no logged accuracy "
            "decides. Set gold to a field of doc that contains an index."
        )
    raise contradiction or _unreadable(lines, values, gold)


def _unreadable(lines: Sequence[Line], values: Sequence[Any], gold: str) -> CellError:
    """The error for the first example that no reading fits, else for the first of all."""
    readings = (_as_indices, _as_labels, _as_texts)
    pairs = list(zip(lines, values, strict=True))
    line, value = next((p for p in pairs if not any(reading(*p) for reading in readings)), pairs[0])
    return CellError(
        f"{line.where}: {gold}: found {value!r}, allowed: an index from 0 to {line.choices - 1}, labels 0 "
        "and 1 per choice, or the text of a choice, and a wrong choice. Set gold to another field of doc."
    )


def _value(line: Line, gold: str) -> Any:
    if gold == "target":
        value = line.row.get("target")
        # lm-eval writes lists as Python text.
        if isinstance(value, str) and re.fullmatch(r"\[.*\]", value, flags=re.DOTALL):
            try:
                return ast.literal_eval(value)
            except (SyntaxError, ValueError, MemoryError, RecursionError):
                return value
        return value
    value = line.row
    for key in gold.split("."):
        if not isinstance(value, Mapping) or key not in value:
            raise CellError(f"{line.where}: found no {gold}, to which gold is set.")
        value = value[key]
    return value


def _as_indices(line: Line, value: Any) -> set[int] | None:
    values = [str(v) for v in (value if isinstance(value, list) else [value])]
    indices = {int(v) for v in values if v.isdecimal() and len(v) <= _LONGEST_INDEX}
    whole = len(indices) == len(values)  # no duplicates, nothing else
    return _some(line, indices) if whole and max(indices, default=line.choices) < line.choices else None


def _as_labels(line: Line, value: Any) -> set[int] | None:
    if not isinstance(value, list) or len(value) != line.choices or not all(v in (0, 1) for v in value):
        return None
    return _some(line, {k for k, label in enumerate(value) if label})


def _as_texts(line: Line, value: Any) -> set[int] | None:
    values = {str(v).strip() for v in (value if isinstance(value, list) else [value])}
    texts = [continuation.strip() for _, continuation in line.requests[: line.choices]]
    right = {k for k, text in enumerate(texts) if text in values}
    return _some(line, right) if len(right) == len(values) else None


def _some(line: Line, right: set[int]) -> set[int] | None:
    """The right choices, if there are both right and wrong ones."""
    return right if 0 < len(right) < line.choices else None


def _check(line: Line, right: set[int], gold: str) -> None:
    """Raise `CellError` unless these right choices give the logged accuracy: top-1, or MC2."""
    logged = line.row.get("acc")
    if isinstance(logged, bool) or not isinstance(logged, int | float):
        return
    scores = np.array([score for score, _ in line.answers[: line.choices]])
    odds = np.exp(scores - scores.max())
    found = (float(int(np.argmax(scores)) in right), float(odds[sorted(right)].sum() / odds.sum()))
    if min(abs(logged - value) for value in found) > _TOLERANCE:
        raise CellError(
            f"{line.where}: found acc {logged:.6g}, but {gold} gives {found[0]:.6g} (or {found[1]:.6g} as a "
            "probability). Set gold to the field of doc that contains the right choices."
        )
