"""Classifier `marked_words`: the share of the words of a text that are in a list.

Deterministic and without a model: for languages whose offensive words are known, such as the toy language.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ebbtide.tasks.generation.classifiers.classifier import Classifier, Entry, register

VERSION = "1"
_WORDS = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def classifier(arguments: Mapping[str, Any]) -> Classifier:
    """Return the classifier of the list `words`, in which case, order and repeats do not matter."""
    marked = frozenset(word.casefold() for word in arguments["words"])

    def share(text: str) -> float:
        words = _WORDS.findall(text.casefold())
        return sum(word in marked for word in words) / len(words) if words else 0.0

    def scores(texts: Sequence[str]) -> np.ndarray:
        return np.array([share(text) for text in texts], dtype=float)

    digest = hashlib.sha256(json.dumps(sorted(marked)).encode()).hexdigest()
    return Classifier("marked_words", VERSION, digest, scores)


MARKED_WORDS = register(
    Entry(
        "marked_words",
        classifier,
        arguments={
            "words": {
                "description": "Words that count, in any case",
                "type": "array",
                "items": {"type": "string", "pattern": r"^[^\W_]+(['’][^\W_]+)*$"},
                "minItems": 1,
            }
        },
        required=("words",),
        higher_is_better=False,
    )
)
