"""What files on disk have that workflow/schemas/tables.yaml does not describe, and the reverse."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from ebbtide.study.columns import Table, documented_tables

TABLES = {table.file: table for table in documented_tables()}
REMEDY = "describe it in workflow/schemas/tables.yaml, then run `make reference`"


def undescribed(results: Path) -> list[str]:
    """Problems of all tables below the results of a study; none if each is as it is described."""
    files = [file for file in sorted(results.rglob("*")) if file.suffix in (".tsv", ".csv", ".parquet")]
    return [problem for file in files for problem in problems_of(file, described_as(file, results))]


def described_as(file: Path, results: Path) -> str:
    """The name under which a table is described."""
    first, *rest = file.relative_to(results).parts
    if first in ("metrics", "examples") and rest:
        return f"{first}/{{model}}/{{checkpoint}}-{{expected}}.parquet"
    if first == "imported" and len(rest) > 1:
        return f"{first}/{rest[0]}"
    return "/".join((first, *rest))


def problems_of(file: Path, name: str) -> Iterator[str]:
    """Yield what is not as described: columns, their order, missing values, keys."""
    if (table := TABLES.get(name)) is None:
        yield f"{name} is a table without a description: {REMEDY}"
        return
    rows = read(file)
    if difference := table.difference(list(rows.columns)):
        yield f"{difference}: {REMEDY}"
    elif len(rows):
        yield from _of_values(rows, table)


def read(file: Path) -> pd.DataFrame:
    """A table as another program reads it: only an empty field is missing."""
    if file.suffix == ".parquet":
        return pd.read_parquet(file)
    separator = "\t" if file.suffix == ".tsv" else ","
    return pd.read_csv(file, sep=separator, dtype=str, keep_default_na=False, na_values=[""])


def _of_values(rows: pd.DataFrame, table: Table) -> Iterator[str]:
    always = [column.name for column in table.columns if not column.missing and column.name in rows]
    for name in always:
        if missing := int(rows[name].isna().sum()):
            yield f"{table.file}: {name} is described as never missing, and is in {missing} rows: {REMEDY}"
    if table.key and rows.duplicated(list(table.key)).any():
        yield f"{table.file}: the key {', '.join(table.key)} is not unique: {REMEDY}"


def order_differs(name: str, columns: Iterable[str]) -> str:
    """Return how the columns that code writes differ from those described; empty if they do not."""
    return f"{difference}: {REMEDY}" if (difference := TABLES[name].difference(list(columns))) else ""
