"""Measures of generated texts: sizes, repetition, exact match with targets, scores of classifiers."""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from ebbtide.errors import ScoringError
from ebbtide.tasks.generation.classifiers import Classifier, classifiers_of
from ebbtide.tasks.generation.filters import filtered
from ebbtide.tasks.generation.matching import matches
from ebbtide.tasks.generation.pipelines import Filters, exact_columns, pipelines_of

REPEATED = 4  # words of the n-grams whose repetition is measured


def text_sha256(text: str) -> str:
    """Return the sha256 of a text in UTF-8, as hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def text_columns(
    texts: Sequence[Sequence[str]], targets: Sequence[Sequence[str]] | None, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the measures of texts, one value per sample, sample after sample of one example after another.

    Parameters
    ----------
    texts
        The samples of each example.
    targets
        The accepted texts of each example; None: there are none, and no column `exact`.
    settings
        The key `texts` of the definition: `filters`, `pipelines`, `exact_match`, `classifiers`.

    Returns
    -------
    text_sha256
        Of the text in UTF-8.
    characters, bytes, words
        Words are between white space.
    distinct_1, distinct_2
        Different words (pairs of words) / all words (pairs); NaN without any. Li et al. 2016, per text.
    repetition
        Share of the n-grams of `REPEATED` words that occurred before in the text; NaN without any.
    exact
        1 if the answer after filters equals a target, 0 if not, NaN for a sample that the filters left out.
        Of several pipelines, a column each: `exact[filter=NAME]`.
    score_{classifier}
        From 0 to 1; NaN for a text that the classifier could not score.
    """
    flat = list(chain.from_iterable(texts))
    words = [text.split() for text in flat]
    columns: dict[str, Any] = {
        "text_sha256": [text_sha256(text) for text in flat],
        "characters": np.array([len(text) for text in flat], dtype=np.int64),
        "bytes": np.array([len(text.encode()) for text in flat], dtype=np.int64),
        "words": np.array([len(of) for of in words], dtype=np.int64),
        "distinct_1": np.array([_distinct(of, 1) for of in words]),
        "distinct_2": np.array([_distinct(of, 2) for of in words]),
        "repetition": np.array([1 - _distinct(of, REPEATED) for of in words]),
    }
    if targets is not None:
        options = settings.get("exact_match", {})
        pipelines = pipelines_of(settings)
        for name, column in exact_columns(pipelines).items():
            answers = zip(texts, targets, strict=True)
            exact = [_exact(of, accepted, pipelines[name], options) for of, accepted in answers]
            columns[column] = np.concatenate(exact)
    for classifier in classifiers_of(settings):
        columns[f"score_{classifier.name}"] = _scores(classifier, flat)
    return columns


def _distinct(words: Sequence[str], n: int) -> float:
    """Share of different n-grams."""
    grams = list(zip(*(words[i:] for i in range(n)), strict=False))
    return len(set(grams)) / len(grams) if grams else np.nan


def _exact(
    texts: Sequence[str], targets: Sequence[str], filters: Filters, options: Mapping[str, Any]
) -> np.ndarray:
    exact = np.full(len(texts), np.nan)
    for answer in filtered(texts, filters):
        exact[answer.sample] = matches(answer.text, targets, options)
    return exact


def _scores(classifier: Classifier, texts: Sequence[str]) -> np.ndarray:
    """Scores of a classifier, which sees equal texts once. Raises `ScoringError` for other numbers."""
    distinct, name = list(dict.fromkeys(texts)), classifier.name
    found = np.asarray(_each_or_all(classifier, distinct), dtype=float)
    if found.shape != (len(distinct),):
        raise ScoringError(f"classifier {name}: found {found.shape} scores for {len(distinct)} texts.")
    if len(wrong := np.flatnonzero((found < 0) | (found > 1))):
        raise ScoringError(f"classifier {name}: found the score {found[wrong[0]]}, allowed: 0 to 1.")
    place = {text: i for i, text in enumerate(distinct)}
    return found[[place[text] for text in texts]]


def _each_or_all(classifier: Classifier, texts: Sequence[str]) -> Any:
    """Scores of all texts at once. If that fails, of one text after another, NaN for those that fail.

    Raises `ScoringError` if all fail: then the texts are not to blame.
    """
    try:
        return classifier.scores(texts)
    except Exception as error:  # of a package, which may raise anything
        first = error
    found = np.full(len(texts), np.nan)
    failed = 0
    for place, text in enumerate(texts):
        try:
            found[place] = np.asarray(classifier.scores([text]), dtype=float).item()
        except Exception:
            failed += 1
    if failed == len(texts):
        raise ScoringError(
            f"classifier {classifier.name} fails on every text: {type(first).__name__}: {first!s:.200}"
        )
    return found
