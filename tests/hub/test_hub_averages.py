"""Averages of fetched checkpoints: their parents are on disk together, within the budget, and pass."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import suite
from ebbtide.tables import CELL, read_frame
from hub import FakeHub
from workspace import Workspace

pytestmark = pytest.mark.slow
STEPS = (0, 1, 8, 16, 32)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    with FakeHub(tmp_path) as running:
        yield running


def averages(workspace: Workspace) -> list[str]:
    return sorted(p.parent.name for p in (workspace.path / "resources").glob("checkpoints/*/*/averaged-*"))


def loglikelihoods(workspace: Workspace, cell: str) -> list[float]:
    frame = read_frame(workspace.path / f"results/scores/{cell}.parquet", CELL)
    return list(frame["loglikelihood"])


def test_averages_pass_a_disk_that_holds_the_parents_of_one_and_itself(tmp_path: Path, hub: FakeHub) -> None:
    suite.publish(hub, tmp_path / "weights", steps=STEPS)
    size = sum(p.stat().st_size for p in (tmp_path / "weights/lab-tiny-1m-0").iterdir()) + 16_384
    budget = 4 * size + 16_384
    weights = {"keep": "none", "disk_gb": budget / 1e9, "parallel_downloads": 2}
    row = suite.row(average={"last": 3})
    workspace = suite.study(tmp_path / "study", hub, row, weights=weights)
    told = workspace.snakemake("-n", check=False).stdout
    assert "config.lock.json does not exist" in told and "Traceback" not in told
    suite.lock(workspace)

    with suite.watched(workspace) as most:
        workspace.run("metrics", cores=3)
    assert 2 * size < most[0] <= budget
    assert (suite.fetched(workspace), averages(workspace)) == ([], [])
    assert len(workspace.cells()) == 2 * (5 + 3)
    assert hub.count(r"/resolve/.*/model\.safetensors$") == 5  # each parent once
    assert workspace.planned("metrics") == {}

    # The parents have their cells: they are fetched for the averages, and not scored again.
    with workspace.edited("config.yaml") as config:
        config["models"][0]["average"] = {"last": 1}
    planned = workspace.planned("metrics")
    assert {name: planned[name] for name in ("fetch_to_pass", "average_to_pass", "score")} == {
        "fetch_to_pass": 5,
        "average_to_pass": 5,
        "score": 10,
    }
    workspace.run("metrics", cores=3)
    for step in STEPS:
        one = loglikelihoods(workspace, f"tiny-1m-mean1/step{step}-mean1/memo_trap")
        assert one == loglikelihoods(workspace, f"tiny-1m/step{step}/memo_trap")
    assert workspace.planned("metrics") == {}
