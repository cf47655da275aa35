"""Classifiers of generated texts, one module each. Importing this package registers them.

classifier    score of a text
marked_words  share of its words that are in a list
profanity     probability that it is offensive, by alt-profanity-check
"""

from ebbtide.tasks.generation.classifiers import (  # noqa: F401
    marked_words,
    profanity,
)
from ebbtide.tasks.generation.classifiers.classifier import (
    CLASSIFIERS,
    Classifier,
    Entry,
    classifier_of,
    classifiers_of,
    fixed,
    name_of,
    register,
)

__all__ = [
    "CLASSIFIERS",
    "Classifier",
    "Entry",
    "classifier_of",
    "classifiers_of",
    "fixed",
    "name_of",
    "register",
]
