"""What a run cannot use in the store is said once, with its reason."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tiny
from ebbtide.cells import store
from ebbtide.jobs import leads
from ebbtide.jobs.unusable import unusable_cells


def study_in(directory: Path) -> Any:
    return SimpleNamespace(
        config={"scoring": {"store": str(directory)}},
        checkpoint=lambda model, name: f"{model}/{name}",
        identity=lambda checkpoint, task: tiny.identity(task, weights=checkpoint),
    )


@pytest.mark.parametrize("listed", [1, 1000])
def test_files_that_cannot_be_used_are_one_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: int
) -> None:
    """Also if the store is listed, as for many cells."""
    monkeypatch.setattr(leads, "LISTED", listed)
    study = study_in(tmp_path)
    wanted = [("m", "c", task) for task in ("t1", "t2", "t3", "t4", "t5", "t6")]
    paths = [store.path_of(tmp_path, tiny.identity(t, weights="m/c")) for _, _, t in wanted]
    assert unusable_cells(study, wanted) == []
    paths[0].mkdir()
    os.mkfifo(paths[1])
    paths[2].symlink_to(paths[2].name)
    paths[3].write_bytes(b"PAR1")
    tiny.stored(tmp_path, tiny.identity("t5", weights="m/c"))  # good; the sixth is missing
    [notice] = unusable_cells(study, wanted)
    assert notice.detail == (
        "4 files of the cell store cannot be used, so the scoring is repeated: "
        f"{paths[0]} is a directory, not a file, {paths[1]} is a named pipe, not a file, "
        f"{paths[2]} is a link to itself and 1 more."
    )
    assert notice.remedy == "Check the permissions and the file system of the store, and who writes there."
    assert (notice.severity, notice.kind, notice.count) == ("note", "dropped", 4)


def test_cells_that_are_not_in_a_listed_store_are_not_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leads, "LISTED", 1)
    monkeypatch.setattr(store, "unusable", lambda path, identity: pytest.fail(f"{path} was opened"))
    assert unusable_cells(study_in(tmp_path), [("m", "c", "t1")]) == []
