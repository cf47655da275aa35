"""`generation_config.json`, `chat_template.jinja`: in the identity of generated cells, and of no others."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import tiny
from ebbtide.checkpoints.average_weights import write_average
from ebbtide.checkpoints.directory import identities, locate
from ebbtide.checkpoints.hub.digests import digest_of
from ebbtide.checkpoints.hub.generation import GENERATION, generation_identity
from ebbtide.checkpoints.hub.lock import Locked, LockedFile
from ebbtide.checkpoints.verification import check_before_loading, check_generation
from ebbtide.errors import CheckpointError
from ebbtide.study.load import read_study
from task_data import define

CONFIG, TEMPLATE = GENERATION


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    directory = tiny.hollow_checkpoint(tmp_path / "run/step1")
    for name in GENERATION:
        (directory / name).unlink(missing_ok=True)
    return directory


def write(checkpoint: Path, **files: str) -> None:
    for name, text in files.items():
        (checkpoint / {"config": CONFIG, "template": TEMPLATE}[name]).write_text(text)


def test_they_change_no_identity_of_weights_or_tokenizer(checkpoint: Path, tmp_path: Path) -> None:
    before, record = identities(checkpoint), tmp_path / "located.json"
    assert locate(checkpoint, record).generation == ""
    write(checkpoint, config='{"eos_token_id": 1}')
    one = locate(checkpoint, record)
    write(checkpoint, template="{{ messages }}")
    both = locate(checkpoint, record)
    assert before == identities(checkpoint) == (both.weights, both.tokenizer)
    assert len({"", one.generation, both.generation}) == 3
    assert locate(checkpoint, record) == both  # from the record
    write(checkpoint, template="{{ messages[0] }}")
    assert locate(checkpoint, record).generation != both.generation


def test_only_cells_of_generated_texts_have_them(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kinds: dict[str, Any] = {
        "generation": {
            "fields": {"prompt": "{{ prompt }}", "target": "answer"},
            "decoding": {"max_tokens": 2},
        },
        "sequence": {"fields": {"prompt": "{{ prompt }}", "completion": "{{ answer }}"}},
    }
    for kind, keys in kinds.items():
        define([{"prompt": "a", "answer": "b"}], kind=kind, **keys)
        Path("mine.yaml").rename(f"{kind}.yaml")
    study = {
        "study": "s",
        "models": [{"name": "m", "path": str(checkpoint)}],
        "tasks": [f"{kind}.yaml" for kind in kinds],
    }
    Path("s.yaml").write_text(yaml.safe_dump(study))

    def cells() -> dict[str, Any]:
        read = read_study("s.yaml")
        [one] = read.checkpoints()
        return {kind: read.identity(one, kind) for kind in kinds}

    before = cells()
    write(checkpoint, config='{"eos_token_id": 1}')
    after = cells()
    assert before["sequence"] == after["sequence"]
    added = after["generation"].keys() - before["generation"].keys()
    assert added == {"generation"}
    assert before["generation"] == {k: v for k, v in after["generation"].items() if k not in added}


def test_a_changed_file_is_refused_before_anything_is_loaded(checkpoint: Path, tmp_path: Path) -> None:
    write(checkpoint, config="{}", template="{{ messages }}")
    record = tmp_path / "located.json"
    found = locate(checkpoint, record)
    check_before_loading(record, found.weights, found.tokenizer)
    check_generation(record, found.generation)
    write(checkpoint, template="{{ other }}")
    with pytest.raises(CheckpointError, match=rf"{TEMPLATE} has the digest sha256:.*restore it"):
        check_before_loading(record, found.weights, found.tokenizer)
    with pytest.raises(
        CheckpointError, match=r"not those that the run was planned with; run snakemake again"
    ):
        check_generation(record, found.generation)


def test_an_average_has_those_of_its_newest_parent(checkpoint: Path, tmp_path: Path) -> None:
    write(checkpoint, config="{}", template="{{ messages }}")
    mean = tmp_path / "mean"
    mean.mkdir()
    write_average([checkpoint], (1,), mean)
    # As the lock of a fetched parent states it: digests of git blobs.
    planned = generation_identity({name: digest_of(checkpoint / name, "git") for name in GENERATION})
    check_generation(mean, planned)
    (mean / TEMPLATE).unlink()
    with pytest.raises(CheckpointError, match=rf"delete {mean}: it is made again"):
        check_generation(mean, planned)


def test_they_are_fetched_and_leave_the_identity_of_fetched_weights() -> None:
    names = ("model.safetensors", "config.json", "tokenizer.json", *GENERATION)
    files = {name: LockedFile(f"git:{number:040}", 1) for number, name in enumerate(names)}
    new = Locked("o/r", "main", "0" * 40, 1, files)
    old = Locked("o/r", "main", "0" * 40, 1, {n: f for n, f in files.items() if n not in GENERATION})
    assert {*new.needed("safetensors")} == {*names}
    assert new.weights_identity("safetensors") == old.weights_identity("safetensors")
    assert new.tokenizer_identity() == old.tokenizer_identity()
    assert new.generation_identity() and not old.generation_identity()


def test_a_parent_directory_with_the_tokenizer_has_the_template(checkpoint: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (checkpoint / name).exists():
            shutil.move(checkpoint / name, checkpoint.parent / name)
    (checkpoint.parent / TEMPLATE).write_text("{{ messages }}")
    record = tmp_path / "located.json"
    assert locate(checkpoint, record).generation
    assert TEMPLATE in json.loads(record.read_text())["files"]
