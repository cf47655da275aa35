"""The register of classifiers, which score generated texts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Classifier:
    """A classifier of texts.

    Attributes
    ----------
    name
        Of lower-case letters, digits and underscores; the column of its scores is `score_{name}`.
    version
        Version of the package or model.
    digest
        Of what determines the scores, such as the sha256 of the weights; part of a task's identity.
    scores
        Function from texts to as many numbers from 0 to 1; NaN for a text that cannot be scored.
    higher_is_better
        None if neither is.
    """

    name: str
    version: str
    digest: str
    scores: Callable[[Sequence[str]], np.ndarray]
    higher_is_better: bool | None = None


CLASSIFIERS: dict[str, Classifier] = {}


def register(classifier: Classifier) -> Classifier:
    """Add a classifier to `CLASSIFIERS`."""
    CLASSIFIERS[classifier.name] = classifier
    return classifier
