"""Which checkpoints a watched study takes in: by its schedules, and among whole directories only."""

from pathlib import Path
from typing import Any

import pytest

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
