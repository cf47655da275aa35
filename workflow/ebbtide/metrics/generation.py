"""Metrics of generated texts: S samples of each prompt.

The value of an example is computed from its samples, and a metric is the mean over examples. Samples of one
prompt are not independent, so standard errors are those of examples, or of the clusters that the task names.
"""

from collections.abc import Callable, Mapping
from math import comb
from typing import Any

import numpy as np

from ebbtide.cells.samples import ENDED, SCORE
from ebbtide.errors import TaskError
from ebbtide.metrics.examples import ANSWERS, Examples
from ebbtide.metrics.registry import METRICS, Values, metric
from ebbtide.tasks.generation.classifiers import CLASSIFIERS, name_of
from ebbtide.tasks.kinds import kind_of

PASS_AT = (1, 2, 5, 10, 25, 50, 100)


def check_measured(definition: Mapping[str, Any], where: str) -> None:
    """Raise `TaskError` for a metric of samples that the definition does not measure; `where` is its file.

    The metrics must be those of the definition's kind.
    """
    if kind_of(definition).needs != "samples":
        return
    samples = definition["decoding"]["samples"]
    classifiers = [name_of(spec) for spec in definition.get("texts", {}).get("classifiers", ())]
    for name in definition.get("metrics", ()):
        for column in METRICS[name].needs:
            if column == "exact" and "target" not in definition["fields"]:
                raise TaskError(
                    f"{where}: metrics: {name} compares samples with fields.target, which is missing."
                )
            of = column.removeprefix(ANSWERS).removeprefix(SCORE)
            if column.startswith(ANSWERS) and int(of) > samples:
                raise TaskError(
                    f"{where}: metrics: {name} needs {of} samples, but decoding.samples is {samples}."
                )
            if column.startswith(SCORE) and of not in classifiers:
                raise TaskError(f"{where}: metrics: {name} needs {of} among texts.classifiers.")


def _zero(x: Examples) -> np.ndarray:
    return np.zeros(len(x))


def _known(column: str) -> Values:
    """Whether an example has a sample with a value."""

    def known(x: Examples) -> np.ndarray:
        has: np.ndarray = x.segments.sum(np.isfinite(x.column(column))) > 0
        return has

    return known


def _mean(x: Examples, column: str) -> np.ndarray:
    """Mean of the values of the samples; NaN without any."""
    values = x.column(column)
    known = np.isfinite(values)
    n = x.segments.sum(known)
    sums = x.segments.sum(np.where(known, values, 0.0))
    mean: np.ndarray = np.divide(sums, n, out=np.full(len(x), np.nan), where=n > 0)
    return mean


@metric(
    "generation",
    unit="probability",  # of an example, it is a mean over samples, not right or wrong
    higher_is_better=True,
    harness="exact_match",
    main=True,
    needs=("exact",),
    chance=_zero,
)
def exact_match(x: Examples) -> np.ndarray:
    """Share of the samples that, after the task's filters, equal a target.

    Share, 0 to 1. Source: the harness (exact_match). Samples that filters leave out do not count.
    """
    return _mean(x, "exact")


def _pass_at(k: int) -> None:
    def values(x: Examples) -> np.ndarray:
        exact = x.column("exact")
        n, right = x.segments.sum(np.isfinite(exact)).astype(int), x.segments.sum(exact == 1).astype(int)
        chances = {pair: comb(pair[0] - pair[1], k) / comb(pair[0], k) for pair in set(zip(n, right))}  # noqa: B905
        return np.array([1 - chances[pair] for pair in zip(n, right, strict=True)])

    values.__name__ = f"pass_at_{k}"
    values.__doc__ = f"""1 - C(n - c, {k}) / C(n, {k}), with c of the n samples right: one of {k} is right.

    Probability, 0 to 1; of tasks with at least {k} samples. Unbiased. Source: Chen et al. 2021 (pass@k).
    """
    needs = ("exact", f"{ANSWERS}{k}")
    metric("generation", unit="probability", higher_is_better=True, needs=needs, chance=_zero)(values)


for _k in PASS_AT:
    _pass_at(_k)


def _scores(name: str, *, higher_is_better: bool | None) -> None:
    """Register the metrics of a classifier."""
    column = f"{SCORE}{name}"

    def add(suffix: str, unit: str, doc: str, values: Values, *, main: bool = False) -> None:
        values.__name__, values.__doc__ = f"{column}{suffix}", doc
        of = {"unit": unit, "higher_is_better": higher_is_better, "main": main, "weights": _known(column)}
        metric("generation", needs=(column,), **of)(values)  # type: ignore[arg-type]

    def above(x: Examples) -> np.ndarray:
        return _share(x, column, lambda scores: scores > 0.5)

    def highest(x: Examples) -> np.ndarray:
        values = x.column(column)
        top = x.segments.max(np.where(np.isfinite(values), values, -np.inf))
        return np.where(np.isfinite(top), top, np.nan)

    def mean(x: Examples) -> np.ndarray:
        return _mean(x, column)

    add("", "score", f"Mean score of {name} of the samples.\n\n    0 to 1.", mean, main=True)
    add(
        "_above_half",
        "probability",
        f"Share of the samples that {name} scores above 0.5.\n\n    0 to 1.",
        above,
    )
    add(
        "_highest",
        "score",
        f"Highest score of {name} among the samples of a prompt, which rises with their number.\n\n"
        "    0 to 1. Source: Gehman et al. 2020 (expected maximum toxicity).",
        highest,
    )


def _share(x: Examples, column: str, holds: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    values = x.column(column)
    known = np.isfinite(values)
    n = x.segments.sum(known)
    count = x.segments.sum(known & holds(values))
    share: np.ndarray = np.divide(count, n, out=np.full(len(x), np.nan), where=n > 0)
    return share


for _classifier in CLASSIFIERS.values():
    _scores(_classifier.name, higher_is_better=_classifier.higher_is_better)


def _tokens(x: Examples) -> np.ndarray:
    return x.segments.sum(x.column("tokens"))


@metric(
    "generation",
    unit="nats per token",
    higher_is_better=None,
    main=True,
    needs=("tokens",),
    weights=_tokens,
)
def sample_loss(x: Examples) -> np.ndarray:
    """-Σ lp / Σ tokens of the samples, under the model at temperature 1 without truncation.

    Nats per token, 0 and above; depends on the tokenizer. Of greedy or truncated samples, it is below the
    entropy of the model.
    """
    tokens = _tokens(x)
    loss: np.ndarray = np.divide(-x.segments.sum(x.lp), tokens, out=np.zeros(len(x)), where=tokens > 0)
    return loss


@metric("generation", unit="tokens", higher_is_better=None, needs=("tokens",))
def sample_tokens(x: Examples) -> np.ndarray:
    """Tokens of a sample, with the end token.

    1 and above, at most max_tokens. Depends on the tokenizer.
    """
    return _mean(x, "tokens")


@metric("generation", unit="words", higher_is_better=None)
def sample_words(x: Examples) -> np.ndarray:
    """Words of a sample, between white space.

    0 and above.
    """
    return _mean(x, "words")


@metric("generation", unit="share of words", higher_is_better=None, weights=_known("distinct_1"))
def distinct_1(x: Examples) -> np.ndarray:
    """Different words / words of a sample.

    Share, 0 to 1; falls with length. Source: Li et al. 2016, there over all texts, here per sample.
    """
    return _mean(x, "distinct_1")


@metric("generation", unit="share of pairs", higher_is_better=None, weights=_known("distinct_2"))
def distinct_2(x: Examples) -> np.ndarray:
    """Different pairs of words / pairs of words of a sample.

    Share, 0 to 1; falls with length. Source: Li et al. 2016, there over all texts, here per sample.
    """
    return _mean(x, "distinct_2")


@metric("generation", unit="share of 4-grams", higher_is_better=None, weights=_known("repetition"))
def repetition(x: Examples) -> np.ndarray:
    """Share of the 4-grams of words of a sample that occurred in it before.

    Share, 0 to 1. Source: Welleck et al. 2020 (seq-rep-4), there of tokens.
    """
    return _mean(x, "repetition")


def _ended(how: str, words: str) -> None:
    def values(x: Examples) -> np.ndarray:
        share: np.ndarray = x.segments.sum(x.rows["ended"] == how) / x.segments.sizes
        return share

    values.__name__ = f"ended_by_{how}"
    values.__doc__ = f"""Share of the samples that ended with {words}.

    Share, 0 to 1.
    """
    metric("generation", unit="probability", higher_is_better=None)(values)


for _how, _words in zip(ENDED, ("a stop string", "an end token", "max_tokens"), strict=True):
    _ended(_how, _words)
