"""Reading ahead: the next checkpoint's weights, if they fit, and nothing else depends on it."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import tiny
from ebbtide.cells import store
from ebbtide.checkpoints.directory import identities
from ebbtide.files import canonical_json
from ebbtide.jobs import read_ahead as module
from ebbtide.jobs import worker
from ebbtide.jobs.read_ahead import read_ahead


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are read ahead, in order, each to its end."""
    found: list[str] = []
    real = module._read

    def noting(files: Sequence[Path]) -> None:
        real(files)
        found.extend(map(str, files))

    monkeypatch.setattr(module, "_read", noting)
    return found


def test_weights_are_read_if_half_of_the_free_memory_holds_them(
    read: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tiny.hollow_checkpoint(tmp_path / "next") / "model.safetensors"
    for free, expected in ((2 * file.stat().st_size - 1, []), (2 * file.stat().st_size, [str(file)])):
        monkeypatch.setattr(module, "free_memory", lambda _, free=free: free)
        thread = read_ahead(str(file.parent / "config.json"))
        assert (thread is not None) == bool(expected)
        if thread is not None:
            thread.join()
        assert read == expected


def test_what_cannot_be_read_is_left_to_its_own_job(read: list[str], tmp_path: Path) -> None:
    directory = tiny.hollow_checkpoint(tmp_path / "next")
    (directory / "model.safetensors").unlink()
    assert read_ahead(str(directory / "config.json")) is None
    assert read_ahead(str(tmp_path / "nowhere/config.json")) is None
    assert read == []


@pytest.mark.parametrize("once_per", ["model", "checkpoint"])
def test_a_worker_reads_the_checkpoint_after_the_one_it_loads(
    once_per: str, read: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = tiny.requests(tmp_path / "t.parquet")
    (tmp_path / "cells").mkdir()
    cells: list[dict[str, Any]] = []
    for number in range(3):
        directory = tiny.checkpoint(tmp_path / f"step{number}", scale=1 + number / 10)
        weights, tokenizer = identities(directory)
        identity = tiny.identity("task-1", weights=weights) | {"tokenizer": tokenizer}
        place = {"checkpoint": str(directory / "config.json"), "requests": str(requests)}
        cells.append({"name": f"m/step{number}/t", **place, "identity": identity})
    hint = {"load_once_per": once_per, "store": str(tmp_path / "cells"), "cells": cells}
    (tmp_path / "hint.json").write_text(json.dumps(hint))
    job = {**cells[0], "cells": hint["store"], "hint": str(tmp_path / "hint.json"), "threads": 1}
    monkeypatch.setattr(sys, "argv", ["worker", canonical_json(job)])
    monkeypatch.setattr(module, "Thread", _AtOnce)
    assert worker.main() == 0
    done = [store.path_of(tmp_path / "cells", cell["identity"]).exists() for cell in cells]
    if once_per == "model":
        assert done == [True, True, True]
        # Nothing is left to read when the last one is loaded.
        assert read == [str(tmp_path / f"step{number}/model.safetensors") for number in (1, 2)]
    else:
        assert (done, read) == ([True, False, False], [])


class _AtOnce:
    """A thread that has run when it is started."""

    def __init__(self, target: Any, args: tuple[Any, ...], daemon: bool) -> None:
        self._run = lambda: target(*args)

    def start(self) -> None:
        self._run()
