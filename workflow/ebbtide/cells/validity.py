"""What every cell must be: a complete footer, and values that log-likelihoods can have."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ebbtide.arrow import numbers
from ebbtide.cells import samples
from ebbtide.errors import CellError
from ebbtide.tables import CELL

ROUNDING = 0.001  # nats per token that a log-likelihood may be above 0
# Entries of every footer, and their types. Parameter counts of unknown models are 0.
ENTRIES = {
    "identity": dict,
    "requests": int,
    "requests_sha256": str,
    "parameters_total": int,
    "parameters_non_embedding": int,
}


def check_footer(footer: Mapping[str, Any], path: str | Path) -> None:
    """Raise `CellError` for a footer without an entry that every cell has."""
    for name, type_ in ENTRIES.items():
        if not isinstance(footer.get(name), type_):
            found = f"found {footer[name]!r}" if name in footer else "it is missing"
            raise CellError(
                f"{path}: footer entry {name!r}: {found}, expected {type_.__name__}; {CELL.remedy}."
            )


def check_values(rows: pa.Table, footer: Mapping[str, Any], path: str | Path) -> None:
    """Raise `CellError` for rows with values that no model can give.

    An imported cell has columns of unknown values, which its footer lists as `unknown`. Rows of rolling tasks
    (documents) have no first token, and may be empty. See `cells.samples` for those of samples.
    """
    expected = footer["requests"] * samples.samples_of(footer)
    if len(rows) != expected:
        raise CellError(f"{path} has {len(rows)} rows, expected {expected} by its footer; {CELL.remedy}.")
    for wrong, column, allowed in _conditions_of(rows, footer):
        if wrong.any():
            first = int(np.argmax(wrong))
            [at] = rows.slice(first, 1).to_pylist()
            where = ", ".join(f"{name} {at[name]}" for name in samples.schema_of(footer).key)
            found = "nan" if at[column] is None else at[column]
            raise CellError(
                f"{path}: {column}: found {found} ({where}; {int(wrong.sum())} of {len(rows)} rows), "
                f"allowed: {allowed}; {CELL.remedy}."
            )


def _conditions_of(
    rows: pa.Table, footer: Mapping[str, Any]
) -> Iterator[tuple[npt.NDArray[np.bool_], str, str]]:
    """Yield which rows are wrong, in which column, and what is allowed."""
    if samples.is_sampled(footer):
        total, tokens = (numbers(rows.column(name)) for name in ("loglikelihood", "tokens"))
        yield from _of_total(total, tokens)
        yield from samples.conditions(rows, footer)
    else:
        yield from _conditions({name: numbers(rows.column(name)) for name in _USED}, footer)


def _of_total(
    total: npt.NDArray[Any], tokens: npt.NDArray[Any]
) -> Iterator[tuple[npt.NDArray[np.bool_], str, str]]:
    yield ~np.isfinite(total), "loglikelihood", "a finite number"
    yield total > ROUNDING * np.maximum(tokens, 1), "loglikelihood", "at most 0"


_USED = (
    *("loglikelihood", "first_token_loglikelihood"),
    *("tokens", "bytes", "characters", "context_tokens"),
)


def _conditions(
    columns: Mapping[str, npt.NDArray[Any]], footer: Mapping[str, Any]
) -> Iterator[tuple[npt.NDArray[np.bool_], str, str]]:
    unknown = footer.get("unknown", ())
    total, first, tokens = (columns[c] for c in ("loglikelihood", "first_token_loglikelihood", "tokens"))
    slack = ROUNDING * np.maximum(tokens, 1)
    yield from _of_total(total, tokens)
    for name in _USED[2:]:
        if name not in unknown:
            yield columns[name] < 0, name, "at least 0"
    if "tokens" not in unknown:
        yield (tokens < 1) & ((total != 0) | ~np.isnan(first)), "tokens", "at least 1"
    if "first_token_loglikelihood" not in unknown:
        yield first > ROUNDING, "first_token_loglikelihood", "at most 0"
    if "imported" not in footer:  # other tools may mean another token
        yield total > first + slack, "loglikelihood", "at most that of the first token"


def check_rows(rows: Any, requests: Any, path: str | Path) -> None:
    """Raise `CellError` unless columns or frames have the same examples and choices in the same order.

    Those of a cell of samples are from `samples.with_choices` and `samples.per_row`.
    """
    found, expected = (len(table[CELL.key[0]]) for table in (rows, requests))
    if found != expected:
        raise CellError(f"{path} has {found} rows, but its task has {expected}; {CELL.remedy}.")
    for name in CELL.key:
        of_cell, of_task = (np.asarray(table[name]) for table in (rows, requests))
        if len(other := np.flatnonzero(of_cell != of_task)):
            row = int(other[0])
            raise CellError(
                f"{path}: row {row + 1}: {name}: found {of_cell[row]!r}, expected {of_task[row]!r} as in its "
                f"task; {CELL.remedy}."
            )
