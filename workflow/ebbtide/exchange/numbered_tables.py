"""Directories of numbered tables, with their number, so that a missing one is noticed."""

import os
from pathlib import Path

from ebbtide.errors import EbbtideError
from ebbtide.files import canonical_json, read_json, write_text

_COUNT = "count.json"


def numbered_table(directory: str | os.PathLike[str], number: int) -> Path:
    """Return the path of a table in a directory of numbered tables."""
    return Path(directory) / f"{number:06d}.parquet"


def write_count(directory: str | os.PathLike[str], count: int) -> None:
    """Write the number of tables in a directory of numbered tables, so that a missing one is noticed."""
    write_text(canonical_json({"tables": count}), Path(directory) / _COUNT)


def numbered_tables(directory: str | os.PathLike[str], error: type[EbbtideError]) -> list[Path]:
    """Return the tables of a directory of numbered tables, in order. Raises `error` if one is missing.

    Snakemake makes such a directory again only if it is missing as a whole.
    """
    remedy = f"delete {directory} and run snakemake"
    count = read_json(Path(directory) / _COUNT, error, remedy).get("tables")
    tables = [numbered_table(directory, i) for i in range(count if isinstance(count, int) else 0)]
    missing = [table.name for table in tables if not table.exists()]
    if missing or not isinstance(count, int):
        raise error(f"{directory} lacks {', '.join(missing[:3]) or 'its number of tables'}; {remedy}.")
    return tables
