"""Long documents: every token is scored once, by the windows of lm-evaluation-harness; and the sums."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebbtide.errors import ScoringError
from ebbtide.scoring.encoded import Requests
from ebbtide.scoring.rolling import (
    bits_per_byte,
    count_bytes,
    count_words,
    loss,
    perplexity,
    rolling_windows,
)

START = 99


def windows_of(tokens: list[int], window: int, context: int = 1) -> Requests:
    found, counts = rolling_windows([[7], tokens, []], START, window, context)
    assert counts.tolist() == [1, len(found) - 1, 0]
    return found[1:]


@st.composite
def documents(draw: Any) -> tuple[list[int], int, int]:
    """A document of distinct tokens, a window and a context."""
    window = draw(st.integers(1, 12))
    return list(range(100, 100 + draw(st.integers(0, 40)))), window, draw(st.integers(1, window))


@given(documents())
def test_every_token_is_scored_once_from_what_stands_before_it(case: tuple[list[int], int, int]) -> None:
    tokens, window, context = case
    found = windows_of(tokens, window, context)
    assert [token for piece in found for token in piece.continuation] == tokens
    whole = [START, *tokens]
    for number, piece in enumerate(found):
        assert len(piece.fed) <= window
        assert not piece.truncated
        place = whole.index(piece.tokens[0])
        assert list(piece.tokens) == whole[place : place + len(piece.tokens)]
        assert piece.context == 1 if number == 0 else piece.context >= context
        if number:  # as much as fits
            assert len(piece.fed) == window


@given(documents())
def test_no_fewer_windows_would_do(case: tuple[list[int], int, int]) -> None:
    tokens, window, context = case
    rest = max(0, len(tokens) - window)
    expected = bool(tokens) + math.ceil(rest / (window - context + 1))
    assert len(windows_of(tokens, window, context)) == expected


def test_windows_of_a_small_document() -> None:
    found = windows_of([0, 1, 2, 3, 4, 5, 6, 7], 4, 2)
    assert [(piece.tokens, piece.context) for piece in found] == [
        ((START, 0, 1, 2, 3), 1),
        ((2, 3, 4, 5, 6), 2),
        ((3, 4, 5, 6, 7), 4),
    ]
    disjoint = windows_of([0, 1, 2, 3, 4, 5], 3)
    assert [(piece.tokens, piece.context) for piece in disjoint] == [((START, 0, 1, 2), 1), ((2, 3, 4, 5), 1)]


@settings(deadline=None)
@given(documents())
def test_the_windows_are_the_harness_s(case: tuple[list[int], int, int]) -> None:
    utils = pytest.importorskip("lm_eval.utils", reason="lm_eval is not installed")
    tokens, window, context = case
    expected = [
        utils.make_disjoint_window(pair)
        for pair in utils.get_rolling_token_windows(tokens, START, window, context)
    ]
    found = windows_of(tokens, window, context)
    assert [([*piece.tokens[: piece.context]], [*piece.continuation]) for piece in found] == expected


@pytest.mark.parametrize("context", [0, -1, 5])
def test_a_context_that_fits_no_window_is_an_error(context: int) -> None:
    with pytest.raises(ScoringError, match=f"context: found {context}, allowed: 1 to the window of 4 tokens"):
        rolling_windows([[1, 2, 3]], START, 4, context)


def test_sums_are_divided_by_sums() -> None:
    loglikelihoods = [-10.0, -2.0]
    assert loss(loglikelihoods, [3, 1]) == 3.0
    assert perplexity(loglikelihoods, [3, 1]) == math.exp(3.0)
    assert bits_per_byte(loglikelihoods, [10, 14]) == pytest.approx(0.5 / math.log(2), rel=1e-15)
    # A model that gives every byte one chance in 256 needs eight bits for it.
    assert bits_per_byte([-5 * math.log(256)], [5]) == pytest.approx(8, rel=1e-15)


@given(
    st.lists(
        st.tuples(st.floats(-1e4, 0), st.integers(1, 500)),
        min_size=1,
        max_size=20,
    )
)
def test_the_sums_are_the_harness_s(corpus: list[tuple[float, int]]) -> None:
    metrics = pytest.importorskip("lm_eval.api.metrics", reason="lm_eval is not installed")
    loglikelihoods, counts = zip(*corpus, strict=True)
    assert bits_per_byte(loglikelihoods, counts) == pytest.approx(metrics.bits_per_byte(corpus), rel=1e-12)
    if loss(loglikelihoods, counts) < 700:
        assert perplexity(loglikelihoods, counts) == pytest.approx(
            metrics.weighted_perplexity(corpus), rel=1e-9
        )


def test_a_perplexity_beyond_all_floats_is_infinite() -> None:
    assert perplexity([-1e6], [1]) == math.inf


def test_a_corpus_of_nothing_is_an_error() -> None:
    with pytest.raises(ScoringError, match="without tokens, bytes or words"):
        loss([0.0], [0])
    with pytest.raises(ScoringError, match="without tokens"):
        perplexity([], [])
    with pytest.raises(ScoringError, match="2 log-likelihoods for 1 documents"):
        bits_per_byte([-1.0, -2.0], [3])


def test_bytes_and_words_of_a_text() -> None:
    assert count_bytes("Übung 🤯") == 11
    assert [count_words(text) for text in ("", "one", "one  two\nthree", " one ")] == [1, 1, 3, 3]
