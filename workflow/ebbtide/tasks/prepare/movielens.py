"""Preparation `movielens`: ratings to predict, each with its user and a history of the user's other ratings.

MovieLens 1M (`ratings.dat`, `users.dat`, `movies.dat`) and 100K (`u.data`, `u.user`, `u.item`) as published,
in their zip (Harper and Konstan 2015). Their licence forbids redistribution: fetch the file, never ship it.
"""

import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ebbtide.corpus.draw import Draw
from ebbtide.errors import TaskError, first_line
from ebbtide.tasks.prepare.preparation import Arguments, Preparation, register
from ebbtide.tasks.rows import Rows

# Code of an age in users.dat, and how the sentence has it.
AGES = {
    "1": "an under 18",
    "18": "an 18-24",
    "25": "a 25-34",
    "35": "a 35-44",
    "45": "a 45-49",
    "50": "a 50-55",
    "56": "a 56+",
}
# Code of an occupation in users.dat.
OCCUPATIONS = (
    *("other", "academic/educator", "artist", "clerical/admin", "college/grad student"),
    *("customer service", "doctor/health care", "executive/managerial", "farmer", "homemaker"),
    *("K-12 student", "lawyer", "programmer", "retired", "sales/marketing", "scientist"),
    *("self-employed", "technician/engineer", "tradesman/craftsman", "unemployed", "writer"),
)
# Occupations that the sentence has in other words than "who is employed as a …".
WORK = {
    "other": "with another occupation",
    "none": "without an occupation",
    "retired": "who is retired",
    "self-employed": "who is self-employed",
    "unemployed": "who is unemployed",
}
GENDERS = {"F": "woman", "M": "man"}
LOWEST, HIGHEST = 1, 5


class Rating(NamedTuple):
    """One line of the ratings."""

    user: str
    film: str
    rating: int


class Data(NamedTuple):
    """The tables of a release: ratings, user → who they are, film → its title."""

    ratings: list[Rating]
    people: dict[str, dict[str, str]]
    titles: dict[str, str]


def rows_of(path: Path, arguments: Arguments, where: str) -> Rows:
    """Return a row per rating of a test set, drawn uniformly from all ratings.

    Its fields: `user`, `film` (ids), `title`, `person` (such as "A 25-34 year old man who is employed as a
    programmer"), `age`, `gender`, `occupation`, `rating`; `history`, texts such as "Alien (1979) a 4, " of
    the user's training ratings, in random order, without the film; and predictions from training ratings:
    `item_mean`, the mean of the film's (the global mean for a film without any), and `global_mean`.
    """
    data = _read(path)
    count = round(arguments["test_share"] * len(data.ratings))
    if not count:
        raise TaskError(
            f"{where}.test_share: found {arguments['test_share']}, which is no rating of {len(data.ratings)}."
        )
    test = _drawn(count, len(data.ratings), arguments["seed"])
    by_user: dict[str, list[Rating]] = defaultdict(list)
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for number, one in enumerate(data.ratings):
        if number not in test:
            by_user[one.user].append(one)
            sums[one.film][0] += one.rating
            sums[one.film][1] += 1
    total, training = (sum(of[i] for of in sums.values()) for i in (0, 1))
    means = {film: of / n for film, (of, n) in sums.items()}
    rows = []
    for number in sorted(test):
        user, film, rating = data.ratings[number]
        others = [one for one in by_user[user] if one.film != film]
        seen = Draw("movielens", "history", arguments["seed"], user, film).shuffled(others)
        rows.append(
            {
                "user": user,
                "film": film,
                "title": data.titles[film],
                **data.people[user],
                "rating": rating,
                "history": [
                    f"{data.titles[one.film]} a {one.rating}, " for one in seen[: arguments["history"]]
                ],
                "item_mean": means.get(film, total / training),
                "global_mean": total / training,
            }
        )
    return rows


def _drawn(count: int, of: int, seed: int) -> set[int]:
    draw, test = Draw("movielens", "test", seed), set[int]()
    while len(test) < count:
        test.add(draw.below(of))
    return test


@dataclass(frozen=True)
class _Release:
    """How a release writes its tables: names of its files, and their separators and columns."""

    ratings: str
    users: str
    films: str
    separators: Mapping[str, str]
    columns: Mapping[str, tuple[str, ...]]
    person: Callable[[list[str]], dict[str, str]]  # of the columns of a user; raises ValueError


def _read(path: Path) -> Data:
    """Read and check the tables of a zip. Raises `TaskError` with file, line, what was found and expected."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {Path(name).name: name for name in archive.namelist() if not name.endswith("/")}
            release = next((one for one in RELEASES if one.ratings in names), None)
            if release is None:
                wanted = " or ".join(one.ratings for one in RELEASES)
                raise TaskError(f"{path}: no file {wanted} in the zip (found: {', '.join(names) or 'none'}).")
            for name in (release.users, release.films):
                if name not in names:
                    raise TaskError(f"{path}: no file {name} in the zip (found: {', '.join(names)}).")
            files = {
                name: archive.read(names[name]).decode("latin-1")
                for name in (release.ratings, release.users, release.films)
            }
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise TaskError(f"{path} is not a complete zip file ({first_line(error)}).") from None
    titles = {row[0]: row[1] for _, row in _lines(path, release, release.films, files)}
    people = {}
    for where, row in _lines(path, release, release.users, files):
        try:
            people[row[0]] = release.person(row)
        except ValueError as error:
            raise TaskError(f"{where}: {error}.") from None
    ratings = []
    for where, (user, film, rating, *_) in _lines(path, release, release.ratings, files):
        if not rating.isdecimal() or not LOWEST <= int(rating) <= HIGHEST:
            raise TaskError(f"{where}: found the rating {rating!r}; allowed: {LOWEST} to {HIGHEST}.")
        if user not in people:
            raise TaskError(f"{where}: user {user!r} is not in {release.users}.")
        if film not in titles:
            raise TaskError(f"{where}: film {film!r} is not in {release.films}.")
        ratings.append(Rating(user, film, int(rating)))
    return Data(ratings, people, titles)


def _lines(
    path: Path, release: _Release, name: str, files: Mapping[str, str]
) -> Iterator[tuple[str, list[str]]]:
    """Yield the place and the columns of each line of a table."""
    columns, separator = release.columns[name], release.separators[name]
    for number, line in enumerate(files[name].split("\n"), start=1):
        if not line.strip():
            continue
        row = line.rstrip("\r").split(separator)
        where = f"{path}: {name}: line {number}"
        if len(row) < len(columns) or (len(row) > len(columns) and columns[-1] != "…"):
            raise TaskError(f"{where}: found {len(row)} columns, expected {separator.join(columns)!r}.")
        yield where, row


def _person(age: str, gender: str, occupation: str) -> dict[str, str]:
    """Describe a user; `age` is such as "a 25-34"."""
    if gender not in GENDERS:
        raise ValueError(f"found the gender {gender!r}; allowed: {', '.join(GENDERS)}")
    who = f"{age[0].upper()}{age[1:]} year old {GENDERS[gender]}"
    article = "an" if occupation[0] in "aeiou" else "a"
    return {
        "person": f"{who} {WORK.get(occupation, f'who is employed as {article} {occupation}')}",
        "age": age.partition(" ")[2],
        "gender": GENDERS[gender],
        "occupation": occupation,
    }


def _person_of_1m(row: list[str]) -> dict[str, str]:
    _, gender, age, occupation, *_ = row
    if age not in AGES:
        raise ValueError(f"found the age {age!r}; allowed: {', '.join(AGES)}")
    if not occupation.isdecimal() or int(occupation) >= len(OCCUPATIONS):
        raise ValueError(f"found the occupation {occupation!r}; allowed: 0 to {len(OCCUPATIONS) - 1}")
    return _person(AGES[age], gender, OCCUPATIONS[int(occupation)])


def _person_of_100k(row: list[str]) -> dict[str, str]:
    _, age, gender, occupation, *_ = row
    if not age.isdecimal() or not int(age):
        raise ValueError(f"found the age {age!r}; allowed: a number of years")
    if not occupation.isalpha():
        raise ValueError(f"found the occupation {occupation!r}; allowed: a word")
    article = "an" if age in ("8", "11", "18") or age.startswith("8") else "a"
    return _person(f"{article} {age}", gender, occupation)


RELEASES = (
    _Release(
        "ratings.dat",
        "users.dat",
        "movies.dat",
        {"ratings.dat": "::", "users.dat": "::", "movies.dat": "::"},
        {
            "ratings.dat": ("UserID", "MovieID", "Rating", "Timestamp"),
            "users.dat": ("UserID", "Gender", "Age", "Occupation", "Zip-code"),
            "movies.dat": ("MovieID", "Title", "Genres"),
        },
        _person_of_1m,
    ),
    _Release(
        "u.data",
        "u.user",
        "u.item",
        {"u.data": "\t", "u.user": "|", "u.item": "|"},
        {
            "u.data": ("user id", "item id", "rating", "timestamp"),
            "u.user": ("user id", "age", "gender", "occupation", "zip code"),
            "u.item": ("movie id", "movie title", "release date", "…"),
        },
        _person_of_100k,
    ),
)

MOVIELENS = register(
    Preparation(
        "movielens",
        "ratings of films from a zip of MovieLens (1M or 100K), with users and histories",
        1,
        rows_of,
        arguments={
            "test_share": {
                "description": "Share of the ratings to predict",
                "type": "number",
                "exclusiveMinimum": 0,
                "maximum": 0.5,
                "default": 0.01,
            },
            "history": {
                "description": "Most ratings in a history; 0 is none",
                "type": "integer",
                "minimum": 0,
                "default": 500,
            },
            "seed": {
                "description": "Seed of the test set and of the histories",
                "type": "integer",
                "minimum": 0,
                "default": 0,
            },
        },
    )
)
