"""Whether a checkpoint directory is whole, for every way in which it may not be."""

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import formats
import tiny
from ebbtide.checkpoints.directory import locate
from ebbtide.checkpoints.formats.planning import locate_source
from ebbtide.watch.whole import why_not_whole

LATER = 1000.0  # seconds


def why(directory: Path, record: Path, *, settle: float = 60, after: float = LATER) -> str | None:
    return why_not_whole(directory, str(record), None, None, settle=settle, now=time.time() + after)


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "records/located.json"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tiny.hollow_checkpoint(tmp_path / "run/step100")


def shard(directory: Path) -> None:
    """Store the weights in two files and an index."""
    (directory / "model.safetensors").unlink()
    for name in ("a", "b"):
        save_file({name: np.ones(4, np.float32)}, directory / f"model-{name}.safetensors")
    index = {"weight_map": {name: f"model-{name}.safetensors" for name in ("a", "b")}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def test_a_complete_directory_is_whole_once_it_has_settled(directory: Path, record: Path) -> None:
    assert why(directory, record) is None
    reason = why(directory, record, after=10)
    assert reason and "its files changed 10 s ago; they must not change for 60 s" in reason
    assert why(directory, record, after=10, settle=0) is None
    assert "clocks differ" in (why(directory, record, after=-500) or "")
    shard(directory)
    assert why(directory, record) is None


def test_the_modification_time_can_be_set_back_but_does_not_count(directory: Path, record: Path) -> None:
    for path in directory.iterdir():
        os.utime(path, (1e9, 1e9))
    assert "its files changed 10 s ago" in (why(directory, record, after=10) or "")


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("config.json", "has no config.json"),
        ("model-a.safetensors", "lacks model-a.safetensors, which model.safetensors.index.json lists"),
        ("model.safetensors.index.json", "has neither model.safetensors nor"),
        ("tokenizer.json", "no tokenizer.json in"),
    ],
)
def test_a_missing_file_is_waited_for(directory: Path, record: Path, missing: str, said: str) -> None:
    shard(directory)
    (directory / missing).unlink()
    assert said in (why(directory, record) or "")


def test_a_shard_that_grows_is_waited_for(directory: Path, record: Path) -> None:
    shard(directory)
    file = directory / "model-b.safetensors"
    content = file.read_bytes()
    for size in (0, 4, 40, len(content) - 1):
        file.write_bytes(content[:size])
        assert "model-b.safetensors" in (why(directory, record) or "")
    file.write_bytes(content)
    assert why(directory, record) is None
    save_file({"c": np.ones(4, np.float32)}, file)  # of another step
    assert "assigns b to model-b.safetensors, which does not contain it" in (why(directory, record) or "")


@pytest.mark.parametrize(
    "name",
    [
        "step100/model.safetensors.tmp",
        "step100/optimizer.pt.incomplete",
        "step100/.model.safetensors.aB3xY9",  # rsync
        "step100/.model.tmp0a1b.safetensors",
        "step100/.lock",
        "step100/.cache/huggingface/download/x.incomplete",
        "step100.lock",
        ".step100.partial",
        "tmp-step100",
    ],
)
def test_temporary_files_and_locks_are_waited_for(directory: Path, record: Path, name: str) -> None:
    path = directory.parent / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    assert why(directory, record) == f"{path} is there, as while files are written"


@pytest.mark.parametrize("name", ["step100/optimizer.pt", "step100/.gitattributes", "step1000.lock"])
def test_other_files_do_not_matter(directory: Path, record: Path, name: str) -> None:
    (directory.parent / name).touch()
    assert why(directory, record) is None


def test_what_was_read_before_is_whole_until_its_weights_change(directory: Path, record: Path) -> None:
    locate(directory, record)
    (directory / "evaluation.json.tmp").touch()  # somebody else works there
    assert why(directory, record, after=0) is None
    file = directory / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    assert why(directory, record, after=0) is not None
    file.unlink()  # as trainers do that keep the last checkpoints
    assert why(directory, record, after=0) is None
    shutil.rmtree(directory.parent)  # or the disk is gone
    assert why(directory, record, after=0) is None


def test_a_directory_that_does_not_exist_is_waited_for(tmp_path: Path, record: Path) -> None:
    assert why(tmp_path / "run/step5", record) == f"{tmp_path}/run/step5 does not exist yet"


def test_a_converted_checkpoint_that_was_read_is_whole_until_its_weights_change(
    tmp_path: Path, record: Path
) -> None:
    run = formats.beside(tmp_path / "run", "llama")
    step = tmp_path / "run/step1"
    file = formats.pt(step / "a.pt", formats.tensors_of("llama"))
    reading = formats.reading("pt", config=str(run / "config.json"), tokenizer=str(run))

    def reason() -> str | None:
        return why_not_whole(step, str(record), None, reading, settle=60, now=time.time())

    assert reason() is not None
    locate_source(step, record, reading)
    assert reason() is None
    (step / "eval.json").write_text("{}")
    assert reason() is None
    formats.pt(step / "b.pt", {"more": formats.tensors_of("llama")["model.norm.weight"]})
    assert "its files changed" in (reason() or "")
    (step / "b.pt").unlink()
    assert reason() is None
    file.touch()
    assert "its files changed" in (reason() or "")
    file.unlink()  # the directory stays, with another file
    assert reason() is None
