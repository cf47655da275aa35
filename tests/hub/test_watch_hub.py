"""Watching a study of a hub: new revisions are locked and scored; without the hub, what is locked is used."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import suite
import tiny
from ebbtide.watch import one_pass
from hub import FakeHub
from watching import Runs, once


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    with FakeHub(tmp_path / "hub") as running:
        yield running


def publish(hub: FakeHub, directory: Path, step: int) -> None:
    files = tiny.hollow_checkpoint(directory / f"made/{step}", step).iterdir()
    hub.repo(suite.REPO).commit(f"step{step}", {path.name: path for path in files})


def test_new_revisions_are_scored_as_they_appear(
    tmp_path: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = suite.study(tmp_path / "study", hub, tasks=["tasks/fact_qa.yaml"])
    with workspace.edited("config.yaml") as config:
        config["scoring"] |= {"backend": "fake", "rescore_examples": 0}
        config["watch"] = {"attempts": 1}
    monkeypatch.chdir(workspace.path)
    for name, value in hub.environment().items():
        monkeypatch.setenv(name, value)
    runs = Runs()
    monkeypatch.setattr(one_pass, "run_snakemake", runs)

    for step in (100, 200):
        publish(hub, tmp_path, step)
    gate = "gate: No alarm at or above moderate"
    assert once() == (0, ["tiny-1m/step100: scored 1 cell", "tiny-1m/step200: scored 1 cell", gate])
    publish(hub, tmp_path, 300)
    assert once() == (0, ["tiny-1m/step300: scored 1 cell", "2 checkpoints scored before", gate])

    hub.repo(suite.REPO).hidden = set()  # nobody may see it
    status, said = once()
    assert status == 2 and said[0].startswith("lock: failed, so new revisions of the hub are not seen: ")
    assert said[1:] == ["3 checkpoints scored before", gate]

    hub.repo(suite.REPO).hidden = None
    publish(hub, tmp_path, 400)
    publish(hub, tmp_path, 500)
    runs.failing = {"step400"}
    status, said = once()
    assert status == 2 and "tiny-1m/step500: scored 1 cell" in said and said[-1] == gate
    assert "tiny-1m/step400: failed 1 time (watch.attempts: 1): ScoringError: it cannot be." in said
    assert once()[1][0] == "tiny-1m/step400: refused: it failed 1 time: ScoringError: it cannot be."


def test_a_row_on_disk_may_have_no_directory_when_the_hub_is_locked(
    tmp_path: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = {"name": "run", "path": "run/step{step}", "steps": "all", "tokens_per_step": 1000}
    workspace = suite.study(tmp_path / "study", hub, suite.row(), run, tasks=["tasks/fact_qa.yaml"])
    with workspace.edited("config.yaml") as config:
        config["scoring"] |= {"backend": "fake", "rescore_examples": 0}
        config["watch"] = {"settle_seconds": 0}
    monkeypatch.chdir(workspace.path)
    for name, value in hub.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(one_pass, "run_snakemake", Runs())
    for step in (100, 200):
        publish(hub, tmp_path, step)
    status, said = once()
    assert (status, said[0]) == (0, "run: waits: no directory matches its path yet")
    assert said[1:3] == ["tiny-1m/step100: scored 1 cell", "tiny-1m/step200: scored 1 cell"]
