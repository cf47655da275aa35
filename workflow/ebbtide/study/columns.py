"""Descriptions of the tables that a study writes, and of their columns (workflow/schemas/tables.yaml)."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.errors import CellError
from ebbtide.schema import SCHEMAS, read_yaml

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Column:
    """A column: its name, in which {} stands for any text, and what users read about it.

    Attributes
    ----------
    about, unit, missing
        What it contains, in which unit (empty: none), and when it has no value (empty: always has one).
    optional
        Whether some files lack it.
    """

    name: str
    about: str
    unit: str = ""
    missing: str = ""
    optional: bool = False


@dataclass(frozen=True)
class Table:
    """A table, by its file in `results/{study}` or its whole path.

    `columns` begin with those of `like`, another table; the last `own` of them are its own.
    """

    stage: str
    file: str
    row: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    like: str = ""
    own: int = 0

    def difference(self, names: Sequence[str]) -> str:
        """Return the first difference of the columns of a file from those described; empty without any."""
        found = list(names)
        for column in self.columns:
            pattern = re.compile(re.sub(r"\\{.*?\\}", ".+", re.escape(column.name)))
            several = "{" in column.name
            matched = False
            while found and pattern.fullmatch(found[0]) and (several or not matched):
                found.pop(0)
                matched = True
            if not matched and not column.optional:
                return f"{self.file}: {found[0] if found else 'the end'!r} where {column.name!r} is described"
        return f"{self.file}: {found[0]!r} is not described" if found else ""


def documented_tables() -> list[Table]:
    """Return all tables in the order of their file."""
    described = read_yaml(SCHEMAS / "tables.yaml")
    shared = {name: _as_mapping(of) for name, of in described["columns"].items()}
    tables = {
        file: Table(
            stage,
            file,
            of.get("row", ""),
            tuple(of.get("key", ())),
            tuple(column for item in of.get("columns", ()) for column in _columns(item, shared)),
            of.get("like", ""),
        )
        for stage, files in described["tables"].items()
        for file, of in files.items()
    }
    return list(_with_likes(tables))


def read_described(path: str | Path) -> "pd.DataFrame":
    """Read a table of a study, by `tables.read_tsv`, and check that its columns are those described.

    Raises `CellError` if the file is missing, cut, of another program, or of another version of the code.
    """
    from ebbtide.tables import read_tsv

    rows, described = read_tsv(path), _described().get(Path(path).name)
    if described and (difference := described.difference([str(name) for name in rows])):
        raise CellError(
            f"{path} is of another program or version (columns of {difference}); delete it and run snakemake."
        )
    return rows


@cache
def _described() -> dict[str, Table]:
    return {table.file: table for table in documented_tables()}


def _with_likes(tables: Mapping[str, Table]) -> Iterator[Table]:
    for table in tables.values():
        if other := tables.get(table.like):
            columns = (*other.columns, *table.columns)
            row, key = table.row or other.row, table.key or other.key
            yield replace(table, row=row, key=key, columns=columns, own=len(table.columns))
        else:
            yield table


def _as_mapping(of: Any) -> dict[str, Any]:
    return dict(of) if isinstance(of, Mapping) else {"about": of}


def _columns(item: Any, shared: Mapping[str, Mapping[str, Any]]) -> Iterable[Column]:
    """Yield the column of an item, and the ends of its interval."""
    [(name, own)] = item.items() if isinstance(item, Mapping) else [(item, {})]
    of = _as_mapping(own) if own else dict(shared[name])
    interval = of.pop("interval", False)
    yield Column(name, **of)
    if interval:
        for end in ("low", "high"):
            about = f"{'lower' if end == 'low' else 'upper'} end of its interval"
            yield Column(f"{name}_{end}", **{**of, "about": about})
