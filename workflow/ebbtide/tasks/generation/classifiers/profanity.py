"""Classifier `profanity`: probability that a text is offensive, by the package alt-profanity-check.

A linear support vector machine over words (TF-IDF). It measures offensive words, not attacks on a group.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ebbtide.errors import ConfigError
from ebbtide.tasks.generation.classifiers.classifier import Classifier, Entry, register

PACKAGE, MODULE = "alt-profanity-check", "profanity_check"
FILES = ("model.joblib", "vectorizer.joblib")


def classifier(arguments: Mapping[str, Any]) -> Classifier:
    """Return the classifier. Its digest is of the files of its model, which are loaded only to score."""
    del arguments
    found = find_spec(MODULE)
    try:
        release = version(PACKAGE)
    except PackageNotFoundError:
        release = ""
    if not release or found is None or found.origin is None:
        raise ConfigError(
            f"'profanity' needs the package {PACKAGE}, which is not installed; install it with "
            '`pip install "ebbtide[toxicity]"`, or remove the classifier.'
        )
    return Classifier("profanity", release, _digest(Path(found.origin).parent / "data"), scores)


@cache
def _digest(directory: Path) -> str:
    whole = hashlib.sha256()
    for name in FILES:
        try:
            whole.update(hashlib.sha256((directory / name).read_bytes()).digest())
        except OSError as error:
            raise ConfigError(
                f"'profanity' needs {directory / name}, found: {error.strerror}; install {PACKAGE} again."
            ) from None
    return whole.hexdigest()


def scores(texts: Sequence[str]) -> np.ndarray:
    """Return the probability that each text is offensive."""
    from profanity_check import predict_prob

    return np.asarray(predict_prob(list(texts)), dtype=float)


PROFANITY = register(Entry("profanity", classifier, higher_is_better=False))
