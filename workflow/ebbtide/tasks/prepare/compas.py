"""Preparation `compas`: defendants of Broward County, with what a vignette says of them, and two years later.

The table is `compas-scores-two-years.csv` of ProPublica (Larson et al. 2016). It has names, birth dates and
case numbers of people. None of them is in the rows: they have only what a prompt may say, the answer, the
score of COMPAS, and `vignette`, a number that equal vignettes share.
"""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ebbtide.errors import TaskError
from ebbtide.tasks.prepare.preparation import Arguments, Preparation, check_columns, register
from ebbtide.tasks.rows import Rows
from ebbtide.texts import read_text

COUNTS = ("age", "juv_fel_count", "juv_misd_count", "priors_count", "decile_score", "two_year_recid")
TEXTS = (
    "sex",
    "race",
    "c_charge_desc",
    "c_charge_degree",
    "score_text",
    "is_recid",
    "days_b_screening_arrest",
)
DEGREES = {"F": "felony", "M": "misdemeanor"}
SEXES = ("Male", "Female")
HIGH = 5  # smallest decile that COMPAS calls medium or high
NO_CHARGE = "an offence that is not stated"


def defendants(path: Path, arguments: Arguments, where: str) -> Rows:
    """Return the defendants that ProPublica analysed, 6,172 of 7,214, in the order of the file.

    Left out are screenings more than 30 days from the arrest, ordinary traffic offences, unknown recidivism
    and missing scores. Fields: `sex` (male, female), `age`, `race`, `charge`, `degree` (felony,
    misdemeanor), `priors`, `juvenile_felonies`, `juvenile_misdemeanors`, `recidivist` (0, 1), `decile`,
    `compas` (high, low), `vignette`.
    """
    del arguments, where
    rows = []
    for number, row in enumerate(_table(path), start=2):
        if _is_analysed(row, f"{path}: line {number}"):
            rows.append(_defendant(row, f"{path}: line {number}"))
    told = [tuple(row[name] for name in ("sex", "age", *_TOLD)) for row in rows]
    numbers = {vignette: i for i, vignette in enumerate(dict.fromkeys(told))}
    return [{**row, "vignette": numbers[vignette]} for row, vignette in zip(rows, told, strict=True)]


_TOLD = ("charge", "degree", "priors", "juvenile_felonies", "juvenile_misdemeanors")


def _table(path: Path) -> list[dict[str, str]]:
    """Return the rows with the columns of `COUNTS` and `TEXTS` only.

    The header has `decile_score` and `priors_count` twice. The two must be equal.
    """
    reader = csv.reader(io.StringIO(read_text(path, TaskError), newline=""))
    header = next(reader, [])
    check_columns(header, (*COUNTS, *TEXTS), path)
    places = {name: [i for i, n in enumerate(header) if n == name] for name in (*COUNTS, *TEXTS)}
    rows = []
    for number, cells in enumerate(reader, start=2):
        if len(cells) != len(header):
            raise TaskError(
                f"{path}: line {number} has {len(cells)} cells, but the header has {len(header)} names."
            )
        for name, of in places.items():
            if len({cells[i] for i in of}) > 1:
                found = " and ".join(repr(cells[i]) for i in of)
                raise TaskError(f"{path}: line {number}: {name} occurs twice, with {found}; allowed: equal.")
        rows.append({name: cells[of[0]] for name, of in places.items()})
    return rows


def _is_analysed(row: Mapping[str, str], where: str) -> bool:
    """Whether ProPublica's analysis has the defendant."""
    days = row["days_b_screening_arrest"]
    if not days:
        return False
    return (
        -30 <= _whole(days, f"{where}: days_b_screening_arrest", low=-(10**6)) <= 30
        and row["is_recid"] != "-1"
        and row["c_charge_degree"] != "O"
        and row["score_text"] != "N/A"
    )


def _defendant(row: Mapping[str, str], where: str) -> dict[str, Any]:
    counts = {name: _whole(row[name], f"{where}: {name}") for name in COUNTS}
    for name, allowed in (("sex", SEXES), ("c_charge_degree", tuple(DEGREES))):
        if row[name] not in allowed:
            raise TaskError(f"{where}: {name}: found {row[name]!r}; allowed: {', '.join(allowed)}.")
    for name, words, right in (
        ("two_year_recid", "0 or 1", counts["two_year_recid"] <= 1),
        ("decile_score", "1 to 10", 1 <= counts["decile_score"] <= 10),
        ("race", "a text", bool(row["race"])),
    ):
        if not right:
            raise TaskError(f"{where}: {name}: found {row[name]!r}; allowed: {words}.")
    return {
        "sex": row["sex"].lower(),
        "age": counts["age"],
        "race": row["race"],
        "charge": row["c_charge_desc"].strip() or NO_CHARGE,
        "degree": DEGREES[row["c_charge_degree"]],
        "priors": counts["priors_count"],
        "juvenile_felonies": counts["juv_fel_count"],
        "juvenile_misdemeanors": counts["juv_misd_count"],
        "recidivist": counts["two_year_recid"],
        "decile": counts["decile_score"],
        "compas": "high" if counts["decile_score"] >= HIGH else "low",
    }


def _whole(text: str, where: str, low: int = 0) -> int:
    try:
        number = int(text)
    except ValueError:
        number = low - 1
    if number < low:
        raise TaskError(f"{where}: found {text!r}; allowed: a whole number from {low}.")
    return number


COMPAS = register(
    Preparation(
        "compas",
        "defendants of ProPublica's table with two years of recidivism, without names, birth dates and cases",
        1,
        defendants,
    )
)
