"""Which checkpoints a watched study takes in: by its schedules, and among whole directories only."""

from pathlib import Path
from typing import Any

import pytest

import formats
import tiny
from ebbtide.checkpoints.on_disk import model_on_disk
from ebbtide.errors import ConfigError
from ebbtide.watch.directories import Found, find_checkpoints


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run with steps 100, 200 and 400, of which 400 is half written."""
    monkeypatch.chdir(tmp_path)
    for step in (100, 200, 400):
        tiny.hollow_checkpoint(tmp_path / f"run/step{step}", step)
    Path("run/step400/config.json").unlink()


def row(**changes: Any) -> dict[str, Any]:
    return {
        "name": "run",
        "path": "run/step{step}",
        "unit": 1,
        "tokens_per_step": 0,
        "steps": "all",
        **changes,
    }


def found(**changes: Any) -> Found:
    settings = {"models": [row(**changes), {"series": "pythia"}], "watch": {"settle_seconds": 0}}
    (name, one), *others = find_checkpoints(settings, "study.yaml").items()
    assert (name, others) == ("run", [])
    return one


@pytest.mark.parametrize(
    ("steps", "whole", "waiting"),
    [
        ("all", ["step100", "step200"], ["step400"]),
        ("last", ["step200"], ["step400"]),
        ({"every": 200}, ["step200"], ["step400"]),
        ({"every": 300}, [], []),
        ([100, 300, 400], ["step100"], ["step300", "step400"]),
        ([300], [], ["step300"]),
    ],
)
def test_schedules_choose_among_whole_directories(steps: Any, whole: list[str], waiting: list[str]) -> None:
    one = found(steps=steps)
    assert (list(one.whole), sorted(one.waiting)) == (whole, waiting)
    model = model_on_disk(row(steps=steps), "study.yaml: models[0]", one.whole)
    assert [checkpoint.name for checkpoint in model.checkpoints()] == whole


def test_a_run_may_have_no_directory_yet() -> None:
    assert found(path="later/step{step}") == Found((), {})
    assert model_on_disk(row(path="later/step{step}"), "here", ()).directories == ()
    with pytest.raises(ConfigError, match="no directory matches"):
        model_on_disk(row(path="later/step{step}"), "here")
    [(name, reason)] = found(path="final", steps=None).waiting.items()
    assert (name, reason) == ("main", "final does not exist yet")


def test_a_directory_that_appears_later_is_not_taken_in() -> None:
    one = found()
    tiny.hollow_checkpoint(Path("run/step500"))
    Path("run/step500/model.safetensors").unlink()
    model = model_on_disk(row(), "study.yaml: models[0]", one.whole)
    assert [directory.name for directory in model.directories] == ["step100", "step200"]


def test_two_directories_of_one_step_are_an_error() -> None:
    tiny.hollow_checkpoint(Path("run/step0100"))
    with pytest.raises(ConfigError, match=r"study.yaml: models\[0\].path: found two directories of step 100"):
        found()


def test_a_file_of_another_format_is_taken_in_once_it_is_complete() -> None:
    formats.beside(Path("like"), "gpt_neox")
    file = formats.pt(Path("pt/100.pt"), formats.tensors_of("gpt_neox"))
    content = file.read_bytes()
    row_of_files = {"path": "pt/{step}.pt", "format": "pt", "config": "like", "tokenizer": "like"}
    for size in (40, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:size])
        one = found(**row_of_files)
        assert (one.whole, list(one.waiting)) == ((), ["step100"])
        assert "pt/100.pt is not a complete file of torch.save" in one.waiting["step100"]
        assert "copy it again" not in one.waiting["step100"]
    file.write_bytes(content)
    assert found(**row_of_files) == Found(("step100",), {})
    settings = {"models": [row(**row_of_files)], "watch": {"settle_seconds": 60}}
    reason = find_checkpoints(settings, "study.yaml")["run"].waiting["step100"]
    assert "they must not change for 60 s" in reason
    Path("pt/100.pt.tmp").touch()
    assert found(**row_of_files).waiting == {"step100": "pt/100.pt.tmp is there, as while files are written"}
