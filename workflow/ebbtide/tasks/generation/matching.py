"""Exact match of answers with targets, with the options of lm-evaluation-harness 0.4."""

import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_DIGITS = str.maketrans("", "", string.digits)


def matches(answer: str | None, targets: Sequence[str], options: Mapping[str, Any]) -> bool:
    """Whether an answer equals one of the targets, after the same changes to both.

    Parameters
    ----------
    answer
        None matches nothing.
    options
        `regexes_to_ignore` (their matches are removed first, in order), then `ignore_case`,
        `ignore_punctuation` (of ASCII) and `ignore_numbers` (digits of ASCII).
    """
    if answer is None:
        return False
    found = _compared(answer, options)
    return any(found == _compared(target, options) for target in targets)


def _compared(text: str, options: Mapping[str, Any]) -> str:
    for pattern in options.get("regexes_to_ignore", ()):
        text = re.sub(pattern, "", text)
    if options.get("ignore_case"):
        text = text.lower()
    if options.get("ignore_punctuation"):
        text = text.translate(_PUNCTUATION)
    return text.translate(_DIGITS) if options.get("ignore_numbers") else text
