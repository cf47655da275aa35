"""Which weights a run still needs: until every cell has been scored, has failed, or never can be."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ebbtide.cells.store import failed_mark
from ebbtide.errors import CheckpointError, ConfigError
from ebbtide.jobs.weight_plan import GRACE_SECONDS, WeightPlan, budget_of, failed_mark_of, read_weight_plan

LONG_AGO = time.time() - 2 * GRACE_SECONDS


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with weights for two cells, and both tasks frozen."""
    monkeypatch.chdir(tmp_path)
    Path("weights").mkdir()
    for name in ("one", "two"):
        Path(f"{name}.requests").touch()
    return tmp_path


def run(**changes: Any) -> WeightPlan:
    plan = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": LONG_AGO - GRACE_SECONDS,
        "budget_bytes": 10,
        "stay": ["kept"],
        "wanted": {"weights": [[f"{n}.done", f"{n}.parquet", f"{n}.requests"] for n in ("one", "two")]},
        "averages": {},
        "order": [],
    }
    Path("plan.json").write_text(json.dumps({**plan, **changes}))
    return read_weight_plan("plan.json")


def touch(path: str | Path, when: float) -> None:
    Path(path).touch()
    os.utime(path, (when, when))


def test_weights_are_needed_until_the_last_cell_is_there(place: Path) -> None:
    planned, weights = run(), place / "weights"
    assert planned.needs(weights)
    touch("one.done", time.time())
    assert planned.needs(weights)
    touch("two.done", time.time())
    assert not planned.needs(weights)


def test_what_stays_is_needed_and_what_nobody_named_is_not(place: Path) -> None:
    assert run().needs(place / "kept")
    assert not run().needs(place / "others")


def test_a_cell_of_before_the_run_does_not_count(place: Path) -> None:
    """It is there, but the store is not trusted (`recompute`), or the plan would not name it."""
    for name in ("one", "two"):
        touch(f"{name}.done", LONG_AGO - 2 * GRACE_SECONDS)
    assert run().needs(place / "weights")


def test_a_failed_cell_counts_after_a_while_in_which_it_may_be_tried_again(place: Path) -> None:
    planned, weights = run(), place / "weights"
    touch("one.done", time.time())
    touch(failed_mark("two.parquet"), time.time())
    assert planned.needs(weights)
    touch(failed_mark("two.parquet"), LONG_AGO)
    assert not planned.needs(weights)
    touch(failed_mark("two.parquet"), LONG_AGO - 2 * GRACE_SECONDS)  # of an earlier run
    assert planned.needs(weights)


def test_a_task_that_was_not_frozen_counts_after_a_while(place: Path) -> None:
    planned, weights = run(), place / "weights"
    touch("one.done", time.time())
    Path("two.requests").unlink()
    assert planned.needs(weights)
    os.utime(weights, (LONG_AGO, LONG_AGO))
    assert not planned.needs(weights)


def averaging(place: Path) -> WeightPlan:
    """A plan with an average of the weights and another parent, which have their own cells."""
    for name in ("one", "two"):
        touch(f"{name}.done", time.time())
    return run(
        wanted={"mean": [["mean.done", "mean.parquet", "one.requests"]]},
        averages={"mean": {"bytes": 5, "parents": ["weights", "other"]}},
        order=["weights", "other"],
    )


def test_parents_are_needed_until_their_average_is_made(place: Path) -> None:
    planned = averaging(place)
    assert (
        planned.needs(place / "weights") and planned.needs(place / "other") and planned.needs(place / "mean")
    )
    Path("mean").mkdir()
    assert not planned.needs(place / "weights")
    assert planned.needs(place / "mean")
    touch("mean.done", time.time())
    assert not planned.needs(place / "mean")


@pytest.mark.parametrize("failed", ["mean", "other"])
def test_an_average_that_cannot_be_made_needs_no_parents_after_a_while(place: Path, failed: str) -> None:
    planned, mark = averaging(place), failed_mark_of(place / failed)
    touch(mark, time.time())
    assert planned.needs(place / "weights")
    touch(mark, LONG_AGO - 2 * GRACE_SECONDS)  # of an earlier run
    assert planned.needs(place / "weights")
    touch(mark, LONG_AGO)
    assert not planned.needs(place / "weights") and not planned.needs(place / "mean")
    assert planned.has_failed(place / failed)
    (place / failed).mkdir()  # it was tried again
    assert not planned.has_failed(place / failed)
    assert planned.needs(place / "weights") == (failed != "mean")


def test_the_budget_of_a_fetch_has_those_before_it(place: Path) -> None:
    names = [f"r/m/step{step}/hub-{step}" for step in (1, 2, 3)]
    run(order=names)
    budget = budget_of("plan.json", Path(names[2]))
    assert budget is not None
    assert budget.earlier == [place / name for name in names[:2]]
    run()
    budget = budget_of("plan.json", Path(names[2]))
    assert budget is not None and not budget.earlier


def test_a_run_that_is_over(place: Path) -> None:
    run().check()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with pytest.raises(CheckpointError, match="has ended; run snakemake again"):
        run(pid=gone.pid).check()
    run(pid=gone.pid, host="another").check()  # nothing is known of it


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"host": 1}', '{"wanted": []}'])
def test_no_plan_is_a_sentence(place: Path, text: str) -> None:
    Path("plan.json").write_text(text)
    with pytest.raises(
        ConfigError,
        match=r"plan\.json(: found JSON of type list| is not (readable JSON|the plan of a run)).*; run snake",
    ):
        read_weight_plan("plan.json")
