"""Weights pass through the disk within a budget: what stays, what goes, and whether it can."""

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import locks
from ebbtide.cells.store import path_of
from ebbtide.checkpoints.directory import directory_of
from ebbtide.checkpoints.hub.fetched import fetch_directory
from ebbtide.errors import ConfigError
from ebbtide.grid import Checkpoint, Model
from ebbtide.jobs.weight_budget import GB, WeightBudget
from ebbtide.study.study import Study

SIZE = 10


def study(sizes: list[int], disk: float | None, keep: Any = "none") -> Study:
    """A study of one model of the hub with checkpoints of these sizes in bytes; no cell is scored."""
    checkpoints = tuple(
        Checkpoint(
            "tiny", f"step{n}", n, n, f"hub:{n}", "hub:t", f"r/tiny/step{n}/hub-{n}", size, "float32", size
        )
        for n, size in enumerate(sizes)
    )
    config = {
        "weights": {"keep": keep, "disk_gb": None if disk is None else disk / GB, "parallel_downloads": 2},
        "scoring": {
            **dict.fromkeys(("dtype", "encoding", "bos", "truncation", "max_length")),
            "backend": "auto",
            "store": "cells",
        },
        "recompute": True,  # every cell is missing
    }
    return Study(
        "s",
        config,
        {"tiny": Model("tiny", checkpoints)},
        {"t": SimpleNamespace(identity="t", frozen="t.frozen")},
        hub=(locks.model(range(9)),),
    )  # type: ignore[dict-item]


def test_a_budget_below_one_checkpoint_is_an_error_before_anything_runs() -> None:
    with pytest.raises(
        ConfigError,
        match=r"weights\.disk_gb: .*tiny/step1 needs .* in addition to 0 GB of kept weights; increase it\.",
    ):
        WeightBudget(study([5, 50], 20)).check()
    WeightBudget(study([5, 50], 50)).check()
    WeightBudget(study([5, 50], None)).check()


def test_what_stays_counts_for_good() -> None:
    with pytest.raises(ConfigError, match="keep fewer weights"):
        WeightBudget(study([SIZE] * 4, 3 * SIZE, "all")).check()
    WeightBudget(study([SIZE] * 4, 4 * SIZE, "all")).check()
    with pytest.raises(ConfigError, match="keep fewer weights"):
        WeightBudget(study([SIZE] * 4, 2 * SIZE, 2)).check()
    WeightBudget(study([SIZE] * 4, 3 * SIZE, 2)).check()


def test_what_is_kept_is_the_end_of_training() -> None:
    budget = WeightBudget(study([SIZE] * 4, None, 2))
    assert budget.missing_directories(kept=True) == ["hub-2", "hub-3"]
    assert budget.missing_directories(kept=False) == ["hub-0", "hub-1"]


def test_the_plan_names_the_cells_that_wait_for_each_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    planned = study([SIZE] * 3, 100, 1)
    Path("r/tiny/step0/hub-0").mkdir(parents=True)
    Path("r/tiny/step0/hub-0/fetched.json").touch()
    plan = WeightBudget(planned).plan()
    assert (plan["budget_bytes"], plan["pid"]) == (100, os.getpid())
    assert plan["stay"] == ["r/tiny/step2/hub-2"]
    key = path_of("cells", planned.identity(next(planned.checkpoints()), "t"))
    assert plan["wanted"]["r/tiny/step0/hub-0"] == [
        ["results/scores/tiny/step0/t.parquet", str(key), "t.frozen"]
    ]
    assert len(plan["wanted"]) == 3
    scored = replace(planned, config={**planned.config, "recompute": False}, tasks={})
    assert WeightBudget(scored).plan()["wanted"] == {}
    assert WeightBudget(scored).unneeded() == [Path("r/tiny/step0/hub-0")]
    assert WeightBudget(planned).unneeded() == []  # its cells wait for it


def test_what_a_removal_has_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("step0/hub-0", "step1/hub-1"):
        Path("r/tiny", name).mkdir(parents=True)
        Path("r/tiny", name, "model.safetensors").touch()
    Path("r/tiny/step1/hub-1/fetched.json").touch()
    budget = WeightBudget(study([SIZE] * 2, None))
    assert budget.missing_directories(kept=False) == ["hub-0.beside2"]
    budget.clean_up()
    assert [path.name for path in Path("r").rglob("hub-*")] == ["hub-1"]
    assert WeightBudget(study([SIZE] * 2, None)).missing_directories(kept=False) == ["hub-0"]


def test_weights_fetched_beside_a_leftover_get_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    leftover = Path("r/tiny/step0/hub-0")
    assert fetch_directory(str(leftover)) == str(leftover)
    leftover.mkdir(parents=True)
    (leftover / "model.safetensors").touch()
    place = fetch_directory(str(leftover))
    assert place != str(leftover) and leftover.exists()  # planning deletes nothing
    Path(place).mkdir()
    (Path(place) / "fetched.json").touch()
    assert fetch_directory(str(leftover)) == place  # the same for every job of the run

    planned = study([SIZE], None, "all")
    budget = WeightBudget(planned)
    assert budget.directory(str(leftover)) == place
    assert budget.missing_directories(kept=True) == []
    assert directory_of(leftover) == Path(place)  # where a job that was planned with the marker looks
    budget.clean_up()
    assert [path.name for path in Path("r").rglob("hub-*")] == ["hub-0"]
    assert fetch_directory(str(leftover)) == str(leftover)
