"""Where the weights of each checkpoint come from."""

from pathlib import Path
from typing import Any

import pytest

import tiny
from ebbtide.schema import read_yaml
from ebbtide.study.load import load_study
from ebbtide.study.origins import origins
from workspace import ROOT


def test_directories_and_averages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for step in (1, 2):
        tiny.hollow_checkpoint(Path(f"r/step{step}"), step)
    row: dict[str, Any] = {"name": "m", "path": "r/step{step}", "steps": "all", "average": {"last": 2}}
    row["tokens_per_step"] = 10
    found = origins(load_study({"study": "s", "models": [row], "tasks": ["fact_qa"]}, []))
    assert found == {
        "m": {f"step{step}": str(tmp_path / f"r/step{step}") for step in (1, 2)},
        "m-mean2": {"step2-mean2": "average of m: step1, step2"},
    }


def test_models_trained_here_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = origins(load_study(read_yaml(ROOT / "config.yaml"), []))
    assert {text for of in found.values() for text in of.values()} == {"trained by this workflow"}
