"""Published values of other models, as a study quotes them: a small table beside the study file."""

import csv
import math
from pathlib import Path
from typing import Any

from ebbtide.errors import ConfigError

COLUMNS = ("task", "series", "parameters", "value", "source")
NUMBERS = {"parameters": (0.0, math.inf), "value": (0.0, 1.0)}


def read_points(path: str | None) -> list[dict[str, Any]]:
    """Return the rows of a TSV with `COLUMNS`; none without a path.

    Raises `ConfigError` for another header, or a number that is none or outside of its range.
    """
    if path is None:
        return []
    with Path(path).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader((line for line in file if not line.startswith("#")), dialect="excel-tab"))
    found = tuple(rows[0]) if rows else ()
    if found != COLUMNS:
        listed = ", ".join(map(str, found)) or "none"
        raise ConfigError(f"{path}: found the columns {listed}; allowed: {', '.join(COLUMNS)}.")
    for number, row in enumerate(rows, start=1):
        for name, (low, high) in NUMBERS.items():
            row[name] = _number(row[name], low, high, f"{path}: row {number}: {name}")
    return rows


def _number(text: Any, low: float, high: float, where: str) -> float:
    try:
        number = float(text)
    except (TypeError, ValueError):
        number = math.nan
    if not low <= number <= high:
        raise ConfigError(f"{where}: found {text!r}; allowed: a number from {low:g} to {high:g}.")
    return number
