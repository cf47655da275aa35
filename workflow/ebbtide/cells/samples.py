"""Cells of generated texts: one row per example and sample, in the place of choices.

They are cells as all others, with the same footer, identity, seal and store; their footer has `LAYOUT`.
Whoever compares cells with requests does so through `with_choices` and `per_row`, which change nothing in
other cells: the samples of an example become its choices, and each sample has the request of its prompt.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ebbtide.arrow import Columns, array_of, numbers
from ebbtide.tables import CELL, FLAG, INTEGER, REAL, TEXT, Schema
from ebbtide.tasks.generation.pipelines import is_exact

LAYOUT = "layout"  # footer entry
SAMPLED = "samples"  # its value; cells of choices lack the entry
ENDED = ("stop", "eos", "length")
SCORE = "score_"  # and the name of a classifier: its scores, from 0 to 1, NaN where it failed

SAMPLES = Schema(
    kind="cell",
    columns={
        "example": TEXT + INTEGER,
        "sample": INTEGER,  # 0 is the first of the example
        "loglikelihood": REAL,  # nats, summed over the tokens, at temperature 1 and without truncation
        "tokens": INTEGER,  # that were generated, with the end token or the one that completed a stop string
        "ended": TEXT,  # by a stop string, the end token, or the greatest number of tokens
        "text_sha256": TEXT,  # of the text in UTF-8
        "characters": INTEGER,
        "bytes": INTEGER,
        "words": INTEGER,
        "distinct_1": REAL,  # different words / words; NaN without words
        "distinct_2": REAL,
        "repetition": REAL,  # share of 4-grams of words that occurred before in the text
        "context_tokens": INTEGER,  # of the prompt
        "truncated": FLAG,
    },
    key=("example", "sample"),
    remedy=CELL.remedy,
    optional={
        "text": TEXT,  # only with decoding.keep_text
        "exact": REAL,  # 1 or 0; NaN for a sample that filters left out; only with a target
    },
)


def schema_of(footer: Mapping[str, Any]) -> Schema:
    """Return the schema of a cell, by its footer."""
    return SAMPLES if is_sampled(footer) else CELL


def is_sampled(footer: Mapping[str, Any]) -> bool:
    """Whether a cell has samples."""
    return footer.get(LAYOUT) == SAMPLED


def with_choices(rows: pa.Table, footer: Mapping[str, Any]) -> pa.Table:
    """Return the rows of a cell with the samples of each example as its choices."""
    if not is_sampled(footer):
        return rows
    return rows.rename_columns(["choice" if name == "sample" else name for name in rows.column_names])


def per_row(requests: pa.Table, footer: Mapping[str, Any]) -> pa.Table:
    """Return the requests of a cell, one for each of its rows, with the choices of `with_choices`."""
    if not is_sampled(footer):
        return requests
    place, sample = _places(len(requests), footer)
    taken = requests.take(array_of(place.tolist(), pa.int64()))
    at = taken.column_names.index("choice")
    return taken.set_column(at, "choice", array_of(sample.tolist(), pa.int64()))


def columns_per_row(requests: Columns, footer: Mapping[str, Any]) -> Columns:
    """Return what `per_row` returns, of columns."""
    if not is_sampled(footer):
        return requests
    place, sample = _places(len(requests["choice"]), footer)
    return {name: values[place] for name, values in requests.items()} | {"choice": sample}


def _places(requests: int, footer: Mapping[str, Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The number of the request, and of the sample, of each row."""
    place = np.arange(requests * samples_of(footer))
    return place // samples_of(footer), place % samples_of(footer)


def samples_of(footer: Mapping[str, Any]) -> int:
    """Return the number of rows of each request."""
    return int(footer.get("decoding", {}).get("samples", 0)) if is_sampled(footer) else 1


def conditions(rows: pa.Table, footer: Mapping[str, Any]) -> Iterator[tuple[npt.NDArray[np.bool_], str, str]]:
    """Yield which rows have values that no sample has, in which column, and what is allowed."""
    for name in ("tokens", "characters", "bytes", "words", "context_tokens"):
        yield numbers(rows.column(name)) < 0, name, "at least 0"
    most = footer.get("decoding", {}).get("max_tokens", 0)
    yield numbers(rows.column("tokens")) > most, "tokens", f"at most {most}, max_tokens of the footer"
    yield _values(rows, "sample") >= samples_of(footer), "sample", f"below {samples_of(footer)}"
    yield ~np.isin(_values(rows, "ended"), ENDED), "ended", ", ".join(ENDED)
    scores = [name for name in rows.column_names if name.startswith(SCORE)]
    for name in ("distinct_1", "distinct_2", "repetition", *scores):
        values = numbers(rows.column(name))
        yield (values < 0) | (values > 1), name, "0 to 1"
    for name in filter(is_exact, rows.column_names):
        exact = numbers(rows.column(name))
        yield ~(np.isnan(exact) | (exact == 0) | (exact == 1)), name, "0 or 1"
    if "text" in rows.column_names:
        found = [hashlib.sha256(text.encode()).hexdigest() for text in rows.column("text").to_pylist()]
        yield np.array(found) != _values(rows, "text_sha256"), "text_sha256", "the sha256 of the text"


def _values(rows: pa.Table, name: str) -> npt.NDArray[Any]:
    return np.array(rows.column(name).to_pylist())
