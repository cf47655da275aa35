"""The lock: what it says, how it is written, and what is made of a damaged one."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import locks
from ebbtide.checkpoints.hub.lock import Locked, is_plain, lock_path, read_lock, write_lock
from ebbtide.errors import CheckpointError


def test_a_lock_lies_beside_its_study() -> None:
    assert lock_path("studies/mine.yaml") == Path("studies/mine.lock.json")


def test_it_reads_what_it_wrote(tmp_path: Path) -> None:
    lock = locks.lock({"main": locks.files("c"), 0: locks.files("a", "b"), 8: locks.files("c", code="x")})
    write_lock(lock, tmp_path / "s.lock.json")
    assert read_lock(tmp_path / "s.lock.json") == lock


def test_equal_locks_make_equal_bytes_and_a_line_per_file(tmp_path: Path) -> None:
    lock = locks.lock({8: locks.files("a"), 16: locks.files("b")})
    write_lock(lock, tmp_path / "one.json")
    write_lock(read_lock(tmp_path / "one.json"), tmp_path / "two.json")
    text = (tmp_path / "one.json").read_text()
    assert text == (tmp_path / "two.json").read_text()
    assert f'"model.safetensors": "{locks.sha("a")} 1000 2023-05-01",\n' in text


def test_models_that_are_not_named_are_left_out(tmp_path: Path) -> None:
    lock = locks.lock({8: locks.files("a")})
    write_lock(replace(lock, models={**lock.models, "other": lock.models["tiny"]}), tmp_path / "s.lock.json")
    assert read_lock(tmp_path / "s.lock.json", {"tiny"}).models == lock.models


def test_no_file_is_an_empty_lock(tmp_path: Path) -> None:
    assert read_lock(tmp_path / "none.json").models == {}


def checkpoint_of(document: dict[str, Any]) -> dict[str, Any]:
    return document["models"]["tiny"]["checkpoints"]["step8"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.pop("models"), "not a complete lock"),
        (lambda d: d.update(lock=2), "found version 2"),
        (lambda d: checkpoint_of(d).pop("commit"), "not a complete lock"),
        (lambda d: checkpoint_of(d)["files"].update({"../x.py": locks.sha("") + " 1"}), "../x.py"),
        (lambda d: checkpoint_of(d)["files"].update({"x.py": "md5:0 1"}), "md5:0 1"),
    ],
)
def test_a_damaged_lock_is_one_sentence(tmp_path: Path, change: Any, says: str) -> None:
    path = tmp_path / "s.lock.json"
    write_lock(locks.lock({8: locks.files("a")}), path)
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match="lock") as caught:
        read_lock(path)
    assert says in str(caught.value) and str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_lock_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "s.lock.json"
    write_lock(locks.lock({8: locks.files("a")}), path)
    path.write_text(path.read_text()[:-40])
    with pytest.raises(CheckpointError, match=r"is not readable JSON .*; restore it from version"):
        read_lock(path)


@pytest.mark.parametrize(
    "name", ["../a", "a/b", "/etc/passwd", "..", ".hidden", "a\\b", "", "a\nb", "-rf", "~a"]
)
def test_names_that_leave_their_directory_are_not_plain(name: str) -> None:
    assert not is_plain(name)


@given(st.text(max_size=20))
def test_a_plain_name_is_a_name_in_its_directory(name: str) -> None:
    if is_plain(name):
        assert (Path("d") / name).resolve().parent == Path("d").resolve()


def checkpoint(**files: str) -> Locked:
    return Locked("lab/tiny", "step8", "0" * 40, 8, locks.files("a", "b", **files))


def test_identity_follows_the_contents_alone() -> None:
    one = checkpoint()
    moved = Locked("other/name", "step9", "1" * 40, 9, one.files)
    assert moved.weights_identity("safetensors") == one.weights_identity("safetensors")
    assert checkpoint(config="other").weights_identity("safetensors") != one.weights_identity("safetensors")
    assert checkpoint(tokenizer="other").weights_identity("safetensors") == one.weights_identity(
        "safetensors"
    )
    assert checkpoint(tokenizer="other").tokenizer_identity() != one.tokenizer_identity()


def test_code_is_part_of_the_identity_only_where_it_runs() -> None:
    one, other = checkpoint(code="x = 1"), checkpoint(code="x = 2")
    assert one.weights_identity("safetensors") == other.weights_identity("safetensors")
    assert one.weights_identity("safetensors", remote_code=True) != other.weights_identity(
        "safetensors", remote_code=True
    )
    assert "modeling.py" not in one.needed("safetensors")
    assert "modeling.py" in one.needed("safetensors", remote_code=True)


def test_only_numbered_or_whole_files_are_weights() -> None:
    files = {**locks.files("a"), "adapter_model.safetensors": locks.files("b")["model.safetensors"]}
    assert Locked("r/r", "x", "0" * 40, 1, files).weights("safetensors") == ["model.safetensors"]


def test_pickled_weights_need_room_for_a_second_copy_of_a_shard() -> None:
    locked = Locked("r/r", "x", "0" * 40, 1, locks.files("a", "b", format="bin"))
    assert locked.peak_disk_bytes("bin") - locked.size("bin") >= 1000
