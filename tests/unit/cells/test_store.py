"""The cell store: an identity has one name, and only a whole file of that identity counts."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny
from ebbtide.cells import store
from ebbtide.cells.cell import write_cell
from ebbtide.files import node_lock

IDENTITY = tiny.identity(recipe=1)


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "cell.parquet"
    write_cell(tiny.cell_rows(), path, IDENTITY, {"requests": 6, "requests_sha256": "0"})
    return path


def test_the_name_of_an_identity_is_stable() -> None:
    """A store outlives versions: when this fails, every cell of every user is scored again."""
    assert store.key(IDENTITY) == "7dbaf3e21bbf83006af888acdc74bf81"
    assert store.path_of("cells", IDENTITY) == Path("cells") / f"{store.key(IDENTITY)}.parquet"


@given(name=st.sampled_from(sorted(IDENTITY)), value=st.text() | st.integers() | st.none())
def test_every_part_of_an_identity_counts(name: str, value: object) -> None:
    changed = {**IDENTITY, name: value}
    assert (store.key(changed) == store.key(IDENTITY)) == (value == IDENTITY[name])
    assert store.key(dict(reversed(changed.items()))) == store.key(changed)


def test_a_whole_cell_is_whole(cell: Path) -> None:
    assert store.is_whole(cell, IDENTITY)
    assert store.is_whole(cell, dict(reversed(IDENTITY.items())))


def test_another_identity_is_not(cell: Path) -> None:
    assert not store.is_whole(cell, {**IDENTITY, "weights": "files:1"})
    assert not store.is_whole(cell, {k: v for k, v in IDENTITY.items() if k != "max_length"})


def test_a_missing_file_is_not_whole(tmp_path: Path) -> None:
    assert not store.is_whole(tmp_path / "none.parquet", IDENTITY)


@given(data=st.data())
def test_a_file_cut_anywhere_is_not_whole(cell: Path, data: st.DataObject) -> None:
    whole = cell.read_bytes()
    cut = cell.with_name("cut.parquet")
    cut.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    assert not store.is_whole(cut, IDENTITY)


def test_a_file_without_its_beginning_is_not_whole(cell: Path) -> None:
    short = cell.with_name("short.parquet")
    short.write_bytes(cell.read_bytes()[100:])
    assert not store.is_whole(short, IDENTITY)


def test_a_file_whose_last_bytes_are_not_parquet_is_not_whole(cell: Path) -> None:
    other = cell.with_name("other.parquet")
    other.write_bytes(cell.read_bytes()[:-4] + b"PARE")
    assert not store.is_whole(other, IDENTITY)


def test_after_distrusts_older_files(cell: Path) -> None:
    written = cell.stat().st_mtime
    assert store.is_whole(cell, IDENTITY, after=written)
    assert not store.is_whole(cell, IDENTITY, after=written + 1)


@pytest.mark.parametrize("fast", [True, False], ids=["copy_file_range", "plain"])
def test_publish_copies_every_byte(
    cell: Path, tmp_path: Path, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not fast:

        def refuse(*_: object) -> int:
            raise OSError(18, "Invalid cross-device link")

        monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)
    target = tmp_path / "results" / "task.parquet"
    store.publish(cell, target)
    assert target.read_bytes() == cell.read_bytes()
    assert target.stat().st_ino != cell.stat().st_ino  # a copy: damage to one does not reach the other
    assert target.stat().st_nlink == 1


def test_the_mark_lies_beside_the_cell() -> None:
    assert store.attempt_mark("cells", IDENTITY).parent == Path("cells")
    assert store.attempt_mark("cells", IDENTITY).stem == store.key(IDENTITY)


def test_a_lock_is_held_until_it_is_closed(tmp_path: Path) -> None:
    with node_lock(tmp_path, "model") as held, Path(held.name).open("rb") as other:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        node_lock(tmp_path, "another model").close()  # does not wait

    with Path(held.name).open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_process_that_inherits_the_lock_keeps_it(tmp_path: Path) -> None:
    """A killed lead must not free the lock under its living worker."""
    with node_lock(tmp_path, "model") as held:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1, pass_fds=[held.fileno()])
    with Path(held.name).open("rb") as other:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        child.communicate(b"\n")
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
