"""One file each for all metrics (CSV) and for the values of all examples (Parquet or CSV, streamed)."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from ebbtide.cells.samples import per_row, schema_of, with_choices
from ebbtide.errors import CellError
from ebbtide.files import atomic, canonical_json
from ebbtide.tables import CELL, FOOTER, REQUESTS, read_footer, read_parquet
from ebbtide.texts import for_sheets, write_sheet

if TYPE_CHECKING:
    import pandas as pd

ROWS = 1 << 17  # per row group

_CHECKPOINT = {"model": pa.string(), "checkpoint": pa.string(), "step": pa.int64(), "tokens": pa.int64()}
_REQUEST = {
    "example": pa.string(),
    "choice": pa.int64(),
    "role": pa.string(),  # choice, or the role of a partner of one
    "gold": pa.float64(),  # weight of a right choice, 0 of a wrong one, NaN without right and wrong
}
_SCORED = {name: types[0] for name, types in CELL.columns.items() if name not in _REQUEST}
SCHEMA = pa.schema(
    {
        **_CHECKPOINT,
        "task": pa.string(),
        **_REQUEST,
        # `tokens` are training tokens, as in the table of metrics.
        **{"continuation_tokens" if name == "tokens" else name: type_ for name, type_ in _SCORED.items()},
    }
)


def write_metrics_csv(metrics: "pd.DataFrame", path: str | Path) -> None:
    """Write a table as CSV, atomically; missing values are empty, numbers are exact."""
    with atomic(path) as temporary:
        write_sheet(metrics, temporary, ",")


def examples_of(of: Mapping[str, Any], cell: pa.Table, requests: pa.Table) -> pa.Table:
    """Rows of one cell, with `SCHEMA`.

    `of` contains model, checkpoint, step, tokens (of training) and task. Raises `CellError` if cell and
    requests do not have the same examples and choices.
    """
    keys = ["example", "choice"]
    keyed = requests.select([c for c in ("role", "gold") if c in requests.column_names])
    keyed = keyed.append_column("example", requests["example"].cast(pa.string()))
    keyed = keyed.append_column("choice", requests["choice"])
    scored = cell.set_column(cell.column_names.index("example"), "example", cell["example"].cast(pa.string()))
    joined = _joined(scored, keyed, keys)
    if not len(joined) == len(cell) == len(requests):
        raise CellError(
            f"{of['model']}/{of['checkpoint']}/{of['task']}: cell and requests have different rows."
        )
    if of["tokens"] == 0 and of["step"] > 0:
        of = {**of, "tokens": None}  # unknown
    columns = {}
    for field in SCHEMA:
        source = "tokens" if field.name == "continuation_tokens" else field.name
        if field.name in (*_CHECKPOINT, "task"):
            columns[field.name] = pa.array([of[field.name]] * len(joined), field.type)
        elif source in joined.column_names:
            columns[field.name] = joined[source].cast(field.type)
        else:
            floating = pa.types.is_floating(field.type)  # samples have no flag `greedy`
            missing = "choice" if field.name == "role" else float("nan") if floating else None
            columns[field.name] = pa.array([missing] * len(joined), field.type)
    return pa.table(columns, schema=SCHEMA)


def _joined(scored: pa.Table, requests: pa.Table, keys: "list[str]") -> pa.Table:
    """Rows of both tables with the same keys, in the order of `scored`."""
    if all(scored[key].equals(requests[key]) for key in keys):  # a cell is in the order of its requests
        for name in (n for n in requests.column_names if n not in keys):
            scored = scored.append_column(name, requests[name])
        return scored
    scored = scored.append_column("order", pa.array(range(len(scored))))
    return scored.join(requests, keys, join_type="inner").sort_by("order")


def read_examples(cells: Iterable[Mapping[str, Any]]) -> Iterable[pa.Table]:
    """Rows of cells on disk, one cell at a time.

    Each of `cells` contains model, checkpoint, step, tokens, task, and the files `cell` and `requests`.
    Requests are read once for consecutive cells of a task. Raises `CellError` for a damaged file.
    """
    current: tuple[str, pa.Table] = ("", None)
    for cell in cells:
        if current[0] != cell["requests"]:
            current = cell["requests"], read_parquet(cell["requests"], REQUESTS)
        footer = read_footer(cell["cell"], CELL)
        rows = with_choices(read_parquet(cell["cell"], schema_of(footer)), footer)
        yield examples_of(cell, rows, per_row(current[1], footer))


def write_examples(parts: Iterable[pa.Table], path: str | Path) -> int:
    """Write the examples of all cells as a stream, atomically; returns the number of rows.

    The suffix of `path` is .parquet or .csv. At most `ROWS` rows and one cell are in memory.
    """
    suffix = Path(path).suffix
    if suffix not in (".parquet", ".csv"):
        raise CellError(f"{path}: found suffix {suffix!r}, allowed: .parquet, .csv.")
    total = 0
    with atomic(path) as temporary:
        if suffix == ".csv":
            with pyarrow.csv.CSVWriter(temporary, SCHEMA) as csv:
                for part in parts:
                    csv.write_table(_for_sheets(part))
                    total += len(part)
        else:
            dictionary = [n for n in SCHEMA.names if pa.types.is_string(SCHEMA.field(n).type)]
            with pq.ParquetWriter(
                temporary, SCHEMA, compression="zstd", use_dictionary=dictionary
            ) as parquet:
                for group in _groups(parts):
                    parquet.write_table(group)
                    total += len(group)
                record = canonical_json({"kind": "examples", "rows": total})
                parquet.add_key_value_metadata({FOOTER.decode(): record})
    return total


def _for_sheets(part: pa.Table) -> pa.Table:
    """Return a table whose names of examples no spreadsheet runs as formulas."""
    at = part.column_names.index("example")
    guarded = for_sheets(part.select(["example"]).to_pandas())["example"]
    return part.set_column(at, "example", pa.array(guarded, pa.string()))


def _groups(parts: Iterable[pa.Table]) -> Iterable[pa.Table]:
    """The same rows in tables of at least `ROWS` rows."""
    current: list[pa.Table] = []
    for part in parts:
        current.append(part)
        if sum(map(len, current)) >= ROWS:
            yield pa.concat_tables(current)
            current = []
    if current:
        yield pa.concat_tables(current)
