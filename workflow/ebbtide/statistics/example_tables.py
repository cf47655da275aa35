"""Tables of examples on disk, read column by column.

The checkpoints of a study have the same tasks and examples. So names and clusters are read only once for each
digest that the footers of the tables have for them, and of the other tables only the values.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ebbtide.arrow import columns_of
from ebbtide.errors import CellError
from ebbtide.exchange.numbered_tables import numbered_tables
from ebbtide.tables import EXAMPLES, read_footer, read_parquet

MOST = 64  # sets of names in memory, of studies with samples from many files


@dataclass(frozen=True)
class Part:
    """A table of examples on disk, of one checkpoint.

    Attributes
    ----------
    place
        `model, checkpoint, step, tokens` and the parameter counts, as far as they are known; else 0.
    requests
        Task → `digest` of its texts, and number of `examples`.
    columns
        Digests of its columns; empty for a table of earlier versions.
    """

    path: Path
    place: Mapping[str, Any]
    requests: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)

    def texts(self, task: str) -> str:
        """Return the digest of the texts of a task."""
        return str(self.requests.get(task, {}).get("digest", ""))


def read_parts(paths: Iterable[str | Path]) -> list[Part]:
    """Read the footers of tables of examples; a directory is read as the tables in it.

    Raises `CellError` for a table that is missing, also from a directory, damaged or of another kind.
    """
    files = [
        file
        for path in map(Path, paths)
        for file in (numbered_tables(path, CellError) if path.is_dir() else [path])
    ]
    return [_part(file) for file in files]


@dataclass(frozen=True)
class Named:
    """The examples of a task in a table.

    Attributes
    ----------
    rows
        (n,) the row of each example, in the order of the names.
    names
        (n,) sorted names.
    clusters
        (n,) integers from 0 in the order of appearance; examples of the same cluster are dependent.
    """

    rows: np.ndarray
    names: np.ndarray
    clusters: np.ndarray


class Tables:
    """Reads tables of examples, and names that several of them have only once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], dict[str, Named]] = {}

    def read(self, part: Part) -> tuple[dict[str, Named], dict[str, np.ndarray]]:
        """Return the examples of each task in a table, and its metrics, of all rows.

        Raises `CellError` for a table that is missing, damaged or of another kind.
        """
        key = tuple(part.columns.get(name, "") for name in EXAMPLES.columns)
        if all(key) and key in self._known:
            table = read_parquet(part.path, EXAMPLES, wanted=lambda name: name not in EXAMPLES.columns)
            named = self._known[key]
        else:
            table = read_parquet(part.path, EXAMPLES)
            named = named_of(columns_of(table.select(list(EXAMPLES.columns))))
            if len(self._known) >= MOST:
                del self._known[next(iter(self._known))]
            self._known[key] = named
        metrics = [name for name in table.column_names if name not in EXAMPLES.columns]
        return named, columns_of(table.select(metrics))


def named_of(columns: Mapping[str, np.ndarray]) -> dict[str, Named]:
    """Return the examples of each task, from the columns `task, example, cluster` of their table."""
    rows_of: dict[str, list[int]] = {}
    for row, task in enumerate(columns["task"].tolist()):
        rows_of.setdefault(task, []).append(row)
    found = {}
    for task, of_task in rows_of.items():
        rows = np.array(of_task)
        names = columns["example"][rows]
        order = np.array(sorted(range(len(names)), key=names.tolist().__getitem__))
        rows, names = rows[order], names[order]
        numbers: dict[str, int] = {}
        clusters = [numbers.setdefault(cluster, len(numbers)) for cluster in columns["cluster"][rows]]
        found[task] = Named(rows, names, np.array(clusters))
    return found


def _part(path: Path) -> Part:
    footer = read_footer(path, EXAMPLES)
    place: Mapping[str, Any] | None = footer.get("place")
    if place is None:
        raise CellError(f"{path}: the footer has no 'place'; {EXAMPLES.remedy}.")
    return Part(path, place, footer.get("requests", {}), footer.get("columns_sha256", {}))
