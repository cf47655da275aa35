"""Averages of fetched checkpoints: their parents are on disk together, within the budget, and pass."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import drills
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


def test_a_parent_that_cannot_be_fetched_and_a_killed_run(tmp_path: Path, hub: FakeHub) -> None:
    """Its averages are not made, the others are; the next runs fetch what is missing, and resume."""
    repo = suite.publish(hub, tmp_path / "weights", steps=STEPS)
    size = sum(p.stat().st_size for p in (tmp_path / "weights/lab-tiny-1m-0").iterdir()) + 16_384
    weights = {"keep": "none", "disk_gb": (3 * size + 16_384) / 1e9, "parallel_downloads": 1}
    scoring = {"backend": "fake", "dtype": "float32", "load_once_per": "checkpoint"}
    row = suite.row(average={"last": 2})
    workspace = suite.study(tmp_path / "study", hub, row, weights=weights, scoring=scoring)
    suite.lock(workspace)
    content = f"/content/{repo.file('step1', 'model.safetensors').sha256}/"
    hub.corrupt(content, times=2)  # a fetch tries twice
    suite.short_grace(workspace)
    done = workspace.snakemake("--cores", "2", "--keep-going", "metrics", check=False)
    assert done.returncode != 0
    log = next(workspace.path.glob("logs/fetch_checkpoint/tiny-1m/step1-*.log")).read_text()
    assert "model.safetensors: found sha256:" in log and "as in the lock" in log
    assert {cell.parent.name for cell in workspace.cells()} == {
        *("step0", "step8", "step16", "step32"),
        *("step16-mean2", "step32-mean2"),
    }

    hub.stall(content)
    before = hub.count(content)
    with (tmp_path / "killed.txt").open("wb") as output:
        process = subprocess.Popen(
            [*workspace.command(), "--cores", "2", "metrics"],
            env=workspace.env,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    assert drills.wait_until(lambda: hub.count(content) > before, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    workspace.snakemake("--unlock")
    workspace.run("metrics")
    assert {cell.parent.name for cell in workspace.cells()} >= {"step1", "step1-mean2", "step8-mean2"}
    assert (suite.fetched(workspace), averages(workspace)) == ([], [])
    assert workspace.planned("metrics") == {}
