"""Parquet tables: what is written can be read, and nothing else is."""

import itertools
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbtide.errors import CellError
from ebbtide.tables import (
    CELL,
    METRICS,
    REQUESTS,
    content_sha256,
    read_footer,
    read_frame,
    read_parquet,
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


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CellError, match=r"nothing\.parquet does not exist; if it is a frozen task, delete the file"):
        read_parquet(tmp_path / "nothing.parquet", REQUESTS)


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
    with pytest.raises(CellError, match=r"t\.parquet: rows hash to .*, the footer says"):
        read_parquet(file, REQUESTS)


def test_a_foreign_file_is_read_only_on_request(tmp_path: Path) -> None:
    FRAME.to_parquet(tmp_path / "mine.parquet")
    assert len(read_parquet(tmp_path / "mine.parquet", REQUESTS, foreign=True)) == 3
    for read in (read_parquet, read_footer):
        with pytest.raises(CellError, match=r"mine\.parquet was not written by Ebbtide"):
            read(tmp_path / "mine.parquet", REQUESTS)


@pytest.mark.parametrize("foreign", [True, False])
def test_the_wrong_kind_is_named(file: Path, foreign: bool) -> None:
    with pytest.raises(CellError, match=r"t\.parquet holds 'requests', expected 'cell'"):
        read_parquet(file, CELL, foreign=foreign)


def test_a_text_file_is_not_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("example,choice\n")
    with pytest.raises(CellError, match=r"a\.parquet is not a whole Parquet file"):
        read_parquet(tmp_path / "a.parquet", REQUESTS)


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        (FRAME.drop(columns="context"), r"column 'context' is missing \(found: example, choice"),
        (FRAME.assign(choice=[0.0, 1.0, 0.0]), "column 'choice' has type double, allowed: int64"),
        (FRAME.assign(context=["a", None, "b"]), "column 'context' has 1 missing values"),
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


def test_a_missing_number_is_allowed(tmp_path: Path) -> None:
    row = {"model": "m", "checkpoint": "c", "step": 1, "tokens": 1, "parameters_total": 1}
    row |= {"parameters_non_embedding": 1, "task": "t", "metric": "coverage", "value": 0.5, "n": 1}
    row |= {"stderr": float("nan"), "chance": float("nan"), "source": "scored"}
    write_parquet(pd.DataFrame([row]), tmp_path / "m.parquet", METRICS)
    assert read_frame(tmp_path / "m.parquet", METRICS)["chance"].isna().all()


def test_tsv_keeps_ten_digits_and_leaves_gaps_empty(tmp_path: Path) -> None:
    write_tsv(pd.DataFrame({"task": ["a", "b"], "t": [1 / 3, float("nan")]}), tmp_path / "t.tsv")
    assert (tmp_path / "t.tsv").read_text() == "task\tt\na\t0.3333333333\nb\t\n"
