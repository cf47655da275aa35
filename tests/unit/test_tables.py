"""Parquet tables: what is written can be read, and nothing else is."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbtide.errors import CellError
from ebbtide.scoring.documents import DOCUMENTS, LOSSES
from ebbtide.tables import (
    CELL,
    FOOTER,
    METRICS,
    REQUESTS,
    TOKENS,
    Schema,
    content_sha256,
    read_footer,
    read_frame,
    read_parquet,
    read_tsv,
    table_of,
    write_parquet,
    write_tsv,
)

FRAME = pd.DataFrame(
    {
        "example": ["a", "a", "b"],
        "choice": [0, 1, 0],
        "context": ["x" * 50, "", "é"],
        "continuation": ["p", "q", "r"],
        "weight": [0.5, float("nan"), 1.0],
    }
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_parquet(FRAME, tmp_path / "t.parquet", REQUESTS, {"task": "t"})
    return tmp_path / "t.parquet"


def test_rows_and_footer_come_back(file: Path) -> None:
    pd.testing.assert_frame_equal(read_frame(file, REQUESTS), FRAME)
    footer = read_footer(file, REQUESTS)
    assert footer["task"] == "t"
    assert footer["kind"] == "requests"
    assert footer["content_sha256"] == content_sha256(read_parquet(file, REQUESTS))


def test_equal_rows_make_equal_bytes(file: Path, tmp_path: Path) -> None:
    write_parquet(FRAME.copy(), tmp_path / "again.parquet", REQUESTS, {"task": "t"})
    table = pa.Table.from_pandas(FRAME)  # another way to hold the same rows, with pandas metadata
    write_parquet(table, tmp_path / "arrow.parquet", REQUESTS, {"task": "t"})
    assert (tmp_path / "again.parquet").read_bytes() == file.read_bytes()
    assert (tmp_path / "arrow.parquet").read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    "extra",
    [
        pd.Series([["u"], ["v", "w"], []]),
        pd.Series(["u", "v", "u"], dtype="category"),
        pd.Series([True, None, False], dtype="boolean"),
        pd.to_datetime(pd.Series(["2020-01-01", "2021-01-01", None])),
    ],
    ids=["lists", "categories", "flags with a gap", "dates with a gap"],
)
def test_columns_of_any_type_can_be_read_back(extra: pd.Series, tmp_path: Path) -> None:
    write_parquet(FRAME.assign(extra=extra), tmp_path / "t.parquet", REQUESTS)
    found = read_frame(tmp_path / "t.parquet", REQUESTS)["extra"]
    assert next(None if v is None or v is pd.NaT else v for v in found.tolist()) is not None
    assert len(found) == 3


def test_a_directory_with_an_equals_sign_adds_no_column(tmp_path: Path) -> None:
    write_parquet(FRAME, tmp_path / "size=70m" / "t.parquet", REQUESTS)
    assert (
        read_frame(tmp_path / "size=70m" / "t.parquet", REQUESTS).columns.tolist() == FRAME.columns.tolist()
    )


@given(cuts=st.lists(st.integers(0, 3), max_size=3))
def test_content_hash_does_not_depend_on_chunks(cuts: list[int]) -> None:
    table = pa.Table.from_pandas(FRAME, preserve_index=False)
    edges = sorted([0, *cuts, 3])
    pieces = [table.slice(a, b - a) for a, b in itertools.pairwise(edges)]
    assert content_sha256(pa.concat_tables(pieces)) == content_sha256(table.combine_chunks())


@pytest.mark.parametrize(
    "other",
    [
        FRAME.assign(choice=[0, 2, 0]),
        FRAME.assign(example=["aa", "", "b"]),  # the same letters, cut elsewhere
        FRAME.assign(weight=[0.5, 1.0, float("nan")]),
        FRAME.rename(columns={"weight": "height"}),
        FRAME.iloc[[1, 0, 2]],
        FRAME.iloc[:2],
    ],
)
def test_content_hash_sees_every_change(other: pd.DataFrame) -> None:
    tables = [pa.Table.from_pandas(frame, preserve_index=False) for frame in (FRAME, other)]
    assert content_sha256(tables[0]) != content_sha256(tables[1])


def test_the_content_hash_of_rows_is_stable() -> None:
    """Cells carry the hash of the requests they scored: when this fails, all of them are refused."""
    frame = FRAME.assign(flag=[True, False, True], day=pd.to_datetime(["2020-01-01", None, "2021-01-01"]))
    table = pa.Table.from_pandas(frame, preserve_index=False)
    assert content_sha256(table) == "191fe5d9f48ffb3f81c464802074c37a49c4eeab7056a2f533bae5bdf66b4ac4"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The remedy for a damaged file is to delete it; that cannot help here."""
    path = tmp_path / "nothing.parquet"
    for schema in (REQUESTS, CELL, TOKENS, DOCUMENTS, LOSSES, METRICS):
        with pytest.raises(CellError, match=r"nothing\.parquet does not exist; ") as error:
            read_parquet(path, schema)
        assert "delete" not in str(error.value)
    with pytest.raises(CellError) as error:
        read_parquet(path, REQUESTS)
    assert str(error.value) == (
        f"CellError: {path} does not exist; correct the path; if it is a frozen task, "
        "run snakemake to make it."
    )


def test_a_file_cut_anywhere_is_not_read(file: Path, tmp_path: Path) -> None:
    whole, cut = file.read_bytes(), tmp_path / "cut.parquet"
    for length in range(0, len(whole), 7):
        cut.write_bytes(whole[:length])
        with pytest.raises(CellError, match=r"cut\.parquet"):
            read_parquet(cut, REQUESTS)


def test_a_damaged_byte_is_found_or_harmless(file: Path, tmp_path: Path) -> None:
    whole, damaged = file.read_bytes(), tmp_path / "damaged.parquet"
    places = range(0, len(whole), 7)
    found = 0
    for place in places:
        damaged.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            frame = read_frame(damaged, REQUESTS)
        except CellError as error:
            assert "damaged.parquet" in str(error)
            found += 1
        else:  # statistics and the name of the writer do not matter
            pd.testing.assert_frame_equal(frame, FRAME)
    assert found > len(places) / 2


def test_edited_rows_are_found(file: Path) -> None:
    table = pq.read_table(file)
    table = table.set_column(1, "choice", pa.array([0, 1, 7]))
    pq.write_table(table.replace_schema_metadata(pq.read_metadata(file).metadata), file)
    with pytest.raises(CellError, match=r"t\.parquet: the rows have the sha256 .*, the footer has"):
        read_parquet(file, REQUESTS)


def test_a_foreign_file_is_read_only_on_request(tmp_path: Path) -> None:
    FRAME.to_parquet(tmp_path / "mine.parquet")
    assert len(read_parquet(tmp_path / "mine.parquet", REQUESTS, foreign=True)) == 3
    for read in (read_parquet, read_footer):
        with pytest.raises(CellError, match=r"mine\.parquet was not written by Ebbtide"):
            read(tmp_path / "mine.parquet", REQUESTS)


OTHER_TEXTS = {
    "large": pa.large_string(),
    "view": pa.string_view(),
    "dictionary": pa.dictionary(pa.int32(), pa.string()),
    "dictionary of large": pa.dictionary(pa.uint8(), pa.large_string()),
}
OTHER_NUMBERS = {
    "int8": pa.int8(),
    "int32": pa.int32(),
    "uint32": pa.uint32(),
    "uint64": pa.uint64(),
    "hugeint": pa.decimal128(38, 0),
}


@pytest.mark.parametrize("number", OTHER_NUMBERS.values(), ids=OTHER_NUMBERS)
@pytest.mark.parametrize("text", OTHER_TEXTS.values(), ids=OTHER_TEXTS)
def test_requests_of_other_programs_are_read(text: pa.DataType, number: pa.DataType, tmp_path: Path) -> None:
    """Equal rows are equal requests, in whatever layout Polars or DuckDB write them."""
    plain = pa.Table.from_pandas(FRAME.drop(columns="weight"), preserve_index=False)
    other = plain
    for index, name in enumerate(plain.column_names):
        column = plain.column(name)
        if name == "choice":
            other = other.set_column(index, name, column.cast(number))
        else:
            encoded = column.dictionary_encode() if pa.types.is_dictionary(text) else column
            other = other.set_column(index, name, encoded.cast(text))
    pq.write_table(other, tmp_path / "mine.parquet")
    found = read_parquet(tmp_path / "mine.parquet", REQUESTS, foreign=True)
    assert found.to_pylist() == plain.to_pylist()
    assert content_sha256(found) == content_sha256(plain)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (pa.array([2**63, 1, 0], pa.uint64()), "column 'choice' has type uint64, allowed: int64; cast it"),
        (pa.array(["0", "1", "0"]), "column 'choice' has type string, allowed: int64; cast it"),
        (pa.array([0, None, 0], pa.int32()), "column 'choice' has 1 missing values, the first in row 2"),
        (pa.nulls(3), "column 'choice' has type null, allowed: int64; cast it"),
    ],
    ids=["too large", "text", "gap", "nothing"],
)
def test_a_column_that_cannot_be_converted_is_named(values: pa.Array, sentence: str, tmp_path: Path) -> None:
    table = pa.Table.from_pandas(FRAME, preserve_index=False)
    pq.write_table(table.set_column(1, "choice", values), tmp_path / "mine.parquet")
    with pytest.raises(CellError, match=rf"mine\.parquet: {sentence}"):
        read_parquet(tmp_path / "mine.parquet", REQUESTS, foreign=True)


def test_text_that_is_not_utf_8_is_an_error(tmp_path: Path) -> None:
    table = pa.Table.from_pandas(FRAME, preserve_index=False)
    latin = pa.array([b"caf\xe9", b"a", b"b"], pa.binary()).cast(pa.string(), safe=False)
    pq.write_table(table.set_column(2, "context", latin), tmp_path / "mine.parquet")
    with pytest.raises(CellError, match=r"mine\.parquet is damaged \(.*UTF8"):
        read_parquet(tmp_path / "mine.parquet", REQUESTS, foreign=True)


@pytest.mark.parametrize("foreign", [True, False])
def test_the_wrong_kind_is_named(file: Path, foreign: bool) -> None:
    with pytest.raises(CellError, match=r"t\.parquet: found a table of kind 'requests', expected 'cell'"):
        read_parquet(file, CELL, foreign=foreign)


def test_a_text_file_is_not_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("example,choice\n")
    with pytest.raises(CellError, match=r"a\.parquet is not a complete Parquet file"):
        read_parquet(tmp_path / "a.parquet", REQUESTS)


@pytest.mark.parametrize(("make", "kind"), [(os.mkdir, "directory"), (os.mkfifo, "named pipe")])
def test_the_remedy_names_what_is_in_the_place_of_a_file(
    make: Callable[[Path], None], kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.parquet"
    make(path)
    with pytest.raises(CellError) as caught:
        read_parquet(path, METRICS)
    remedy = f"delete the {kind} and run snakemake"
    assert str(caught.value) == f"CellError: {path} is a {kind}; {remedy}."


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        (FRAME.drop(columns="context"), r"column 'context' is missing \(found: example, choice"),
        (FRAME.assign(choice=[0.0, 1.0, 0.0]), "column 'choice' has type double, allowed: int64; cast it"),
        (
            FRAME.assign(context=["a", None, "b"]),
            "column 'context' has 1 missing values, the first in row 2; fill them, or drop these rows",
        ),
        (FRAME.assign(choice=[0, 0, 0]), r"more than one row has \{'example': 'a', 'choice': 0\}"),
    ],
)
def test_a_table_that_breaks_its_schema_is_neither_written_nor_read(
    frame: pd.DataFrame, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(CellError, match=rf"a\.parquet: {sentence}"):
        write_parquet(frame, tmp_path / "a.parquet", REQUESTS)
    assert not list(tmp_path.iterdir())

    frame.to_parquet(tmp_path / "b.parquet")
    with pytest.raises(CellError, match=rf"b\.parquet: {sentence}"):
        read_parquet(tmp_path / "b.parquet", REQUESTS, foreign=True)


def test_the_first_repeated_row_is_named() -> None:
    keys = {"example": ["a", "b", "c", "b", "a"], "choice": [0, 1, 0, 1, 0]}
    rows = table_of({**keys, "context": [""] * 5, "continuation": ["x"] * 5}, REQUESTS)
    with pytest.raises(CellError, match=r"more than one row has \{'example': 'b', 'choice': 1\}"):
        write_parquet(rows, "a.parquet", REQUESTS)


COLUMNS = {
    "example": ["a", "a", "é"],
    "choice": [0, 1, 0],
    "place": [0, 0, 0],
    "token": [7, 7, 2],
    "text": [" a", "", "�"],
    "loglikelihood": [-1.5, -2, 0.0],
    "rank": [1, 2, 30000],
}


@pytest.mark.parametrize(
    ("schema", "columns"),
    [
        (TOKENS, COLUMNS),
        (TOKENS, {**COLUMNS, "example": [3, 3, 4]}),
        (TOKENS, {name: [] for name in COLUMNS}),
        (DOCUMENTS, {"document": ["x", "y"], "text": ["one two", ""]}),
        (
            LOSSES,
            {
                **{"document": [1, 2], "loglikelihood": [-9.5, 0.0], "tokens": [3, 0]},
                **{"bytes": [7, 0], "words": [2, 0], "windows": [1, 0]},
            },
        ),
    ],
    ids=["tokens", "numbered examples", "no rows", "documents", "losses"],
)
def test_a_table_made_of_lists_comes_back(schema: Schema, columns: dict[str, list], tmp_path: Path) -> None:
    write_parquet(table_of(columns, schema), tmp_path / "t.parquet", schema)
    found = read_parquet(tmp_path / "t.parquet", schema)
    pd.testing.assert_frame_equal(found.to_pandas(), pa.table(columns, found.schema).to_pandas())
    write_parquet(pa.table(columns, found.schema).to_pandas(), tmp_path / "frame.parquet", schema)
    assert read_footer(tmp_path / "frame.parquet", schema) == read_footer(tmp_path / "t.parquet", schema)


def test_a_column_of_another_table_is_taken_as_it_is() -> None:
    documents = table_of({"document": [5, 6, 7], "text": ["a", "b", "c"]}, DOCUMENTS).slice(1)
    counts = {name: [1, 2] for name in ("tokens", "bytes", "words", "windows")}
    losses = table_of({"document": documents["document"], "loglikelihood": [-1.0, -2.0], **counts}, LOSSES)
    assert losses["document"].to_pylist() == [6, 7]


@pytest.mark.parametrize(
    ("name", "values"), [("place", [0.5]), ("place", [None]), ("rank", [2**64]), ("loglikelihood", [None])]
)
def test_a_list_that_its_column_cannot_hold_is_refused(name: str, values: list[object]) -> None:
    with pytest.raises(TypeError):
        table_of({name: values}, TOKENS)


def test_an_arrow_table_goes_to_disk_and_back_without_pandas(tmp_path: Path) -> None:
    """Its import is half a second in every process that scores."""
    program = f"""
import sys
from ebbtide.tables import TOKENS, read_footer, read_parquet, table_of, write_parquet
rows = table_of({COLUMNS!r}, TOKENS)
write_parquet(rows, sys.argv[1], TOKENS)
assert read_parquet(sys.argv[1], TOKENS).equals(rows)
read_footer(sys.argv[1], TOKENS)
print("pandas" in sys.modules)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "t.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "False\n", done.stderr


def test_a_missing_number_is_allowed(tmp_path: Path) -> None:
    row = {"model": "m", "checkpoint": "c", "step": 1, "tokens": 1, "parameters_total": 1}
    row |= {"parameters_active": 1, "parameters_nominal": 0}
    row |= {"parameters_non_embedding": 1, "task": "t", "metric": "coverage", "value": 0.5, "n": 1}
    row |= {"stderr": float("nan"), "chance": float("nan"), "source": "scored"}
    write_parquet(pd.DataFrame([row]), tmp_path / "m.parquet", METRICS)
    assert read_frame(tmp_path / "m.parquet", METRICS)["chance"].isna().all()


def test_tsv_keeps_ten_digits_and_leaves_gaps_empty(tmp_path: Path) -> None:
    write_tsv(pd.DataFrame({"task": ["a", "b"], "t": [1 / 3, float("nan")]}), tmp_path / "t.tsv")
    assert (tmp_path / "t.tsv").read_text() == "task\tt\na\t0.3333333333\nb\t\n"


def test_only_an_empty_field_of_a_tsv_is_missing(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "model": ["1", "007"],
            "task": ["NA", "null"],
            "t": [float("nan"), -1.5],
            "form": ["nan", None],
            "note": ["", "none"],
        }
    )
    write_tsv(table, tmp_path / "t.tsv")
    pd.testing.assert_frame_equal(read_tsv(tmp_path / "t.tsv"), table, check_dtype=False)
    write_tsv(table[["t", "note"]].iloc[:1], tmp_path / "t.tsv")
    [row] = read_tsv(tmp_path / "t.tsv").to_dict("records")
    assert np.isnan(row["t"]) and row["note"] == ""
    write_tsv(table[["t"]], tmp_path / "t.tsv")
    assert list(read_tsv(tmp_path / "t.tsv")["t"].isna()) == [True, False]


def test_a_tsv_cut_anywhere_in_a_row_is_not_read(tmp_path: Path) -> None:
    """Half a number is a number, and half a header a table without rows."""
    file = tmp_path / "t.tsv"
    write_tsv(pd.DataFrame({"task": ["a", "b"], "value": [0.125, 0.25], "note": ["x\ny", "z"]}), file)
    whole = file.read_bytes()
    ends_of_rows = {0, whole.index(b"\n") + 1, whole.rindex(b"\nb") + 1}
    for cut in set(range(len(whole))) - ends_of_rows:
        file.write_bytes(whole[:cut])
        with pytest.raises(CellError, match="is not a whole table"):
            read_tsv(file)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is not a whole table (it is empty); if it is in results, delete it and run snakemake."),
        (b"task\n\xff\xfe\n", "is not a whole table ('utf-8' codec can't decode"),
        (b"task\tn\na\t1\t2\nb\t1\t2\t3\n", "is not a whole table (Expected 3 fields in line 3, saw 4)"),
        (None, "does not exist; run snakemake to make it."),
    ],
)
def test_a_file_that_is_no_tsv_is_one_sentence(content: bytes | None, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "t.tsv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CellError) as caught:
        read_tsv(file)
    assert f"CellError: {file} {sentence}" in str(caught.value)


def test_a_directory_in_the_place_of_a_tsv_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CellError, match=r"cannot be read \(it is a directory, not a regular file\)"):
        read_tsv(tmp_path)


def test_a_file_that_is_no_table_is_not_told_to_be_deleted(tmp_path: Path) -> None:
    definition = tmp_path / "mine.yaml"
    definition.write_text("kind: choice\n")
    with pytest.raises(CellError) as caught:
        read_footer(definition, REQUESTS)
    assert str(caught.value) == (
        f"CellError: {definition} is not a Parquet file; expected a table of requests, such as NAME.parquet."
    )


def changed(path: Path, column: str, values: list[object]) -> None:
    """Rewrite a file with other values in one column, and its footer as it was."""
    table = pq.read_table(path)
    place = table.column_names.index(column)
    field = table.schema.field(column)
    pq.write_table(table.set_column(place, field, pa.array(values, field.type)), path)


def test_some_columns_are_read_and_checked_without_the_others(tmp_path: Path) -> None:
    path = tmp_path / "requests.parquet"
    rows = {"example": ["a", "a"], "choice": [0, 1], "context": ["é", "q"], "continuation": [" x", " y"]}
    write_parquet(pd.DataFrame(rows).assign(gold=[True, False]), path, REQUESTS)

    def read() -> pa.Table:
        return read_parquet(path, REQUESTS, wanted=lambda name: name not in ("context", "continuation"))

    assert read().drop_columns(["gold"]).to_pydict() == {"example": ["a", "a"], "choice": [0, 1]}
    changed(path, "context", ["other", "q"])
    assert read().column_names == ["example", "choice", "gold"]  # its own columns are as written
    with pytest.raises(CellError, match="the rows have the sha256"):
        read_parquet(path, REQUESTS)
    changed(path, "gold", [False, True])
    with pytest.raises(
        CellError, match=r"requests\.parquet: the column 'gold' has the sha256 .* frozen task"
    ):
        read()


def test_a_file_without_digests_of_columns_is_read_and_checked_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "requests.parquet"
    rows = {"example": ["a"], "choice": [0], "context": ["q"], "continuation": [" x"]}
    write_parquet(pd.DataFrame(rows), path, REQUESTS)
    table = pq.read_table(path)
    record = json.loads(table.schema.metadata[FOOTER])
    del record["columns_sha256"]
    pq.write_table(table.replace_schema_metadata({FOOTER: json.dumps(record).encode()}), path)
    assert read_parquet(path, REQUESTS, wanted=lambda name: name == "choice").column_names == ["choice"]
    changed(path, "context", ["other"])
    with pytest.raises(CellError, match="the rows have the sha256"):
        read_parquet(path, REQUESTS, wanted=lambda name: name == "choice")
