"""Generated data in the shape of MovieLens, whose files may not be redistributed."""

import io
import zipfile
from collections.abc import Mapping

import numpy as np

USERS, FILMS = 40, 30
AGES, OCCUPATIONS = (1, 18, 25, 35, 45, 50, 56), 21


def generated(seed: int = 0, share: float = 0.5) -> tuple[list[str], list[str], list[str]]:
    """Lines of ratings.dat, users.dat and movies.dat; users and films differ in their means."""
    rng = np.random.default_rng(seed)
    users = [
        f"{u}::{'FM'[u % 2]}::{AGES[u % len(AGES)]}::{u % OCCUPATIONS}::0{u:04d}" for u in range(1, USERS + 1)
    ]
    films = [f"{f}::Caf\u00e9 {f}, The ({1950 + f})::Drama|Comedy" for f in range(1, FILMS + 1)]
    of_user, of_film = rng.normal(0, 0.5, USERS), rng.normal(0, 0.7, FILMS)
    exact = 3.5 + of_user[:, None] + of_film + rng.normal(0, 0.8, (USERS, FILMS))
    given = np.clip(np.rint(exact), 1, 5).astype(int)
    rated = np.argwhere(rng.random((USERS, FILMS)) < share)
    ratings = [f"{u + 1}::{f + 1}::{given[u, f]}::9" for u, f in rated]
    return ratings, users, films


def zipped(files: Mapping[str, list[str]]) -> bytes:
    """A zip of files in Latin-1, by path, with lines that end as those of the release."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, lines in files.items():
            info = zipfile.ZipInfo(name)  # without a date, so that equal files have equal digests
            archive.writestr(info, "".join(line + "\n" for line in lines).encode("latin-1"))
    return written.getvalue()


def one_million(changes: Mapping[str, list[str]] | None = None, seed: int = 0) -> bytes:
    """A zip in the shape of MovieLens 1M; `changes` replaces files by name, an empty list leaves one out."""
    ratings, users, films = generated(seed)
    files = {"ratings.dat": ratings, "users.dat": users, "movies.dat": films, **(changes or {})}
    return zipped({f"ml-1m/{name}": lines for name, lines in files.items() if lines})


def hundred_thousand() -> bytes:
    """A zip in the shape of MovieLens 100K."""
    ratings, users, films = generated()
    words = [*("administrator", "none", "other", "student")]
    people = [
        f"{line.split('::')[0]}|{10 + i}|{'FM'[i % 2]}|{words[i % 4]}|85711" for i, line in enumerate(users)
    ]
    titles = ["|".join([*line.split("::")[:2], "01-Jan-1995", "", "http://x", *"0" * 19]) for line in films]
    files = {"u.data": [line.replace("::", "\t") for line in ratings], "u.user": people, "u.item": titles}
    return zipped({f"ml-100k/{name}": lines for name, lines in files.items()})
