"""Ratings of MovieLens, from generated files in the same shape."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import movielens
from ebbtide.errors import ConfigError, TaskError
from ebbtide.tasks.dataset_rows import rows_sha256
from ebbtide.tasks.definition import load_task
from ebbtide.tasks.freezing import freeze
from ebbtide.tasks.prepare import PREPARATIONS
from ebbtide.tasks.prepare.movielens import AGES, OCCUPATIONS
from task_data import WHERE, define

SETTINGS = {"test_share": 0.1, "history": 500, "seed": 0}


def rows(content: bytes, tmp_path: Path, **changes: Any) -> list[dict[str, Any]]:
    (tmp_path / "ml.zip").write_bytes(content)
    return PREPARATIONS["movielens"].rows(
        tmp_path / "ml.zip", {**SETTINGS, **changes}, "t.yaml: source.prepare"
    )


def test_a_row_has_the_user_the_film_and_the_history(tmp_path: Path) -> None:
    found = rows(movielens.one_million(), tmp_path)
    ratings, _, films = movielens.generated()
    assert len(found) == round(0.1 * len(ratings))
    rated = {tuple(line.split("::")[:2]): int(line.split("::")[2]) for line in ratings}
    titles = dict(line.split("::")[:2] for line in films)
    tested = {(row["user"], row["film"]) for row in found}
    assert len(tested) == len(found)
    for row in found:
        assert row["rating"] == rated[row["user"], row["film"]]
        assert row["title"] == titles[row["film"]]
        training = {
            f"{titles[film]} a {rating}, "
            for (user, film), rating in rated.items()
            if user == row["user"] and (user, film) not in tested
        }
        assert set(row["history"]) == training
        assert len(row["history"]) == len(training)
        assert not any(text.startswith(row["title"]) for text in row["history"])
    person = next(row for row in found if int(row["user"]) % 7 == 2)
    assert person["person"].startswith(("A 25-34 year old man who is", "A 25-34 year old woman who is"))


def test_sentences_of_people(tmp_path: Path) -> None:
    _, users, _ = movielens.generated()
    users[0] = "1::M::1::3::0"
    users[1] = "2::F::56::0::0"
    users[2] = "3::F::18::12::0"
    people = {
        row["user"]: row["person"]
        for row in rows(movielens.one_million({"users.dat": users}), tmp_path, test_share=0.5)
    }
    assert people["1"] == "An under 18 year old man who is employed as a clerical/admin"
    assert people["2"] == "A 56+ year old woman with another occupation"
    assert people["3"] == "An 18-24 year old woman who is employed as a programmer"
    assert (len(AGES), len(OCCUPATIONS)) == (7, 21)


def test_predictions_are_means_of_training_ratings(tmp_path: Path) -> None:
    found = rows(movielens.one_million(), tmp_path)
    ratings, *_ = movielens.generated()
    tested, by_film = {(row["user"], row["film"]) for row in found}, defaultdict(list)
    for line in ratings:
        user, film, rating, _ = line.split("::")
        if (user, film) not in tested:
            by_film[film].append(int(rating))
    overall = np.mean([rating for of in by_film.values() for rating in of])
    for row in found:
        assert row["global_mean"] == pytest.approx(overall)
        assert row["item_mean"] == pytest.approx(np.mean(by_film[row["film"]]))


def test_a_film_without_training_ratings_has_the_global_mean(tmp_path: Path) -> None:
    ratings = [f"1::{film}::{1 + film % 5}::9" for film in range(1, 21)]
    found = rows(movielens.one_million({"ratings.dat": ratings}), tmp_path, test_share=0.5)
    assert len(found) == 10
    assert all(row["item_mean"] == row["global_mean"] for row in found)


def test_the_test_set_does_not_depend_on_the_length_of_histories(tmp_path: Path) -> None:
    long, none, other = (
        rows(movielens.one_million(), tmp_path, **changes)
        for changes in ({"history": 3}, {"history": 0}, {"seed": 1})
    )
    assert [row["film"] for row in long] == [row["film"] for row in none]
    assert {len(row["history"]) for row in long} == {3}
    assert {len(row["history"]) for row in none} == {0}
    assert [row["film"] for row in long] != [row["film"] for row in other]


def test_rows_of_version_1_are_what_they_were(tmp_path: Path) -> None:
    """If this fails, increment the version of the preparation, and write the new digest here."""
    ratings = [f"{u}::{f}::{1 + (u * f) % 5}::9" for u in range(1, 9) for f in range(1, 9)]
    found = rows(movielens.one_million({"ratings.dat": ratings}), tmp_path)
    assert PREPARATIONS["movielens"].version == 1
    assert rows_sha256(found) == "4f27c34c9ed7e43f75c3bd33328c1c3fdfc42208f964f697635c21be73cc1534"


def test_the_smaller_release_has_ages_in_years(tmp_path: Path) -> None:
    found = rows(movielens.hundred_thousand(), tmp_path, test_share=0.5)
    people = {row["user"]: row["person"] for row in found}
    assert people["1"] == "A 10 year old woman who is employed as an administrator"
    assert people["2"] == "An 11 year old man without an occupation"
    assert found[0]["title"].startswith("Café ")


LINES = movielens.generated()
BAD = {
    "rating above 5": (
        {"ratings.dat": ["1::1::6::9"]},
        "ratings.dat: line 1: found the rating '6'; allowed: 1 to 5",
    ),
    "rating of a half": ({"ratings.dat": ["1::1::3.5::9"]}, "found the rating '3.5'; allowed: 1 to 5"),
    "unknown occupation": (
        {"users.dat": ["1::M::25::21::0"]},
        "users.dat: line 1: found the occupation '21'; allowed: 0 to 20",
    ),
    "unknown age": (
        {"users.dat": ["1::M::26::2::0"]},
        "found the age '26'; allowed: 1, 18, 25, 35, 45, 50, 56",
    ),
    "unknown gender": ({"users.dat": ["1::X::25::2::0"]}, "found the gender 'X'; allowed: F, M"),
    "user without a line": (
        {"ratings.dat": [*LINES[0], "99::1::4::9"]},
        f"ratings.dat: line {len(LINES[0]) + 1}: user '99' is not in users.dat",
    ),
    "film without a line": ({"ratings.dat": ["1::99::4::9"]}, "film '99' is not in movies.dat"),
    "missing file": ({"users.dat": []}, "no file users.dat in the zip (found: ratings.dat, movies.dat)"),
    "no ratings": (
        {"ratings.dat": []},
        "no file ratings.dat or u.data in the zip (found: users.dat, movies.dat)",
    ),
    "other columns": (
        {"ratings.dat": ["1,1,4,9"]},
        "line 1: found 1 columns, expected 'UserID::MovieID::Rating::Timestamp'",
    ),
    "a column too many": ({"movies.dat": ["1::A::Drama::x"]}, "movies.dat: line 1: found 4 columns"),
    "too few ratings": (
        {"ratings.dat": ["1::1::4::9"]},
        "source.prepare.test_share: found 0.1, which is no rating of 1",
    ),
}


@pytest.mark.parametrize("mistake", BAD)
def test_bad_files_are_refused(mistake: str, tmp_path: Path) -> None:
    changes, expected = BAD[mistake]
    with pytest.raises(TaskError) as error:
        rows(movielens.one_million(changes), tmp_path)
    assert expected in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_file_that_is_no_zip(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"ml\.zip is not a complete zip file"):
        rows(movielens.one_million()[:200], tmp_path)


@pytest.mark.parametrize(
    "name", ["movielens", "movielens_zero_shot", "movielens_100k", "movielens_100k_zero_shot"]
)
def test_tasks_of_the_catalogue(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    task = load_task(name, WHERE)
    assert task.source
    assert task.source.algorithm == "md5"
    content = movielens.hundred_thousand() if "100k" in name else movielens.one_million()
    definition = {key: value for key, value in task.definition.items() if key not in ("source", "title")}
    prepare = {**task.definition["source"]["prepare"], "test_share": 0.1}
    requests = freeze(define(content, "ml.zip", source={"prepare": prepare}, **definition))
    context = requests["context"].iloc[0]
    assert context.endswith(") a")
    assert ("previously rated" in context) == ("zero" not in name)
    assert ("parts" in requests) == ("zero" not in name)
    assert {"group_user", "group_item", "baseline_item_mean", "baseline_global_mean"} <= set(requests)
    assert requests.groupby("example")["value"].apply(list).iloc[0] == [1, 2, 3, 4, 5]


def test_arguments_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for prepare, expected in (
        ({"test_share": 0}, r"test_share: found 0; allowed: more than 0"),
        ({"test_share": 0.9}, r"test_share: found 0\.9; allowed: at most 0\.5"),
        ({"history": -1}, r"history: found -1; allowed: at least 0"),
    ):
        with pytest.raises(ConfigError, match=expected):
            define(b"", "ml.zip", source={"prepare": {"function": "movielens", **prepare}})
