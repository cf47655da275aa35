"""Cells: read only when whole, of the expected identity, of the frozen requests."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

import tiny
from ebbtide.cells.cell import read_cell, write_cell
from ebbtide.cells.store import is_whole
from ebbtide.errors import CellError

IDENTITY = tiny.identity()
FOOTER = {"requests": 6, "requests_sha256": "abc", "seconds": 1.5}


@pytest.fixture
def cell(tmp_path: Path) -> Path:
    write_cell(tiny.cell_rows(), tmp_path / "cell.parquet", IDENTITY, FOOTER)
    return tmp_path / "cell.parquet"


def test_a_cell_comes_back(cell: Path) -> None:
    rows, footer = read_cell(cell, IDENTITY, "abc")
    pd.testing.assert_frame_equal(rows, tiny.cell_rows())
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
    pd.testing.assert_frame_equal(rows, tiny.cell_rows())


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


def test_a_table_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tiny.requests(tmp_path / "task.parquet")
    with pytest.raises(CellError, match=r"task\.parquet: found a table of kind 'requests', expected 'cell'"):
        read_cell(path, IDENTITY, "abc")
