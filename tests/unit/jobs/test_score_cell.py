"""One cell and its siblings: loaded once, scored once, copied ever after; a failure ahead does not spread."""

import errno
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

import tiny
from ebbtide.cells import store
from ebbtide.checkpoints import fingerprint
from ebbtide.checkpoints.directory import identities, locate
from ebbtide.checkpoints.header import read_header
from ebbtide.errors import CellError, CheckpointError, ScoringError, StorageError
from ebbtide.files import canonical_json, file_sha256
from ebbtide.jobs import score_cell as score
from ebbtide.jobs import worker as ahead
from ebbtide.logs import ABOVE, cause_in, log
from ebbtide.tables import CELL, read_footer, read_frame
from reading import flip

HEAVY = ("torch", "transformers", "pandas", "numpy", "pyarrow")


Hold = Callable[[Mapping[str, Any]], Path]
HOLD = Path(__file__).parents[2] / "helpers/hold"


@dataclass
class Grid:
    """Checkpoints × tasks in a directory, a store and a hint."""

    root: Path
    cells: list[dict[str, Any]] = field(default_factory=list)

    def add(self, checkpoint: str, task: str) -> dict[str, Any]:
        directory, requests = self.root / checkpoint, self.root / f"{task}.parquet"
        if not directory.exists():
            tiny.checkpoint(directory, scale=1 + 0.01 * len(self.cells))
        if not requests.exists():
            tiny.requests(requests, task=task)
        weights, tokenizer = identities(directory)
        cell = {
            "name": f"m/{checkpoint}/{task}",
            "checkpoint": str(directory / "config.json"),
            "requests": str(requests),
            "identity": tiny.identity(task, weights=weights, tokenizer=tokenizer),
        }
        self.cells.append(cell)
        return cell

    def hint(self, ahead: str = "checkpoint", **changes: Any) -> str:
        path = self.root / "hint.json"
        store = str(self.root / "cells")
        path.write_text(json.dumps({"load_once_per": ahead, "store": store, "cells": self.cells, **changes}))
        return str(path)

    def score(self, cell: Mapping[str, Any], hint: str) -> str:
        return score.score_cell(
            cell["checkpoint"], cell["requests"], cell["identity"], str(self.target(cell)), hint=hint
        )

    def command(self, cell: Mapping[str, Any], hint: str) -> list[str]:
        return [
            *(sys.executable, "-m", "ebbtide", "score", "--model", cell["checkpoint"]),
            *("--requests", cell["requests"], "--identity", canonical_json(cell["identity"])),
            *("--hint", hint, "--to", str(self.target(cell))),
        ]

    def target(self, cell: Mapping[str, Any]) -> Path:
        return self.root / "results" / f"{cell['name']}.parquet"

    def stored(self) -> set[str]:
        """Names of the cells that the store holds."""
        return {c["name"] for c in self.cells if store.is_whole(self.path(c), c["identity"])}

    def path(self, cell: Mapping[str, Any]) -> Path:
        return store.path_of(self.root / "cells", cell["identity"])

    def mark(self, cell: Mapping[str, Any]) -> Path:
        return store.attempt_mark(self.root / "cells", cell["identity"])


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    return Grid(tmp_path)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run the worker in this process: it does the same, without importing torch again."""

    def work(job: Mapping[str, Any], locks: Sequence[int], lease: Any) -> int:
        monkeypatch.setattr(sys, "argv", ["ahead", canonical_json(job)])
        return ahead.main()

    monkeypatch.setattr(score, "_work", work)
    handlers, propagate = log.handlers, log.propagate
    yield
    log.handlers, log.propagate = handlers, propagate


def lean(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command line of Ebbtide and list the heavy modules it imported."""
    program = (
        "import sys; from ebbtide.cli import main; status = main(sys.argv[1:]);"
        f"print([m for m in {HEAVY} if m in sys.modules]); sys.exit(status)"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *command[3:]], capture_output=True, text=True, check=False
    )


def test_a_worker_inherits_its_gpu_and_sees_no_other(grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that lists the locks it holds and what it sees, in place of the real one."""
    program = grid.root / "python"
    program.write_text("#!/bin/sh\nreadlink /proc/$$/fd/* > seen\necho $CUDA_VISIBLE_DEVICES >> seen\n")
    program.chmod(0o755)
    monkeypatch.chdir(grid.root)
    # Not of `sys` itself: a library that is first imported meanwhile, as multiprocessing is, would keep it.
    monkeypatch.setattr(score, "sys", SimpleNamespace(executable=str(program), stderr=sys.stderr))
    monkeypatch.setenv("EBBTIDE_GPU_LOCKS", str(grid.root / "locks"))
    monkeypatch.setenv("EBBTIDE_FAKE_GPUS", "GPU-a:8000,GPU-b:8000")
    cell = grid.add("c1", "t1")
    for settings, names, shown in (({}, ["GPU-a.lock"], "GPU-a"), ({"gpus": 0}, [], "")):
        with pytest.raises(ScoringError, match="could not be scored"):  # it writes no cell
            grid.score(cell, grid.hint(**settings))
        *files, visible = (grid.root / "seen").read_text().split("\n")[:-1]
        locks = [Path(file) for file in files if file.endswith(".lock")]
        assert [path.name for path in locks if path.parent == grid.root / "locks"] == names
        assert len(locks) == len(names) + 2  # those of the checkpoint, on the node and in the store
        assert visible == shown


def test_a_cell_is_scored_then_copied_without_torch_or_weights(grid: Grid) -> None:
    cell = grid.add("c1", "t1")
    first = lean(grid.command(cell, grid.hint()))
    assert first.returncode == 0, first.stderr
    assert f"{grid.target(cell)}: scored" in first.stderr
    assert first.stderr.count("loaded weights") == 1
    assert first.stdout == "[]\n"  # the parent stays lean even when a worker scores
    scored = grid.target(cell).read_bytes()
    assert read_footer(grid.target(cell), CELL)["identity"] == cell["identity"]

    shutil.rmtree(grid.root / "c1")
    (grid.root / "t1.parquet").unlink()
    grid.target(cell).unlink()
    second = lean(grid.command(cell, grid.hint()))
    assert second.returncode == 0, second.stderr
    assert second.stderr == f"{grid.target(cell)}: copied\n"
    assert second.stdout == "[]\n"
    assert grid.target(cell).read_bytes() == scored


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("mode", "loads", "stored"),
    [
        ("cell", 1, {"m/c1/t1"}),
        ("checkpoint", 1, {"m/c1/t1", "m/c1/t2"}),
        ("model", 2, {"m/c1/t1", "m/c1/t2", "m/c2/t1", "m/c2/t2"}),
    ],
)
def test_how_much_one_load_serves(
    grid: Grid, mode: str, loads: int, stored: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    cells = [grid.add(checkpoint, task) for checkpoint in ("c1", "c2") for task in ("t1", "t2")]
    hint = grid.hint(mode)
    assert grid.score(cells[0], hint) == "scored"
    assert capsys.readouterr().err.count("loaded weights") == loads
    assert grid.stored() == stored
    assert not list(grid.root.rglob("*.tried"))

    how = [grid.score(cell, hint) for cell in cells]
    assert how.count("copied") >= len(stored)
    footers = [read_footer(grid.target(cell), CELL) for cell in cells]
    assert [footer["identity"] for footer in footers] == [cell["identity"] for cell in cells]
    assert len({path.read_bytes() for path in map(grid.target, cells)}) == len(cells)


@pytest.mark.parametrize(("mode", "locks"), [("cell", 4), ("checkpoint", 2), ("model", 1)])
def test_only_cells_that_share_a_load_wait_for_each_other(
    grid: Grid, mode: str, locks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else all jobs of a checkpoint but one would keep a GPU idle."""
    cells = [grid.add(checkpoint, task) for checkpoint in ("c1", "c2") for task in ("t1", "t2")]
    real, names = score.node_lock, set()

    def node_lock(directory: str, name: str) -> Any:
        names.add(name)
        return real(directory, name)

    def work(job: Mapping[str, Any], lock: int, lease: Any) -> int:
        tiny.stored(Path(job["cells"]), job["identity"])
        return 0

    monkeypatch.setattr(score, "node_lock", node_lock)
    monkeypatch.setattr(score, "_work", work)
    hint = grid.hint(mode)
    assert [grid.score(cell, hint) for cell in cells] == ["scored"] * 4
    assert len(names) == locks


@pytest.mark.usefixtures("here")
def test_a_sibling_that_is_not_there_yet_is_left_alone(
    grid: Grid, capsys: pytest.CaptureFixture[str]
) -> None:
    cell, unfrozen, untrained = grid.add("c1", "t1"), grid.add("c1", "t2"), grid.add("c2", "t1")
    Path(unfrozen["requests"]).unlink()
    untrained["checkpoint"] = str(grid.root / "c2" / "trained-new.json")  # older weights lie in the directory
    assert grid.score(cell, grid.hint("model")) == "scored"
    assert grid.stored() == {"m/c1/t1"}
    assert "left to its own job" not in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_a_sibling_that_fails_ahead_is_left_to_its_own_job(
    grid: Grid, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, bad, good = grid.add("c1", "t1"), grid.add("c1", "bad"), grid.add("c1", "t2")
    tiny.requests(Path(bad["requests"]), [("0", 0, "the", " zebra", True)], task="bad")
    hint = grid.hint()

    assert grid.score(cell, hint) == "scored"
    assert "m/c1/bad is left to its own job: ScoringError:" in capsys.readouterr().err
    assert grid.stored() == {"m/c1/t1", "m/c1/t2"}
    assert grid.mark(bad).exists()

    with pytest.raises(
        ScoringError, match=r"bad\.parquet could not be scored \(the worker ended with status 1\)"
    ):
        grid.score(bad, hint)
    own = capsys.readouterr().err
    assert "'the zebra' cannot be encoded" in own
    assert "example 0, choice 0" in own
    assert grid.score(good, hint) == "copied"

    def refuse(*_: Any) -> int:
        return pytest.fail("a certain error is repeated")

    with monkeypatch.context() as patch:  # as a scheduler repeats a failed submission
        patch.setattr(score, "_work", refuse)
        with pytest.raises(ScoringError, match=r"bad\.parquet was not scored again: an earlier .*is above\."):
            grid.score(bad, hint)
    again = capsys.readouterr().err
    log_file = grid.root / "job.log"
    log_file.write_text(f"{again}ScoringError: …; {ABOVE}\n")
    assert "'the zebra' cannot be encoded" in str(cause_in(log_file))
    other = grid.root / "other.json"  # a run of another checkout, which began earlier
    other.write_text(Path(hint).read_text())
    os.utime(other, (0, 0))
    for run in (str(other), grid.hint()):  # and the next run of this one
        with pytest.raises(ScoringError, match=r"could not be scored \(the worker ended with status 1\)"):
            grid.score(bad, run)

    tiny.requests(Path(bad["requests"]), task="bad")  # mended
    assert grid.score(bad, hint) == "scored"
    assert not grid.mark(bad).exists()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("mode", ["checkpoint", "model"])
def test_a_job_whose_own_cell_fails_scores_its_siblings(
    mode: str, grid: Grid, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, good = grid.add("c1", "bad"), grid.add("c1", "t1")
    tiny.requests(Path(bad["requests"]), [("0", 0, "the", " zebra", True)], task="bad")
    hint = grid.hint(mode)
    with pytest.raises(ScoringError, match=r"bad\.parquet could not be scored"):
        grid.score(bad, hint)
    assert "'the zebra' cannot be encoded" in capsys.readouterr().err
    assert grid.stored() == {"m/c1/t1"}
    assert grid.score(good, hint) == "copied"

    later = grid.add("c1", "t2")  # whose worker leaves what has failed in the same run to its own job
    hint = grid.hint(mode)
    assert grid.score(later, hint) == "scored"
    assert "m/c1/bad is left to its own job" in capsys.readouterr().err  # it failed in an earlier run
    grid.mark(bad).unlink()
    os.utime(hint, (1000, 1000))
    assert grid.score(grid.add("c1", "t3"), hint) == "scored"
    assert "bad" not in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_what_a_library_raises_for_one_cell_leaves_the_others(
    grid: Grid, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ebbtide.scoring import engine

    real = engine.score_task

    def score_task(scorer: Any, task: Any, keys: Any, source: str, **options: Any) -> Any:
        if Path(source).stem.startswith("bad"):
            raise RuntimeError("Expected mat_a to be Float32\nat line 3")
        return real(scorer, task, keys, source, **options)

    monkeypatch.setattr(engine, "score_task", score_task)
    bad, worse, good = (grid.add("c1", task) for task in ("bad1", "bad2", "t1"))
    with pytest.raises(ScoringError, match=r"bad1\.parquet could not be scored"):
        grid.score(bad, grid.hint())
    error = capsys.readouterr().err
    sentence = f"with {bad['checkpoint']}: RuntimeError: Expected mat_a to be Float32."
    assert f"ScoringError: {bad['requests']} {sentence}" in error
    assert f"m/c1/bad2 is left to its own job: ScoringError: {worse['requests']} {sentence}" in error
    assert grid.stored() == {good["name"]}

    def unreadable(*_: Any, **__: Any) -> Any:
        try:
            raise OSError(errno.EIO, "Input/output error")
        except OSError as error:
            raise CheckpointError("model.safetensors cannot be read.") from error

    monkeypatch.setattr(engine, "score_task", unreadable)
    with pytest.raises(ScoringError, match="worker ended with status 1"):
        grid.score(bad, str(grid.root / "hint.json"))
    monkeypatch.setattr(engine, "score_task", real)  # another attempt can end otherwise
    assert grid.score(bad, str(grid.root / "hint.json")) == "scored"


@pytest.mark.usefixtures("here")
def test_weights_that_cannot_be_loaded_are_loaded_once(
    grid: Grid, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And not once for every sibling; other checkpoints of the model are scored."""
    from ebbtide.scoring import engine

    loads = []
    real = engine.load_scorer

    def load_scorer(directory: Path, *arguments: Any, **named: Any) -> Any:
        loads.append(directory.name)
        if directory.name == "c1":
            raise CheckpointError(f"{directory} is damaged.")
        return real(directory, *arguments, **named)

    monkeypatch.setattr(engine, "load_scorer", load_scorer)
    cells = [grid.add(checkpoint, task) for checkpoint in ("c1", "c2") for task in ("t1", "t2")]
    with pytest.raises(ScoringError, match="could not be scored"):
        grid.score(cells[0], grid.hint("model"))
    assert loads == ["c1", "c2"]
    assert grid.stored() == {"m/c2/t1", "m/c2/t2"}
    assert capsys.readouterr().err.count("c1 is damaged.") == 1


@pytest.mark.usefixtures("here")
def test_requests_of_another_task_are_not_scored(grid: Grid, capsys: pytest.CaptureFixture[str]) -> None:
    cell = grid.add("c1", "t1")
    tiny.requests(Path(cell["requests"]), task="t1 as it was")
    with pytest.raises(ScoringError, match="could not be scored"):
        grid.score(cell, grid.hint())
    assert "t1.parquet: found task t1 as it was, expected t1" in capsys.readouterr().err
    assert not grid.target(cell).exists()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "damage", [lambda b: b[:-9], lambda b: b"", lambda b: b[50:]], ids=["end", "all", "start"]
)
def test_a_damaged_cell_of_the_store_is_scored_again(grid: Grid, damage: Any) -> None:
    cell = grid.add("c1", "t1")
    grid.score(cell, grid.hint())
    before = grid.target(cell).read_bytes()
    grid.path(cell).write_bytes(damage(before))
    assert grid.score(cell, grid.hint()) == "scored"
    rows = [read_footer(path, CELL)["content_sha256"] for path in (grid.target(cell), grid.path(cell))]
    assert len(set(rows)) == 1


@pytest.mark.usefixtures("here")
def test_a_cell_damaged_within_is_renamed_and_the_same_command_scores_it_again(grid: Grid) -> None:
    """Its footer is whole, so a copy was planned; a second run is planned as scoring."""
    cell = grid.add("c1", "t1")
    grid.score(cell, grid.hint())
    good = grid.target(cell).read_bytes()
    grid.target(cell).unlink()
    flip(grid.path(cell), 100)
    aside = Path(f"{grid.path(cell)}.damaged")
    with pytest.raises(CellError) as error:
        grid.score(cell, grid.hint())
    assert re.fullmatch(
        rf"CellError: {grid.path(cell)} is damaged: its sha256 is \w+, but its footer has \w+\. It was "
        rf"renamed to {aside}; run the same command again, to score the cell again\.",
        str(error.value),
    )
    assert not grid.target(cell).exists()
    assert not grid.stored()
    assert grid.score(cell, grid.hint()) == "scored"
    assert grid.stored() == {"m/c1/t1"}
    assert aside.stat().st_size == len(good)
    rows = [read_frame(grid.target(cell), CELL), read_frame(grid.path(cell), CELL)]
    assert rows[0].equals(rows[1])


@pytest.mark.usefixtures("here")
def test_a_damaged_cell_that_cannot_be_renamed_is_named(grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = grid.add("c1", "t1")
    grid.score(cell, grid.hint())
    flip(grid.path(cell), 100)

    def denied(*_: Any) -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(store, "set_aside", denied)
    with pytest.raises(CellError) as error:
        grid.score(cell, grid.hint())
    assert str(error.value).endswith(
        "It cannot be renamed (Permission denied): delete it, and run the same command again, to score "
        "the cell again."
    )
    grid.path(cell).unlink()
    assert grid.score(cell, grid.hint()) == "scored"


@pytest.mark.usefixtures("here")
def test_what_is_in_the_place_of_a_cell_gives_way(grid: Grid, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory is renamed before anything is scored; a pipe or a link to itself is replaced."""
    cells = [grid.add("c1", task) for task in ("t1", "t2", "t3")]
    directory, pipe, loop = map(grid.path, cells)
    directory.mkdir(parents=True)
    (directory / "mine").touch()
    os.mkfifo(pipe)
    loop.symlink_to(loop.name)
    assert [grid.score(cell, grid.hint("cell")) for cell in cells] == ["scored"] * 3
    assert grid.stored() == {"m/c1/t1", "m/c1/t2", "m/c1/t3"}
    assert Path(f"{directory}.damaged/mine").exists()
    assert (
        f"{directory} is a directory; it was renamed to {directory}.damaged, and the cell is scored."
        in capsys.readouterr().err
    )


@pytest.mark.usefixtures("here")
def test_a_store_that_cannot_be_written_is_named_before_anything_is_loaded(
    grid: Grid, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = grid.add("c1", "t1")
    (grid.root / "cells").write_text("not a directory")
    with pytest.raises(
        StorageError, match=r"cells cannot be written: \S*cells is a file, not a directory\. Move "
    ):
        grid.score(cell, grid.hint())
    assert "loaded weights" not in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_a_store_that_fills_up_ends_the_worker_with_the_file(
    grid: Grid, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Siblings are not scored in vain, and are not marked as failed either."""

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    cell, sibling = grid.add("c1", "t1"), grid.add("c1", "t2")
    monkeypatch.setattr("pyarrow.parquet.write_table", full)
    with pytest.raises(ScoringError, match=r"t1\.parquet could not be scored \(the worker ended with"):
        grid.score(cell, grid.hint())
    error = capsys.readouterr().err
    assert f"StorageError: {grid.path(cell)} cannot be written: no space left (" in error
    assert f"Free some space in {grid.root}/cells, and run the same command again; what is" in error
    assert not grid.mark(sibling).exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_job_whose_log_is_full_keeps_its_cell_and_says_so(grid: Grid) -> None:
    cell = grid.add("c1", "t1")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            grid.command(cell, grid.hint()), stdout=subprocess.PIPE, stderr=full, text=True, check=False
        )
    assert done.returncode == 0
    sentence = "/dev/full cannot be written: No space left on device. The job goes on without its log."
    assert done.stdout == f"StorageError: {sentence}\n"
    assert grid.target(cell).read_bytes() == grid.path(cell).read_bytes()


def test_a_cell_records_who_wrote_it(grid: Grid) -> None:
    cell = grid.add("c1", "t1")
    lean(grid.command(cell, grid.hint()))
    footer = read_footer(grid.target(cell), CELL)
    assert sorted(footer["written"]) == ["host", "time", "user", "version"]
    assert (footer["gpus"], footer["threads"]) == (0, 1)
    assert footer["total_seconds"] >= footer["seconds"]  # with loading


@pytest.mark.usefixtures("here")
def test_recompute_distrusts_what_is_older_than_the_run(grid: Grid) -> None:
    cell, sibling = grid.add("c1", "t1"), grid.add("c1", "t2")
    grid.score(cell, grid.hint())
    for path in (grid.path(cell), grid.path(sibling)):
        os.utime(path, (1000, 1000))

    hint = grid.hint(recompute_before=2000)
    assert grid.score(cell, hint) == "scored"
    assert grid.path(sibling).stat().st_mtime > 2000
    assert grid.score(sibling, hint) == "copied"
    assert grid.score(cell, hint) == "copied"


@pytest.mark.usefixtures("here")
def test_without_a_hint_a_job_scores_its_own_cell(
    grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cell = grid.add("c1", "t1")
    assert grid.score(cell, str(tmp_path / "none.json")) == "scored"
    assert grid.stored() == {"m/c1/t1"}  # in the default store, `cells`


def test_a_hint_that_is_not_json_is_an_error(grid: Grid) -> None:
    cell = grid.add("c1", "t1")
    (grid.root / "hint.json").write_text('{"load_once_per"')
    with pytest.raises(ScoringError, match=r"hint\.json is not readable JSON .*; delete it"):
        grid.score(cell, str(grid.root / "hint.json"))


@pytest.mark.usefixtures("here")
def test_a_marked_cell_is_left_to_its_own_job(grid: Grid) -> None:
    cell, marked = grid.add("c1", "t1"), grid.add("c1", "t2")
    grid.path(cell).parent.mkdir()
    grid.mark(marked).touch()  # a worker died here
    grid.score(cell, grid.hint())
    assert grid.stored() == {"m/c1/t1"}
    assert grid.score(marked, grid.hint()) == "scored"
    assert not grid.mark(marked).exists()


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the check of a cell was asked."""
    calls: list[dict[str, Any]] = []

    def largest_difference(
        directory: Path, requests: str, rows: pa.Table, *, examples: int, **settings: Any
    ) -> dict[str, Any]:
        calls.append({"directory": directory, "requests": requests, "rows": len(rows), **settings})
        return {"examples": examples}

    monkeypatch.setitem(
        sys.modules, "ebbtide.scoring.rescore", SimpleNamespace(largest_difference=largest_difference)
    )
    return calls


@pytest.mark.usefixtures("here")
def test_cells_are_checked_as_many_times_as_the_hint_says(grid: Grid, verified: list[dict[str, Any]]) -> None:
    cell, sibling = grid.add("c1", "t1"), grid.add("c1", "t2")
    sibling["identity"] |= {"encoding": "joint", "bos": "always", "truncation": "refuse", "max_length": 40}
    assert grid.score(cell, grid.hint(rescore_examples=2)) == "scored"
    own = {"encoding": "harness", "bos": "tokenizer", "truncation": "left", "max_length": None}
    own["tokenizer"] = None  # that of the directory
    own |= {"dtype": "float32"}
    assert verified == [
        {"directory": grid.root / "c1", "requests": cell["requests"], "rows": len(tiny.ROWS), **own},
        {
            **{"directory": grid.root / "c1", "requests": sibling["requests"], "rows": len(tiny.ROWS)},
            **{name: sibling["identity"].get(name) for name in own if name != "tokenizer"},
            "tokenizer": None,
        },
    ]
    footers = [read_footer(grid.path(c), CELL) for c in (cell, sibling)]
    assert [footer["verified"] for footer in footers] == [{"examples": 2}] * 2


def checks_by(monkeypatch: pytest.MonkeyPatch, check: Any) -> None:
    """Let `check` take the place of rescoring."""
    module = SimpleNamespace(largest_difference=lambda *_, **settings: check(settings))
    monkeypatch.setitem(sys.modules, "ebbtide.scoring.rescore", module)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            RuntimeError("Expected mat_a to be Float32\nat line 3"),
            "RuntimeError: Expected mat_a to be Float32",
        ),
        (MemoryError(), "MemoryError: MemoryError"),
        (ScoringError("a text of 9 tokens does not fit."), "a text of 9 tokens does not fit"),
    ],
)
def test_a_check_that_cannot_run_leaves_the_cell_and_says_so(
    error: Exception, reason: str, grid: Grid, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def check(_: Any) -> None:
        raise error

    checks_by(monkeypatch, check)
    cell, sibling = grid.add("c1", "t1"), grid.add("c1", "t2")
    hint = grid.hint(rescore_examples=2)
    assert grid.score(cell, hint) == "scored"
    assert grid.stored() == {"m/c1/t1", "m/c1/t2"}
    assert read_footer(grid.target(cell), CELL)["verified"] == {"examples": 0, "reason": reason}
    assert f"ScoringError: {cell['requests']} could not be rescored: {reason}." in capsys.readouterr().err
    assert [grid.score(c, hint) for c in (cell, sibling)] == ["copied", "copied"]
    assert not list(grid.root.rglob("*.unchecked.parquet"))


@pytest.mark.usefixtures("here")
def test_a_check_that_kills_the_worker_leaves_the_cell(
    grid: Grid, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Of the job's own cell and of a sibling; the next worker does not score either again."""
    work = score._work

    def check(_: Any) -> None:
        raise SystemExit  # no handler of the worker runs, as if it were killed

    def killed(job: Mapping[str, Any], lock: int, lease: Any) -> int:
        try:
            return work(job, lock, lease)
        except SystemExit:
            return -signal.SIGKILL

    checks_by(monkeypatch, check)
    monkeypatch.setattr(score, "_work", killed)
    cell, sibling = grid.add("c1", "t1"), grid.add("c1", "t2")
    hint = grid.hint(rescore_examples=2)
    assert grid.score(cell, hint) == "scored"
    assert capsys.readouterr().err.count("scored, but the process ended during its check") == 1
    verified = read_footer(grid.target(cell), CELL)["verified"]
    assert verified["examples"] == 0
    assert verified["reason"] == "the process ended during the check; is there enough memory?"

    checks_by(monkeypatch, lambda settings: {"examples": settings["examples"]})
    assert grid.score(sibling, hint) in ("copied", "waited")
    assert read_footer(grid.target(sibling), CELL)["verified"] == verified
    assert not grid.mark(sibling).exists()
    assert not list(grid.root.rglob("*.unchecked.parquet"))


@pytest.mark.usefixtures("here")
def test_a_cell_that_a_check_refutes_is_kept_aside_and_not_believed(
    grid: Grid, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    found = {"requests": 4, "largest_difference": 2.5, "worst": "example 1, choice 0", "beyond_rounding": 3}
    checks_by(monkeypatch, lambda settings: {"examples": settings["examples"], **found})
    cell = grid.add("c1", "t1")
    aside = store.refuted(grid.path(cell))
    for examples in (2, 0):  # rescoring less does not make it right
        with pytest.raises(ScoringError, match="could not be scored"):
            grid.score(cell, grid.hint(rescore_examples=examples))
        assert (
            "ScoringError: 3 of 4 rescored requests differ from float64 by more than rounding explains "
            f"(example 1, choice 0 by 2.5 nats); the cell is not used, but kept as {aside}. Score with "
            "`backend: transformers`, and report this model." in capsys.readouterr().err
        )
        assert not grid.target(cell).exists()
        assert not grid.stored()
        assert read_footer(aside, CELL)["verified"] == {"examples": 2, **found}

    checks_by(monkeypatch, lambda settings: {"examples": settings["examples"], "beyond_rounding": 0})
    assert grid.score(cell, grid.hint(rescore_examples=0)) == "scored"  # by better code
    assert read_footer(grid.target(cell), CELL)["verified"]["examples"] == 2
    assert not aside.exists()


@pytest.mark.usefixtures("here")
def test_nothing_is_checked_unasked(grid: Grid, verified: list[dict[str, Any]]) -> None:
    cell = grid.add("c1", "t1")
    grid.score(cell, grid.hint(rescore_examples=0))
    assert not verified
    assert "verified" not in read_footer(grid.path(cell), CELL)


@pytest.mark.usefixtures("here")
def test_the_footer_has_the_full_digest_of_the_weights_and_cells_of_others_are_refused(
    grid: Grid, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A directory that planning knows by a sample, whose bytes change where the sample has none."""
    monkeypatch.setattr(fingerprint, "WHOLE_BYTES", 10_000)
    monkeypatch.setattr(fingerprint, "SAMPLED_BYTES", 5_000)
    cells = [grid.add("c1", task) for task in ("t1", "t2", "t3")]
    file, record = grid.root / "c1" / "model.safetensors", grid.root / "located.json"
    located = locate(grid.root / "c1", record)
    assert located.weights.startswith("sampled:")
    for cell in cells:
        cell["checkpoint"] = str(record)
        cell["identity"] |= {"weights": located.weights, "tokenizer": located.tokenizer}

    hint = grid.hint("cell")
    assert grid.score(cells[0], hint) == "scored"
    digests = {file.name: file_sha256(file)}
    assert read_footer(grid.target(cells[0]), CELL)["weights_sha256"] == digests
    assert grid.score(cells[1], hint) == "scored"

    largest = max(read_header(file).tensors, key=lambda t: t.end - t.begin)
    flip(file, largest.begin + (largest.end - largest.begin) // 4)
    with pytest.raises(ScoringError, match=r"t3\.parquet could not be scored"):
        grid.score(cells[2], hint)
    error = capsys.readouterr().err
    assert f"{file} has the sha256 {file_sha256(file)}" in error
    assert f"{located.weights} was first scored with {digests[file.name]} (" in error
    assert grid.stored() == {"m/c1/t1", "m/c1/t2"}
    assert not grid.target(cells[2]).exists()


def test_a_worker_starts_without_pandas_and_transformers() -> None:
    program = (
        "import sys, ebbtide.jobs.worker; print([m for m in ('pandas', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)


@pytest.fixture
def hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hold:
    """Let the worker wait at the frozen task of a cell; the file returned exists once it does."""

    def at(cell: Mapping[str, Any]) -> Path:
        monkeypatch.setenv("HOLD", cell["requests"])
        monkeypatch.setenv("HELD", str(tmp_path / "held"))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HOLD), os.environ.get("PYTHONPATH", "")]))
        return tmp_path / "held"

    return at


def children_of(process: subprocess.Popen[str]) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(child) for child in children.split()]


def child_of(process: subprocess.Popen[str]) -> int:
    return children_of(process)[0]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to find the worker")
def test_a_worker_killed_ahead_fails_nobody_but_its_sibling_s_own_job(grid: Grid, hold: Hold) -> None:
    cell, sibling, last = (grid.add("c1", task) for task in ("t1", "t2", "t3"))
    hold(sibling)
    hint = grid.hint()

    lead = subprocess.Popen(grid.command(cell, hint), stderr=subprocess.PIPE, text=True)
    wait_for(grid.mark(sibling), lead)
    os.kill(child_of(lead), signal.SIGKILL)
    assert lead.wait() == 0
    assert grid.target(cell).exists()
    assert grid.stored() == {cell["name"], last["name"]}  # the last by another worker
    assert grid.mark(sibling).exists()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to find the worker")
def test_a_killed_lead_does_not_free_the_lock_under_its_worker(grid: Grid, hold: Hold) -> None:
    cell = grid.add("c1", "t1")
    held = hold(cell)
    lead = subprocess.Popen(grid.command(cell, grid.hint()), stderr=subprocess.PIPE, text=True)
    wait_for(held, lead)
    worker = child_of(lead)
    on_node, in_store = {
        fd.readlink() for fd in Path(f"/proc/{lead.pid}/fd").iterdir() if fd.readlink().suffix == ".lock"
    }
    lead.kill()
    lead.wait()
    try:
        for lock in (on_node, in_store):
            with lock.open("rb") as file, pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.kill(worker, signal.SIGKILL)
        lead.communicate()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to find the worker")
def test_a_worker_killed_at_its_own_cell_says_so(grid: Grid, hold: Hold) -> None:
    cell, sibling = grid.add("c1", "t1"), grid.add("c1", "t2")
    held = hold(cell)
    lead = subprocess.Popen(grid.command(cell, grid.hint()), stderr=subprocess.PIPE, text=True)
    wait_for(held, lead)
    os.kill(child_of(lead), signal.SIGKILL)
    error = lead.communicate()[1]
    assert grid.stored() == {sibling["name"]}
    assert lead.returncode == 2
    assert re.search(
        r"t1\.parquet could not be scored: the worker was killed by signal 9 \(SIGKILL\), as the kernel does "
        r"when memory runs out \(it used \d+\.\d GB\)\. Run fewer jobs at a time \(--cores\), give each more "
        r"memory \(--set-resources score:mem_mb=…\), or set a smaller scoring\.max_length, which scores all "
        r"cells again\.$",
        error.splitlines()[-1],
    )
    assert not grid.target(cell).exists()


def test_ctrl_c_ends_a_job_and_its_worker_with_one_sentence(grid: Grid, hold: Hold) -> None:
    """A terminal sends it to both."""
    cell = grid.add("c1", "t1")
    held = hold(cell)
    lead = subprocess.Popen(
        grid.command(cell, grid.hint()),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell starts background jobs, such as a test run, with SIGINT ignored, which is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 (no threads here)
    )
    wait_for(held, lead)
    os.killpg(lead.pid, signal.SIGINT)
    error = lead.communicate(timeout=60)[1]  # until both have closed it, so the worker has ended too
    assert "Traceback" not in error
    assert error.splitlines()[-1] == "Interrupted."
    assert lead.returncode == 130


def test_two_jobs_of_a_checkpoint_load_its_weights_once(grid: Grid) -> None:
    cells = [grid.add("c1", "t1"), grid.add("c1", "t2")]
    hint = grid.hint()
    jobs = [subprocess.Popen(grid.command(cell, hint), stderr=subprocess.PIPE, text=True) for cell in cells]
    errors = [job.communicate()[1] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0]
    assert "".join(errors).count("loaded weights") == 1
    assert all(grid.target(cell).exists() for cell in cells)


LOCK_FAULTS = Path(tiny.__file__).parent / "lock_faults"


def two_checkouts(root: Path) -> list[Grid]:
    """Two checkouts with the same weights and task, each with one cell, which share a store."""
    (root / "cells").mkdir()
    checkouts = [Grid(root / name) for name in ("one", "two")]
    for checkout in checkouts:
        checkout.root.mkdir()
        (checkout.root / "cells").symlink_to(root / "cells")
        checkout.add("c1", "t1")
    return checkouts


def start(checkout: Grid, *, node: str, **environment: str) -> subprocess.Popen[str]:
    """Start the job of the only cell of a checkout, on a node with a disk of its own for locks."""
    temporary = checkout.root.parent / node
    temporary.mkdir(exist_ok=True)
    if environment:  # in front, as there can be one sitecustomize only
        environment["PYTHONPATH"] = os.pathsep.join([str(LOCK_FAULTS), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        checkout.command(checkout.cells[0], checkout.hint()),
        env={**os.environ, "TMPDIR": str(temporary), **environment},
        stderr=(checkout.root / "log").open("w"),
        text=True,
    )


def wait_until(condition: Callable[[], Any], *running: subprocess.Popen[str]) -> Any:
    while not (found := condition()):
        assert all(process.poll() is None for process in running)
        time.sleep(0.02)
    return found


def locks_of(process: subprocess.Popen[str]) -> set[Path]:
    """Return the lock files that a process has open."""
    with suppress(FileNotFoundError):  # a file was closed in the meantime
        files = [fd.readlink() for fd in Path(f"/proc/{process.pid}/fd").iterdir()]
        return {file for file in files if file.suffix == ".lock"}
    return set()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to see open files")
def test_checkouts_that_share_a_store_use_the_same_locks(tmp_path: Path, hold: Hold) -> None:
    """On a node, the second waits for the first; on another node, it waits for the lock in the store."""
    one, two = two_checkouts(tmp_path)
    held = hold(one.cells[0])
    holder = start(one, node="a")
    others = []
    try:
        wait_for(held, holder)
        assert len(locks_of(holder)) == 2
        on_node, in_store = sorted(locks_of(holder), key=lambda lock: lock.parent.name == ".locks")
        others.append(start(two, node="a"))
        assert wait_until(lambda: locks_of(others[0]), *others) == {on_node}
        others[0].kill()
        others.append(start(two, node="b"))
        said = f"waiting for another machine that scores these weights ({two.root}/cells/.locks/"
        wait_until(lambda: said in (two.root / "log").read_text(), others[1])
        assert (two.root / "cells/.locks" / in_store.name).samefile(in_store)
        os.kill(children_of(holder)[0], signal.SIGKILL)
        assert others[1].wait() == 0
    finally:
        for process in (holder, *others):
            process.kill()
            process.wait()
    assert two.target(two.cells[0]).exists()


@pytest.mark.parametrize(
    ("fault", "reason"), [("fails", "No locks available"), ("nothing", "locks have no effect there")]
)
def test_without_locks_between_machines_cells_are_right_and_the_log_says_it(
    tmp_path: Path, fault: str, reason: str
) -> None:
    checkouts = two_checkouts(tmp_path)
    jobs = [start(checkout, node=checkout.root.name, LOCK_FAULT=fault) for checkout in checkouts]
    assert [job.wait() for job in jobs] == [0, 0]
    footers = [read_footer(checkout.target(checkout.cells[0]), CELL) for checkout in checkouts]
    assert len({footer["content_sha256"] for footer in footers}) == 1
    logs = [(checkout.root / "log").read_text() for checkout in checkouts]
    scored = [said for said in logs if "loaded weights" in said]
    assert scored
    assert all(said.count(f"no locks between machines ({reason})") == 1 for said in scored)
