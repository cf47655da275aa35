"""Filters of generated texts, with the names, arguments and results of lm-evaluation-harness 0.4.

A filter turns the answers to one example into others. An answer is the number of a sample and its text, so
that filters may leave samples out: `take_first` keeps one, and `majority_vote` makes one of all.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any, NamedTuple

from ebbtide.errors import ConfigError, nearest


class Answer(NamedTuple):
    """The text of a sample after filters; None: `map` has no value for it."""

    sample: int
    text: str | None


Answers = list[Answer]
Filter = Callable[[Answers], Answers]

_MISSING = "[invalid]"


def regex(
    regex_pattern: str = r"#### (\-?[0-9\.\,]+)", group_select: int = 0, fallback: str = _MISSING
) -> Filter:
    """The match number `group_select` of a pattern, without white space around it; else `fallback`.

    Of a pattern with several groups, the first group that is not empty. Where a text has fewer matches,
    lm-eval stops with an error; here it gets the `fallback`.
    """
    pattern = re.compile(regex_pattern)

    def found(text: str | None) -> str:
        matches = pattern.findall(text or "")
        if not -len(matches) <= group_select < len(matches):
            return fallback
        match = matches[group_select]
        if isinstance(match, tuple):
            match = next((group for group in match if group), fallback)
        return str(match).strip()

    return _each(found)


def remove_whitespace() -> Filter:
    """The text without white space around it."""
    return _each(lambda text: None if text is None else text.strip())


def lowercase() -> Filter:
    """The text in lower case."""
    return _each(lambda text: None if text is None else text.lower())


def uppercase() -> Filter:
    """The text in upper case."""
    return _each(lambda text: None if text is None else text.upper())


def map_(mapping_dict: Mapping[str, str] | None = None, default_value: str | None = None) -> Filter:
    """The value of the text in `mapping_dict`; else `default_value`."""
    known = mapping_dict or {}
    return _each(lambda text: default_value if text is None else known.get(text, default_value))


def take_first() -> Filter:
    """The first answer alone."""
    return lambda answers: answers[:1]


def take_first_k(k: int) -> Filter:
    """The first `k` answers."""
    return lambda answers: answers[:k]


def majority_vote() -> Filter:
    """The most frequent answer alone, of equally frequent ones the first."""

    def vote(answers: Answers) -> Answers:
        texts = Counter(answer.text for answer in answers)
        return [Answer(answers[0].sample, texts.most_common(1)[0][0])] if answers else []

    return vote


def _each(change: Callable[[str | None], str | None]) -> Filter:
    return lambda answers: [Answer(answer.sample, change(answer.text)) for answer in answers]


FILTERS: dict[str, Callable[..., Filter]] = {
    "regex": regex,
    "remove_whitespace": remove_whitespace,
    "lowercase": lowercase,
    "uppercase": uppercase,
    "map": map_,
    "take_first": take_first,
    "take_first_k": take_first_k,
    "majority_vote": majority_vote,
}


def check_filters(filters: Sequence[Mapping[str, Any]], samples: int, where: str) -> None:
    """Raise `ConfigError` for a filter or an argument that does not exist, or has a wrong value.

    The schema of definitions checks the types of arguments.
    """
    for number, spec in enumerate(filters):
        place, name = f"{where}[{number}]", spec["function"]
        if name not in FILTERS:
            raise ConfigError(
                f"{place}.function: found {name!r}; allowed: {', '.join(FILTERS)}"
                f"{nearest(name, list(FILTERS)) or '.'}"
            )
        allowed = list(signature(FILTERS[name]).parameters)
        for key in spec:
            if key not in ("function", *allowed):
                own = ", ".join(allowed) or "none"
                raise ConfigError(f"{place}.{key}: {name} has no such argument; allowed: {own}.")
        if name == "take_first_k" and not 1 <= spec.get("k", 0) <= samples:
            raise ConfigError(f"{place}.k: found {spec.get('k', 'none')}; allowed: 1 to {samples} samples.")
        if name == "regex":
            check_pattern(spec.get("regex_pattern", ""), f"{place}.regex_pattern")


def check_pattern(pattern: str, where: str) -> None:
    """Raise `ConfigError` for a text that is not a regular expression of Python."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"{where}: {pattern!r:.80} is not a regular expression of Python: {error}."
        ) from None


def filtered(texts: Sequence[str], filters: Sequence[Mapping[str, Any]]) -> Answers:
    """Return the answers that filters make of the samples of one example, applied in order."""
    answers = [Answer(sample, text) for sample, text in enumerate(texts)]
    for spec in filters:
        arguments = {key: value for key, value in spec.items() if key != "function"}
        answers = FILTERS[spec["function"]](**arguments)(answers)
    return answers
