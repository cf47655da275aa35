"""Patterns of names: `{layer}` stands for a number, `{name}` and `*` for any text. A lean module."""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache

_VARIABLE = re.compile(r"\{([a-z]+)\}|(\*)")
_ANY = "name"  # the variable that stands for any text; others stand for numbers


def variables(pattern: str) -> list[str]:
    """Return the variables of a pattern, in order."""
    return [match[1] for match in _VARIABLE.finditer(pattern) if match[1]]


def bound(pattern: str, values: Mapping[str, str], *, missing_ok: bool = False) -> str:
    """A pattern with values for its variables; with `missing_ok`, unknown ones stay."""
    return _VARIABLE.sub(
        lambda match: values.get(match[1], match[0]) if missing_ok else values[match[1]], pattern
    )


def matching(pattern: str, names: Iterable[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the names that match a pattern, with the values of its variables."""
    expression = expression_of(pattern)
    for name in names:
        if match := expression.fullmatch(name):
            yield name, match.groupdict()


def matches_any(name: str, patterns: Iterable[str]) -> bool:
    """Whether a name matches one of the patterns."""
    return any(expression_of(pattern).fullmatch(name) for pattern in patterns)


@cache
def expression_of(pattern: str) -> re.Pattern[str]:
    """The regular expression of a pattern. A variable that occurs twice has one value."""
    pieces, end, seen = [], 0, set()
    for match in _VARIABLE.finditer(pattern):
        pieces.append(re.escape(pattern[end : match.start()]))
        end, variable = match.end(), match[1]
        if variable is None:
            pieces.append(".*")
        elif variable in seen:
            pieces.append(f"(?P={variable})")
        else:
            seen.add(variable)
            pieces.append(f"(?P<{variable}>{'.+' if variable == _ANY else '[0-9]+'})")
    return re.compile("".join([*pieces, re.escape(pattern[end:])]))
