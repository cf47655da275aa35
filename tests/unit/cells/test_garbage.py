"""Only what no study refers to is garbage, and only when it is old enough."""

import os
from pathlib import Path
from typing import IO

import pytest

from ebbtide.cells.garbage import DAY, HOUR, garbage, remove
from ebbtide.locks import shared_lock, try_lock

NOW = 1_000 * DAY
KEPT, OTHER = "a" * 32, "b" * 32


def put(path: Path, age: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"1234")
    os.utime(path, (NOW - age, NOW - age))
    return path


def found(store: Path, older_than: float = 6 * HOUR) -> dict[str, str]:
    items = garbage(store, {KEPT}, {"sampled:used", "converted:made"}, now=NOW, older_than=older_than)
    return {str(item.path.relative_to(store)): item.reason for item in items}


def test_cells_of_named_studies_and_new_cells_are_kept(tmp_path: Path) -> None:
    put(tmp_path / f"{KEPT}.parquet", 900 * DAY)
    put(tmp_path / f"{OTHER}.parquet", 5 * HOUR)
    put(tmp_path / "notes.txt", 900 * DAY)
    (tmp_path / f"{'c' * 32}.parquet").mkdir()
    assert found(tmp_path) == {}
    assert found(tmp_path, 4 * HOUR) == {f"{OTHER}.parquet": "cell of no study named"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (f"{KEPT}.tried", "left over (tried)"),
        (f"{KEPT}.failed", "left over (failed)"),
        (f"{KEPT}.parquet.damaged", "left over (damaged)"),
        (f"{KEPT}.parquet.1.damaged", "left over (damaged)"),
        (f"{OTHER}.unchecked.parquet", "left over (unchecked)"),
        (f"{OTHER}.refuted.parquet", "left over (refuted)"),
        (f".{KEPT}.tmp0123456789ab.parquet", "temporary file of a killed job"),
        ("weights/old.json", "digests of unused weights"),
        (".locks/a.lock", "lock that no process holds"),
    ],
)
def test_leftovers_are_garbage_after_a_day(name: str, reason: str, tmp_path: Path) -> None:
    put(tmp_path / name, 23 * HOUR)
    assert found(tmp_path, 0) == {}
    put(tmp_path / name, 25 * HOUR)
    assert found(tmp_path) == {name: reason}
    assert found(tmp_path, 26 * HOUR) == {}


def test_what_a_named_study_needs_is_no_leftover(tmp_path: Path) -> None:
    """A finished cell whose check died is not lost, and a refuted cell is remembered."""
    digests = ("weights/used.json", "weights/made.json")
    for name in (f"{KEPT}.unchecked.parquet", f"{KEPT}.refuted.parquet", *digests):
        put(tmp_path / name, 900 * DAY)
    assert found(tmp_path) == {}


def test_load_proofs_are_kept_with_the_checkpoints_of_named_studies(tmp_path: Path) -> None:
    put(tmp_path / f"proofs/{KEPT}.json", 900 * DAY)
    put(tmp_path / f"proofs/{OTHER}.json", 7 * HOUR)
    assert found(tmp_path) == {f"proofs/{OTHER}.json": "load proof of no study named"}


def test_encoded_requests_are_garbage_after_a_month(tmp_path: Path) -> None:
    put(tmp_path / "encoded/a.safetensors", 29 * DAY)
    put(tmp_path / "encoded/b.safetensors", 31 * DAY)
    assert found(tmp_path) == {"encoded/b.safetensors": "encoded requests, of an unknown study"}


def test_a_lock_that_is_held_is_neither_listed_nor_removed(tmp_path: Path) -> None:
    taken, problem = shared_lock(tmp_path, "weights", waiting=fail_to_wait)
    assert taken is not None
    assert problem is None
    [path] = (tmp_path / ".locks").iterdir()
    os.utime(path, (NOW - 9 * DAY, NOW - 9 * DAY))
    with taken:
        assert found(tmp_path) == {}
    [item] = garbage(tmp_path, set(), set(), now=NOW, older_than=HOUR)
    with shared_lock(tmp_path, "weights", waiting=fail_to_wait)[0] or pytest.fail():
        assert not remove(item)
        assert path.exists()
    assert remove(item)
    assert not path.exists()


def fail_to_wait(path: Path) -> None:
    pytest.fail(f"{path} is held")


def test_a_lock_file_removed_while_it_is_opened_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock of a removed file would exclude nobody."""
    removed = []

    def remove_first(file: IO[bytes]) -> bool:
        if not removed:
            [path] = (tmp_path / ".locks").iterdir()
            removed.append(path.unlink())
        return try_lock(file)

    monkeypatch.setattr("ebbtide.locks.try_lock", remove_first)
    file, problem = shared_lock(tmp_path, "weights", waiting=fail_to_wait)
    assert file is not None
    assert problem is None
    with file:
        [path] = (tmp_path / ".locks").iterdir()
        assert os.fstat(file.fileno()).st_ino == path.stat().st_ino


def test_what_was_written_since_it_was_listed_is_not_removed(tmp_path: Path) -> None:
    path = put(tmp_path / f"{OTHER}.parquet", DAY)
    [item] = garbage(tmp_path, set(), set(), now=NOW, older_than=HOUR)
    put(path, 0)
    assert not remove(item)
    assert path.exists()
    put(path, DAY)
    assert remove(item)
    assert not path.exists()
    assert remove(item)  # somebody else was faster
