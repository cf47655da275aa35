"""Ratings of the toy language: their distributions, what the corpus leaves out, and exact errors."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from ebbtide.corpus import World
from ebbtide.corpus.documents import documents
from ebbtide.corpus.draw import Draw
from ebbtide.corpus.ratings import RATINGS, WORDS, ratings_of
from ebbtide.tasks.dataset_rows import rows_sha256
from ebbtide.tasks.prepare import PREPARATIONS, rows_of
from ebbtide.tasks.rows import Rows

WORLD = World(0, 64, 0.7)


def prepared(count: int) -> Rows:
    world = {"seed": 0, "proverbs": 64, "zipf": 0.7}
    arguments = {"function": "toy_ratings", "world": world, "count": count, "seed": 0}
    return rows_of(None, {"prepare": arguments}, "t.yaml: source")  # type: ignore[arg-type]


def test_sentences_have_the_stated_distribution_and_no_pair_that_is_held_out() -> None:
    ratings = ratings_of(WORLD)
    texts = list(islice(documents(WORLD, {"rating": 1.0}, Draw("test", 0)), 40_000))
    assert all(text[1:4] == ["says", ":", "the"] and text[5] == "is" and text[7] == "." for text in texts)
    pairs = Counter((text[0], text[4]) for text in texts)
    assert set(pairs) == set(ratings.trained)
    assert not set(pairs) & set(ratings.held_out)
    given = np.array([1 + WORDS.index(text[6]) for text in texts])
    expected = np.array([ratings.mean((text[0], text[4])) for text in texts])
    assert given.mean() == pytest.approx(ratings.global_mean(), abs=0.03)
    slope = np.polyfit(expected, given, 1)[0]
    assert slope == pytest.approx(1, abs=0.03)
    shares = {word: sum(text[6] == word for text in texts) / len(texts) for word in WORDS}
    chances = np.mean([ratings.chances[pair] for pair in ratings.trained], axis=0)
    assert list(shares.values()) == pytest.approx(chances.tolist(), abs=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_the_best_prediction_beats_item_means_and_they_the_global_mean(seed: int) -> None:
    errors = ratings_of(World(seed, 64, 0.7)).errors()
    assert errors["bayes"] < errors["item_mean"] - 0.2 < errors["global_mean"] - 0.2
    ratings = ratings_of(World(seed, 64, 0.7))
    assert len(ratings.held_out) == len(ratings.chances) // 8
    assert all(sum(of) == pytest.approx(1) and min(of) >= 0 for of in ratings.chances.values())


def test_rows_are_of_held_out_pairs_and_have_the_exact_errors() -> None:
    rows, ratings = prepared(6000), ratings_of(WORLD)
    assert {(row["user"], row["item"]) for row in rows} <= set(ratings.held_out)
    assert {row["rating"] for row in rows} == set(RATINGS)
    for name, exact in ratings.errors().items():
        found = np.sqrt(np.mean([(row["rating"] - row[name]) ** 2 for row in rows]))
        assert found == pytest.approx(exact, abs=0.03)


def test_rows_of_version_1_are_what_they_were() -> None:
    """If this fails, increment the version of the preparation, and write the new digest here."""
    rows = [{name: row[name] for name in ("prompt", "rating")} for row in prepared(500)]
    assert (PREPARATIONS["toy_ratings"].version, rows_sha256(rows)) == (
        1,
        "4050e9f33fd7613493b9d9064b17cfc042701024b131b9c3b987b23e2bb5d674",
    )
