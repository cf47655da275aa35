"""The table of models: what is read from it, and which models the trends leave out."""

from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.errors import SourceError, nearest

READ = {
    "Model": "model",
    "Publication date": "date",
    "Organization": "organization",
    "Organization categorization": "categories",
    "Parameters": "parameter_count",  # unlike `parameters`, missing and not 0 where it is unknown
    "Training compute (FLOP)": "flops",
    "Confidence": "confidence",
}  # column of the table → column here
COLUMNS = (
    *("model", "date", "organization", "categories", "sector", "parameter_count", "flops"),
    *("confidence", "reason"),
)
NO_DATE, NO_COMPUTE, NO_SECTOR = "no publication date", "no training compute", "no organization category"
DAYS_PER_YEAR = 365.25


def read_models(path: str | Path, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Read the table of models, and say of each why the trends leave it out.

    Parameters
    ----------
    path
        CSV with the columns `READ`; others are ignored.
    settings
        `since` and `before`, ISO days: the trends use models published in since ≤ date < before.

    Returns
    -------
    One row per model, by date: `COLUMNS`. `sector` is the first of the listed `categories`. `reason` is empty
    for a model that the trends use.

    Raises
    ------
    SourceError
        The file is not CSV, lacks a column or has no row; or a row has no name, or a value that is neither
        empty nor a day or positive number.
    """
    table = _cells(Path(path))
    days = table["date"].map(_day)
    wrong = [
        *_wrong(table, "model", table["model"] == "", "a name"),
        *_wrong(table, "date", (table["date"] != "") & days.isna(), "a day as 2022-02-15, or nothing"),
    ]
    numbers = {}
    for name in ("parameter_count", "flops"):
        numbers[name] = pd.to_numeric(table[name], errors="coerce").astype(float)
        bad = (table[name] != "") & ~(np.isfinite(numbers[name]) & (numbers[name] > 0))
        wrong += _wrong(table, name, bad, "a positive number, or nothing")
    if wrong:
        more = f" {len(wrong) - 1} more values are wrong." if len(wrong) > 1 else ""
        raise SourceError(f"{path}: {wrong[0]}{more}")
    sector = table["categories"].str.partition(",")[0].str.strip()
    models = table.assign(sector=sector, **numbers, reason="")
    for reason, left_out in (
        (NO_DATE, table["date"] == ""),
        (f"before {settings['since']}", table["date"] < settings["since"]),
        (f"not before {settings['before']}", table["date"] >= settings["before"]),
        (NO_COMPUTE, table["flops"] == ""),
        (NO_SECTOR, sector == ""),
    ):
        models.loc[left_out & (models["reason"] == ""), "reason"] = reason
    return models.sort_values(["date", "model"], kind="stable")[list(COLUMNS)].reset_index(drop=True)


def used(models: pd.DataFrame) -> pd.DataFrame:
    """Return the models that the trends use, with `years` since the year 2000 as a number."""
    kept = models[models["reason"].fillna("") == ""]
    return kept.assign(years=years_of(kept["date"]))


def years_of(days: pd.Series) -> pd.Series:
    """Return ISO days as years since 2000-01-01, of 365.25 days."""
    return (pd.to_datetime(days) - pd.Timestamp("2000-01-01")).dt.days / DAYS_PER_YEAR


def _cells(path: Path) -> pd.DataFrame:
    """Return the cells of the table as stripped texts, columns named as here. Raises `SourceError`."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, pd.errors.ParserError) as error:  # also text that is not UTF-8
        raise SourceError(f"{path}: this is not a table in CSV ({error}).") from error
    missing = [name for name in READ if name not in table]
    if missing:
        found = list(map(str, table.columns))
        raise SourceError(
            f"{path}: no column {missing[0]!r}{nearest(missing[0], found)}"
            f"{' ' if nearest(missing[0], found) else '; '}needed are {', '.join(READ)}."
        )
    if table.empty:
        raise SourceError(f"{path}: found a header without rows; needed is one row per model.")
    cells: pd.DataFrame = table[list(READ)].rename(columns=READ).apply(lambda column: column.str.strip())
    return cells


def _day(text: str) -> str | None:
    """Return an ISO day as it is, or None."""
    try:
        return text if date.fromisoformat(text).isoformat() == text else None
    except ValueError:
        return None


def _wrong(table: pd.DataFrame, name: str, wrong: pd.Series, allowed: str) -> Iterator[str]:
    """Yield a sentence about each wrong value of a column."""
    column = next(there for there, here in READ.items() if here == name)
    for place in np.flatnonzero(wrong):
        row = table.iloc[place]
        yield f"row {place + 1} ({row['model']!r}), {column}: found {row[name]!r}; allowed: {allowed}."
