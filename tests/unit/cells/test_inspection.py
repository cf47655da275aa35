"""Every kind of damage is found and named; what is good is not."""

import os
from pathlib import Path

import pandas as pd
import pytest

import tiny
from ebbtide.cells import store
from ebbtide.cells.cell import write_cell
from ebbtide.cells.inspection import Requests, cells_in, inspect
from ebbtide.tables import REQUESTS, read_footer, read_parquet
from reading import flip

IDENTITY = tiny.identity()


def requests_in(path: Path) -> Requests:
    return Requests(read_parquet(path, REQUESTS), read_footer(path, REQUESTS)["content_sha256"])


@pytest.fixture
def requests(tmp_path: Path) -> Requests:
    return requests_in(tiny.requests(tmp_path / "task.parquet"))


def rows_of(requests: Requests) -> pd.DataFrame:
    """Rows as scoring makes them."""
    sizes = requests.rows.to_pandas()["continuation"].str.len()
    return tiny.cell_rows().assign(bytes=sizes, characters=sizes)


@pytest.fixture
def cell(tmp_path: Path, requests: Requests) -> Path:
    path = store.path_of(tmp_path / "cells", IDENTITY)
    write(rows_of(requests), path, requests.sha256)
    return path


def write(rows: pd.DataFrame, path: Path, sha256: str) -> None:
    sizes = {"parameters_total": 3, "parameters_non_embedding": 2}
    write_cell(rows, path, IDENTITY, {"requests": len(rows), "requests_sha256": sha256, **sizes})


def test_a_good_cell_is_good(cell: Path, requests: Requests) -> None:
    assert inspect(cell) is None
    assert inspect(cell, IDENTITY, requests) is None
    assert cells_in(cell.parent) == [cell]


def test_damage_has_a_kind_and_a_reason(cell: Path, requests: Requests) -> None:
    good = cell.read_bytes()

    def found() -> tuple[str, str]:
        damage = inspect(cell, IDENTITY, requests)
        assert damage is not None
        assert damage.path == cell
        return damage.kind, damage.detail

    cell.write_bytes(good[:-20])
    kind, detail = found()
    assert (kind, detail.split("(")[0]) == ("not_a_cell", "is not a complete Parquet file ")

    cell.write_bytes(good)
    flip(cell, 100)
    kind, detail = found()
    assert (kind, detail.split("is ")[1]) == ("bytes", "damaged: its sha256 ")

    write(rows_of(requests).assign(loglikelihood=0.5), cell, requests.sha256)
    sentence = "loglikelihood: found 0.5 (example 0, choice 0; 6 of 6 rows), allowed: at most 0"
    assert found() == ("values", sentence)

    write(rows_of(requests)[::-1], cell, requests.sha256)
    assert found() == ("rows", "row 1: example: found '2', expected '0' as in its task")

    write(rows_of(requests).assign(bytes=1), cell, requests.sha256)
    assert found() == ("rows", "row 1: bytes: found 1, expected 9 as in its task")

    write(rows_of(requests), cell, "another")
    assert found() == ("rows", f"its requests are another, expected {requests.sha256}")

    cell.unlink()
    os.mkfifo(cell)
    assert found() == ("unreadable", "is a named pipe, not a file")


def test_a_cell_under_another_name_is_found(cell: Path) -> None:
    other = cell.with_name(f"{'0' * 32}.parquet")
    cell.rename(other)
    damage = inspect(other)
    assert damage is not None
    assert damage.kind == "identity"
    assert damage.detail == f"has the identity with the key {store.key(IDENTITY)}"
    damage = inspect(other, {**IDENTITY, "dtype": "float64"})
    assert damage is not None
    assert damage.detail == "dtype is 'float32', expected 'float64'"


def test_texts_beyond_ascii_have_more_bytes_than_characters(tmp_path: Path) -> None:
    requests = requests_in(tiny.requests(tmp_path / "task.parquet", [("0", 0, "a", " größer", True)]))
    cell = store.path_of(tmp_path, IDENTITY)
    write(tiny.cell_rows(1, 1).assign(bytes=9, characters=7), cell, requests.sha256)
    assert inspect(cell, IDENTITY, requests) is None
