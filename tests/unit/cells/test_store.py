"""The cell store: an identity has one name, and only a whole file of that identity counts."""

import errno
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
from ebbtide.cells.publish import publish
from ebbtide.errors import CellError
from ebbtide.files import canonical_json
from ebbtide.locks import node_lock
from ebbtide.tables import CELL, read_frame, write_parquet

IDENTITY = tiny.identity(recipe=1)


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "cell.parquet"
    counts = {"parameters_total": 0, "parameters_non_embedding": 0}
    write_cell(tiny.cell_rows(), path, IDENTITY, {"requests": 6, "requests_sha256": "0", **counts})
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


def test_what_cannot_be_read_is_not_whole_and_its_reason_is_said(
    cell: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory, a link to itself, a pipe without a writer (which must not block), an older cell."""
    (tmp_path / "directory").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "short").write_bytes(cell.read_bytes()[:-20])
    (tmp_path / "link").symlink_to(cell)
    reasons = {
        "directory": "is a directory, not a file",
        "loop": "is a link to itself",
        "pipe": "is a named pipe, not a file",
        "short": "is incomplete, or another cell",
    }
    for name, reason in reasons.items():
        assert not store.is_whole(tmp_path / name, IDENTITY)
        assert store.unusable(tmp_path / name, IDENTITY) == reason
    for good in ("missing", "link"):
        assert not store.unusable(tmp_path / good, IDENTITY)
    assert store.is_whole(tmp_path / "link", IDENTITY)

    def stale(*_: object) -> bytes:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(os, "pread", stale)
    assert not store.is_whole(cell, IDENTITY)
    assert store.unusable(cell, IDENTITY) == "cannot be read (Stale file handle)"

    def denied(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    assert not store.is_whole(cell, IDENTITY)
    assert store.unusable(cell, IDENTITY) == "cannot be read (Permission denied)"


def test_descriptors_are_closed(cell: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        store.is_whole(cell, IDENTITY)
        store.unusable(cell.parent, IDENTITY)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@given(data=st.data())
def test_a_flipped_bit_anywhere_is_found(cell: Path, data: st.DataObject) -> None:
    """Before the cell is copied; also in the footer, which no checksum of Parquet covers."""
    flipped = bytearray(cell.read_bytes())
    flipped[data.draw(st.integers(0, len(flipped) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    other = cell.with_name("flipped.parquet")
    other.write_bytes(flipped)
    target = cell.with_name("target.parquet")
    target.unlink(missing_ok=True)
    try:
        publish(other, target)
    except CellError as error:
        assert str(other) in str(error)
        assert not target.exists()
    else:  # in the seal, which is none any more: the cell is checked as one of an earlier version
        seal_at = cell.read_bytes().index(store.SEAL_KEY.encode())
        at = next(i for i, (a, b) in enumerate(zip(flipped, cell.read_bytes(), strict=True)) if a != b)
        assert seal_at - 2 <= at < seal_at + len(store.SEAL_KEY) + 4 + len(store.UNSEALED)
        assert read_frame(target, CELL).equals(read_frame(cell, CELL))


def test_a_damaged_cell_says_so(cell: Path, tmp_path: Path) -> None:
    data = bytearray(cell.read_bytes())
    data[100] ^= 1
    (tmp_path / "cell.parquet").write_bytes(data)
    with pytest.raises(
        CellError,
        match=r"cell\.parquet is damaged: its sha256 is [0-9a-f]{64}, but its footer has [0-9a-f]{64}\.$",
    ):
        publish(tmp_path / "cell.parquet", tmp_path / "target.parquet")


def test_a_cell_of_an_earlier_version_is_checked_by_its_pages(cell: Path, tmp_path: Path) -> None:
    """It has no seal."""
    footer = {"requests": 6, "requests_sha256": "0", "parameters_total": 0, "parameters_non_embedding": 0}
    strings = {store.IDENTITY_KEY: canonical_json(IDENTITY)}
    old = tmp_path / "old.parquet"
    write_parquet(tiny.cell_rows(), old, CELL, {**footer, "identity": IDENTITY}, strings=strings)
    assert store.seal_of(old.read_bytes()) is None
    assert store.is_whole(old, IDENTITY)
    publish(old, tmp_path / "target.parquet")
    data = bytearray(old.read_bytes())
    data[100] ^= 1
    old.write_bytes(data)
    with pytest.raises(CellError, match=r"old\.parquet is damaged \(could not verify page integrity.*\)\.$"):
        publish(old, tmp_path / "target.parquet")


def test_what_is_moved_aside_is_kept(tmp_path: Path) -> None:
    for content in ("first", "second"):
        (tmp_path / "a.parquet").write_text(content)
        store.set_aside(tmp_path / "a.parquet")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {
        "a.parquet.damaged": "first",
        "a.parquet.1.damaged": "second",
    }


def test_after_distrusts_older_files(cell: Path) -> None:
    written = cell.stat().st_mtime
    assert store.is_whole(cell, IDENTITY, after=written)
    assert not store.is_whole(cell, IDENTITY, after=written + 1)


def test_publish_copies_every_byte(cell: Path, tmp_path: Path) -> None:
    target = tmp_path / "results" / "task.parquet"
    publish(cell, target)
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
