"""Classifiers of generated texts, one module each. Importing this package registers them.

classifier    score of a text
detoxify      probability that it is toxic, by a checkpoint of Detoxify
marked_words  share of its words that are in a list
profanity     probability that it is offensive, by alt-profanity-check
"""

from ebbtide.tasks.generation.classifiers import (  # noqa: F401
    detoxify,
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
