"""Identities of a small study against values written down: code that moves must not score anything again."""

import json
from pathlib import Path

import pytest

from ebbtide.cells import store
from ebbtide.study.load import read_study
from workspace import ROOT, write_small_study

WRITTEN = ROOT / "tests/samples/study/identities.json"


def test_identities_are_those_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights by recipe, tasks, scoring options, version. A new scoring version changes all, on purpose."""
    monkeypatch.chdir(tmp_path)
    write_small_study(tmp_path)
    study = read_study("config.yaml")
    found = {
        f"{checkpoint.model}/{checkpoint.name}/{task}": dict(study.identity(checkpoint, task))
        for checkpoint in study.checkpoints()
        for task in study.tasks
    }
    assert found == json.loads(WRITTEN.read_text())
    assert store.key(found["small-d8/step0/memo_trap"]) == "a8ffe5d29ff91469dec1f4916ac6a200"
