"""Cells: read only when whole, of the expected identity, of the frozen requests."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tiny
from ebbtide.cells.cell import read_cell, write_cell, written
from ebbtide.cells.store import IDENTITY_KEY, SEAL_KEY, UNSEALED, is_whole, seal
from ebbtide.cells.validity import check_rows
from ebbtide.errors import CellError
from ebbtide.files import canonical_json
from ebbtide.tables import FOOTER as FOOTER_KEY
from ebbtide.tables import content_sha256

IDENTITY = tiny.identity()
FOOTER = {
    **{"requests": 6, "requests_sha256": "abc", "seconds": 1.5},
    **{"parameters_total": 3, "parameters_non_embedding": 2},
}


@pytest.fixture
def cell(tmp_path: Path) -> Path:
    write_cell(tiny.cell_rows(), tmp_path / "cell.parquet", IDENTITY, FOOTER)
    return tmp_path / "cell.parquet"


def test_a_cell_comes_back(cell: Path) -> None:
    rows, footer = read_cell(cell, IDENTITY, "abc")
    pd.testing.assert_frame_equal(rows.to_pandas(), tiny.cell_rows())
    assert footer["identity"] == IDENTITY
    assert footer["seconds"] == 1.5
    assert is_whole(cell, IDENTITY)


def test_a_frame_and_an_arrow_table_make_the_same_cell(cell: Path, tmp_path: Path) -> None:
    table = pa.Table.from_pandas(tiny.cell_rows(), preserve_index=False)
    write_cell(table, tmp_path / "arrow.parquet", IDENTITY, FOOTER)
    assert (tmp_path / "arrow.parquet").read_bytes() == cell.read_bytes()


def test_a_cell_is_written_without_pandas(tmp_path: Path) -> None:
    program = f"""
import sys
from ebbtide.cells.cell import write_cell
from ebbtide.tables import CELL, table_of
rows = table_of({tiny.cell_rows().to_dict("list")!r}, CELL)
write_cell(rows, sys.argv[1], {IDENTITY!r}, {FOOTER!r})
print("pandas" in sys.modules)
"""
    path = tmp_path / "cell.parquet"
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False
    )
    assert done.stdout == "False\n", done.stderr
    rows, _ = read_cell(path, IDENTITY, "abc")
    pd.testing.assert_frame_equal(rows.to_pandas(), tiny.cell_rows())


def test_a_stale_cell_says_what_differs(cell: Path) -> None:
    expected = {**IDENTITY, "dtype": "float64", "recipe": 99}
    with pytest.raises(CellError) as error:
        read_cell(cell, expected, "abc")
    assert f"{cell} is stale: dtype is 'float32', expected 'float64'; recipe is" in str(error.value)
    assert "weights" not in str(error.value)
    assert "delete the file and run snakemake" in str(error.value)


def test_a_cell_of_other_requests_is_refused(cell: Path) -> None:
    with pytest.raises(CellError, match=r"cell\.parquet is stale: its requests are abc, expected abd"):
        read_cell(cell, IDENTITY, "abd")


def test_a_cell_with_rows_missing_is_refused(cell: Path) -> None:
    write_cell(tiny.cell_rows().iloc[:4], cell, IDENTITY, FOOTER)
    with pytest.raises(CellError, match=r"cell\.parquet has 4 rows, expected 6 by its footer"):
        read_cell(cell, IDENTITY, "abc")


def test_a_truncated_cell_is_refused(cell: Path) -> None:
    cell.write_bytes(cell.read_bytes()[:-20])
    with pytest.raises(CellError, match=r"cell\.parquet is not a complete Parquet file"):
        read_cell(cell, IDENTITY, "abc")


def test_a_named_pipe_is_refused_at_once(cell: Path) -> None:
    cell.unlink()
    os.mkfifo(cell)
    with pytest.raises(CellError, match=r"cell\.parquet is a named pipe; delete the named pipe"):
        read_cell(cell, IDENTITY, "abc")


def test_a_table_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tiny.requests(tmp_path / "task.parquet")
    with pytest.raises(CellError, match=r"task\.parquet: found a table of kind 'requests', expected 'cell'"):
        read_cell(path, IDENTITY, "abc")


@pytest.mark.parametrize(
    ("column", "value", "allowed"),
    [
        ("loglikelihood", 0.5, "at most 0"),
        ("loglikelihood", np.nan, "a finite number"),
        ("loglikelihood", -np.inf, "a finite number"),
        ("loglikelihood", -0.5, "at most that of the first token"),
        ("first_token_loglikelihood", 0.2, "at most 0"),
        ("tokens", 0, "at least 1"),
        ("bytes", -1, "at least 0"),
    ],
)
def test_values_that_no_model_gives_are_refused(column: str, value: float, allowed: str, cell: Path) -> None:
    rows = tiny.cell_rows()
    rows.loc[2, column] = value
    write_unchecked(rows, cell)
    with pytest.raises(CellError) as error:
        read_cell(cell, IDENTITY, "abc")
    assert str(error.value) == (
        f"CellError: {cell}: {column}: found {value} (example 1, choice 0; 1 of 6 rows), allowed: {allowed}; "
        "delete the file and run snakemake (for many: ebbtide verify STUDY --move)."
    )


def test_repeated_rows_are_refused(cell: Path) -> None:
    rows = tiny.cell_rows()
    rows.loc[2, "choice"] = 1
    write_unchecked(rows, cell)
    with pytest.raises(
        CellError, match=r"more than one row has .*\(example, choice\) must be unique; delete"
    ):
        read_cell(cell, IDENTITY, "abc")


def test_greedy_must_be_a_flag(cell: Path) -> None:
    write_unchecked(tiny.cell_rows().assign(greedy=2), cell)
    with pytest.raises(CellError, match=r"column 'greedy' has type int64, allowed: bool; delete the file"):
        read_cell(cell, IDENTITY, "abc")


def test_rounding_is_no_damage(cell: Path) -> None:
    rows = tiny.cell_rows()
    rows.loc[2, ["loglikelihood", "first_token_loglikelihood"]] = 1e-4
    write_cell(rows, cell, IDENTITY, FOOTER)
    assert read_cell(cell, IDENTITY, "abc")[0]["loglikelihood"][2].as_py() == 1e-4


def test_an_empty_document_has_no_tokens(cell: Path) -> None:
    rows = tiny.cell_rows().assign(first_token_loglikelihood=np.nan)
    rows.loc[2, ["tokens", "loglikelihood"]] = [0, 0.0]
    write_cell(rows, cell, IDENTITY, FOOTER)
    assert len(read_cell(cell, IDENTITY, "abc")[0]) == 6


@pytest.mark.parametrize(
    "name", ["requests", "requests_sha256", "parameters_total", "parameters_non_embedding"]
)
def test_a_footer_without_an_entry_is_refused(name: str, cell: Path) -> None:
    write_cell(tiny.cell_rows(), cell, IDENTITY, {k: v for k, v in FOOTER.items() if k != name})
    with pytest.raises(CellError) as error:
        read_cell(cell, IDENTITY, "abc")
    assert f"{cell}: footer entry '{name}': it is missing, expected " in str(error.value)
    write_cell(tiny.cell_rows(), cell, IDENTITY, {**FOOTER, name: None})
    with pytest.raises(CellError, match=f"footer entry '{name}': found None, expected "):
        read_cell(cell, IDENTITY, "abc")


def test_rows_of_other_examples_or_in_another_order_are_refused(cell: Path) -> None:
    rows = tiny.cell_rows()
    check_rows(rows, rows.copy(), cell)
    with pytest.raises(
        CellError, match=r"cell\.parquet: row 1: example: found '2', expected '0' as in its task; de"
    ):
        check_rows(rows[::-1].reset_index(drop=True), rows, cell)
    with pytest.raises(CellError, match=r"cell\.parquet has 6 rows, but its task has 4; delete the file"):
        check_rows(rows, rows[:4], cell)


def test_who_wrote_a_cell_is_recorded_and_never_compared() -> None:
    assert sorted(written()) == ["host", "time", "user", "version"]
    assert all(written().values())
    assert "written" not in IDENTITY


def write_unchecked(rows: pd.DataFrame, path: Path) -> None:
    """Write a cell with any values, as somebody with other code might."""
    strings = {IDENTITY_KEY: canonical_json(IDENTITY), SEAL_KEY: UNSEALED}
    footer = {"kind": "cell", "content_sha256": content_sha256(table := pa.Table.from_pandas(rows)), **FOOTER}
    record = canonical_json({**footer, "identity": IDENTITY})
    pq.write_table(table.replace_schema_metadata({FOOTER_KEY: record, **strings}), path)
    seal(path)
