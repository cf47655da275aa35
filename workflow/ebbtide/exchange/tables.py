"""A table of published numbers (TSV, CSV, Parquet), as rows of the metrics table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.errors import CellError, first_line, nearest
from ebbtide.exchange.names import ours
from ebbtide.exchange.ranges import check_values
from ebbtide.exchange.runs import Resolved, Run, resolve, resolve_at
from ebbtide.exchange.specification import Specification
from ebbtide.tables import METRICS
from ebbtide.texts import from_sheets

_READERS = {".tsv": "\t", ".csv": ","}


def read_table(path: str | Path) -> pd.DataFrame:
    """A table by its suffix: .tsv, .csv or .parquet. Raises `CellError`."""
    suffix = Path(path).suffix
    try:
        if suffix == ".parquet":
            return pd.read_parquet(path)
        if suffix in _READERS:
            return from_sheets(pd.read_csv(path, sep=_READERS[suffix]))
    except (OSError, ValueError) as error:  # those of Arrow and of the parser are ValueErrors
        raise CellError(f"{path} cannot be read as {suffix} ({first_line(error)}).") from None
    raise CellError(f"{path}: found suffix {suffix!r}, allowed: .tsv, .csv, .parquet.")


def table_rows(table: pd.DataFrame, given: Specification, source: str) -> tuple[pd.DataFrame, list[Resolved]]:
    """Rows of the metrics table from a table of published numbers, and its checkpoints.

    Parameters
    ----------
    table
        The table as read; messages number its rows from 1.
    given
        The row of `imported`; `columns`, `where`, `models` and `step` describe the table.
    source
        The file, for messages.

    Raises
    ------
    CellError
        A column is missing, a value is not a finite number or out of the range of its metric, or no row of
        `models` matches a model.
    """
    columns: Mapping[str, str] = given.checked["columns"]
    known = list(map(str, table.columns))
    for key, name in {**columns, **{f"where.{c}": c for c in given.checked["where"]}}.items():
        if name not in table.columns:
            raise CellError(
                f"{source} has no column {name!r}, which {given.where}.{_key(key)} names; "
                f"found: {', '.join(known)}{nearest(name, known) or '.'}"
            )
    rows = table.assign(row=np.arange(1, len(table) + 1))
    for name, value in given.checked["where"].items():
        wanted = value if isinstance(value, list) else [value]
        rows = rows[rows[name].isin(wanted)]
    if rows.empty:
        raise CellError(f"{source}: found no row that {given.where}.where selects.")
    for name in ("model", "task", "revision", "step", "metric"):
        if name in columns:
            _no_gaps(rows, columns[name], source)
    tasks = given.tasks([str(t) for t in rows[columns["task"]].unique()], source)
    rows = rows[rows[columns["task"]].astype(str).isin(list(tasks))]
    task = rows[columns["task"]].astype(str).map(tasks)
    metric = rows[columns["metric"]].astype(str) if "metric" in columns else given.checked.get("metric", "")
    renamed = {str(m): given.checked["metrics"].get(m, ours(str(m))) for m in pd.unique(pd.Series(metric))}
    checkpoints, resolved = _checkpoint_columns(rows, columns, given, source)
    frame = pd.DataFrame(checkpoints, index=rows.index).assign(
        task=task,
        metric=metric.map(renamed) if "metric" in columns else renamed[str(metric)],
        value=_numbers(rows, columns["value"], source, gaps=False),
        stderr=_numbers(rows, columns["stderr"], source) if "stderr" in columns else np.nan,
        n=_counts(rows, columns["n"], source, gaps=True) if "n" in columns else 0,
        source="imported",
    )
    guessed = [given.chance(t, m) for t, m in zip(frame["task"], frame["metric"], strict=True)]
    frame["chance"] = _numbers(rows, columns["chance"], source) if "chance" in columns else guessed
    frame["n"] = [given.examples(t, n) for t, n in zip(frame["task"], frame["n"], strict=True)]
    percent = frame["metric"].map({m: given.percent(m) for m in frame["metric"].unique()})
    frame["value"], frame["stderr"] = frame["value"] / percent, frame["stderr"] / percent
    for number, row in zip(rows["row"], frame.to_dict("records"), strict=True):
        check_values(
            *(row[name] for name in ("metric", "value", "stderr", "chance")),
            where=f"{source}: row {number}: task {row['task']}",
            key=columns["value"],
            study=given.where,
        )
    return frame.reset_index(drop=True)[list(METRICS.columns)], resolved


def _checkpoint_columns(
    rows: pd.DataFrame, columns: Mapping[str, str], given: Specification, source: str
) -> tuple[dict[str, list[Any]], list[Resolved]]:
    """Columns of model, checkpoint, step, tokens and parameters; each pair is resolved once."""
    model = rows[columns["model"]].astype(str)
    when = rows[columns.get("step", columns.get("revision", ""))]
    if "step" in columns:
        when = pd.Series(_counts(rows, columns["step"], source), index=rows.index)
    known: dict[tuple[str, Any], Resolved] = {}
    for name, at in dict.fromkeys(zip(model, when, strict=True)):
        run = Run(name, str(at), name, source)
        known[name, at] = resolve_at(run, int(at), given) if "step" in columns else resolve(run, given)
    resolved = [known[key].row.columns() for key in zip(model, when, strict=True)]
    columns_of = {name: [row[name] for row in resolved] for name in resolved[0]}
    if "tokens" in columns:
        columns_of["tokens"] = list(_counts(rows, columns["tokens"], source, gaps=True))
    return columns_of, list(known.values())


def _no_gaps(rows: pd.DataFrame, column: str, source: str) -> None:
    if rows[column].isna().any():
        number = rows.loc[rows[column].isna(), "row"].iloc[0]
        raise CellError(f"{source}: row {number}: column {column!r} is empty.")


def _numbers(rows: pd.DataFrame, column: str, source: str, *, gaps: bool = True) -> "np.ndarray[Any, Any]":
    """A column as float64; NaN only if `gaps` is set. Raises `CellError` naming the row."""
    found = pd.to_numeric(rows[column], errors="coerce").to_numpy(dtype=float)
    wrong = ~np.isfinite(found) & (rows[column].notna().to_numpy() if gaps else True)
    if wrong.any():
        row = rows[wrong].iloc[0]
        raise CellError(
            f"{source}: row {row['row']}: column {column!r}: found {_quoted(row[column])}, "
            "allowed: a finite number."
        )
    return found


def _counts(rows: pd.DataFrame, column: str, source: str, *, gaps: bool = False) -> "np.ndarray[Any, Any]":
    """A column of whole numbers of at least 0; with `gaps`, an empty one is 0. Raises `CellError`."""
    found = _numbers(rows, column, source, gaps=gaps)
    found = np.nan_to_num(found) if gaps else found
    wrong = (found < 0) | (found != np.floor(found))
    if wrong.any():
        row = rows[wrong].iloc[0]
        raise CellError(
            f"{source}: row {row['row']}: column {column!r}: found {_quoted(row[column])}, "
            "allowed: a whole number of at least 0."
        )
    return found.astype(np.int64)


def _quoted(value: Any) -> str:
    return repr(value) if isinstance(value, str) else str(value)


def _key(key: str) -> str:
    return key if key.startswith("where.") else f"columns.{key}"
