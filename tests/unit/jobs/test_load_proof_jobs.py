"""Load proofs in scoring jobs: made once, before the first task, without an effect on cells."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import tiny
import trained_series as series
from ebbtide.cells import store
from ebbtide.checkpoints.directory import identities
from ebbtide.errors import ScoringError
from ebbtide.files import canonical_json
from ebbtide.jobs import load_proof, worker
from ebbtide.jobs.score_cell import score_cell
from ebbtide.logs import log
from ebbtide.scoring.proof.load_key import key_of, path_of
from ebbtide.scoring.proof.proof_file import read_proof
from ebbtide.tables import CELL, read_parquet

MADE = "made the load proof"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return series.train(tmp_path_factory.mktemp("trained"))


class Jobs:
    """Scoring jobs of checkpoints × tasks with one store and one hint."""

    def __init__(self, root: Path) -> None:
        self.root, self.cells = root, root / "cells"
        self.made: list[dict[str, Any]] = []
        self.steps: list[dict[str, Any]] = []

    def add(self, directory: Path, *tasks: str, **changes: Any) -> None:
        weights, tokenizer = identities(directory)
        for task in tasks:
            requests = self.root / f"{task}.parquet"
            if not requests.exists():
                tiny.requests(requests, task=task)
            identity = tiny.identity(task, weights=weights, tokenizer=tokenizer, **changes)
            name = f"m/{directory.name}/{task}"
            marker = str(directory / "config.json")
            self.made.append(
                {"name": name, "checkpoint": marker, "requests": str(requests), "identity": identity}
            )
        key = key_of(self.made[-1]["identity"])
        step = int(directory.name.removeprefix("step"))
        self.steps.append({"name": directory.name, "step": step, "tokens": 256 * step, "key": key})

    def hint(self, mode: str = "checkpoint", **rules: Any) -> str:
        path = self.root / "hint.json"
        content = {"load_once_per": mode, "store": str(self.cells), "cells": self.made, "model": "m"}
        content |= {"proofs": self.steps, "proof_rules": {**load_proof.WARN_ONLY, **rules}}
        path.write_text(json.dumps(content))
        return str(path)

    def command(self, cell: Mapping[str, Any], hint: str) -> list[str]:
        return [
            *(sys.executable, "-m", "ebbtide", "score", "--model", cell["checkpoint"]),
            *("--requests", cell["requests"], "--identity", canonical_json(cell["identity"])),
            *("--hint", hint, "--to", str(self.root / "results" / f"{cell['name']}.parquet")),
        ]

    def score(self, cell: Mapping[str, Any], hint: str) -> str:
        target = str(self.root / "results" / f"{cell['name']}.parquet")
        return score_cell(cell["checkpoint"], cell["requests"], cell["identity"], target, hint=hint)

    def proof(self, number: int = 0) -> Path:
        return path_of(self.cells, self.steps[number]["key"])

    def rows(self) -> list[Any]:
        paths = [store.path_of(self.cells, cell["identity"]) for cell in self.made]
        return [read_parquet(path, CELL) for path in paths]


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Jobs:
    monkeypatch.chdir(tmp_path)
    return Jobs(tmp_path)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run the worker in this process."""

    def work(job: Mapping[str, Any], locks: object, lease: object) -> int:
        monkeypatch.setattr(sys, "argv", ["worker", canonical_json(job)])
        return worker.main()

    monkeypatch.setattr("ebbtide.jobs.score_cell._work", work)
    handlers, propagate = log.handlers, log.propagate
    yield
    log.handlers, log.propagate = handlers, propagate


@pytest.mark.parametrize("mode", ["cell", "checkpoint"])
def test_eight_cells_of_a_checkpoint_have_one_proof(mode: str, trained: Path, jobs: Jobs) -> None:
    jobs.add(trained / "step60", *(f"t{number}" for number in range(8)))
    hint = jobs.hint(mode)
    running = [
        subprocess.Popen(jobs.command(cell, hint), stderr=subprocess.PIPE, text=True)
        for cell in (jobs.made if mode == "checkpoint" else jobs.made[:3])
    ]
    logs = [job.communicate()[1] for job in running]
    assert [job.returncode for job in running] == [0] * len(running), logs
    assert sum(text.count(MADE) for text in logs) == 1
    assert len(list((jobs.cells / "proofs").iterdir())) == 1


@pytest.mark.usefixtures("here")
def test_cells_are_bit_equal_with_and_without_a_proof(
    trained: Path, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs.add(trained / "step60", "t1", "t2")
    with monkeypatch.context() as patch:
        patch.setattr(worker, "prove_load", lambda *_: None)
        jobs.score(jobs.made[0], jobs.hint())
    assert not jobs.proof().exists()
    without = jobs.rows()
    for path in jobs.cells.glob("*.parquet"):
        path.unlink()
    jobs.score(jobs.made[0], jobs.hint())
    assert jobs.proof().exists()
    assert all(one.equals(other) for one, other in zip(jobs.rows(), without, strict=True))


@pytest.mark.usefixtures("here")
def test_a_fault_is_logged_before_the_first_task_and_on_the_terminal(
    trained: Path, jobs: Jobs, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = series.with_fault(trained / "step60", jobs.root / "step60", series.transposed)
    for directory in (trained / "step40", planted):
        jobs.add(directory, "t1")
    told: list[str] = []
    monkeypatch.setattr("ebbtide.logs.Progress.tell", lambda _, text: told.append(text))
    real, order = load_proof.prove_load, []
    monkeypatch.setattr(worker, "prove_load", lambda *given: (order.append("proof"), real(*given)))
    monkeypatch.setattr(worker, "write_cell", lambda *given: order.append("cell") or store_cell(*given))
    from ebbtide.cells.cell import write_cell as store_cell

    hint = jobs.hint()
    for cell in jobs.made:
        jobs.score(cell, hint)
    assert order == ["proof", "cell"] * 2
    said = "load proof: m/step60 has matrices that look transposed, compared with step40: model.layers.0"
    assert said in capsys.readouterr().err
    assert [text for text in told if said in text] == [
        f"Warning: {text[9:]}" for text in told if said in text
    ]


@pytest.mark.usefixtures("here")
def test_a_finding_can_stop_every_cell_with_one_load(
    trained: Path, jobs: Jobs, capsys: pytest.CaptureFixture[str]
) -> None:
    planted = series.with_fault(trained / "step60", jobs.root / "step60", series.swapped_head)
    jobs.add(trained / "step40", "t1")
    jobs.add(planted, "t1", "t2", "t3")
    hint = jobs.hint(load_tensors="stop")
    assert jobs.score(jobs.made[0], hint) == "scored"
    assert capsys.readouterr().err.count("loaded weights") == 1
    loads = 0
    for cell in jobs.made[1:]:
        with pytest.raises(ScoringError, match="could not be scored"):
            jobs.score(cell, hint)
        said = capsys.readouterr().err
        loads += said.count("loaded weights")
        assert "ScoringError: m/step60 has values of other tensors of step40, head and embedding" in said
    assert loads == 1
    allowed = [{"finding": "load_tensors", "models": ["m"], "reason": "planted"}]
    assert jobs.score(jobs.made[1], jobs.hint(load_tensors="stop", allow=allowed)) == "scored"
    assert "Allowed: planted." in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_a_damaged_proof_is_made_again(trained: Path, jobs: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    jobs.add(trained / "step60", "t1")
    jobs.score(jobs.made[0], jobs.hint())
    good = jobs.proof().read_bytes()
    for damaged in (good[:-200], b"", b"[]", good.replace(b'"tokens"', b'"t0kens"', 1)):
        jobs.proof().write_bytes(damaged)
        store.path_of(jobs.cells, jobs.made[0]["identity"]).unlink()
        capsys.readouterr()
        jobs.score(jobs.made[0], jobs.hint())
        assert jobs.proof().read_bytes() == good
        assert "The proof is made again." in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_a_proof_that_cannot_be_kept_or_made_costs_no_cell(
    trained: Path, jobs: Jobs, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs.add(trained / "step60", "t1")
    jobs.cells.mkdir()
    (jobs.cells / "proofs").write_text("in the way")
    assert jobs.score(jobs.made[0], jobs.hint()) == "scored"
    assert "the load proof is made again next time: StorageError" in capsys.readouterr().err

    (jobs.cells / "proofs").unlink()
    store.path_of(jobs.cells, jobs.made[0]["identity"]).unlink()

    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr("ebbtide.scoring.proof.losses.losses_of", fail)
        assert jobs.score(jobs.made[0], jobs.hint()) == "scored"
    assert "no loss: RuntimeError: out of memory" in capsys.readouterr().err
    proof = read_proof(jobs.cells, jobs.proof().stem)
    assert (proof.losses, proof.unread) == (None, "no loss: RuntimeError: out of memory")
    assert proof.sketches is not None

    store.path_of(jobs.cells, jobs.made[0]["identity"]).unlink()
    assert jobs.score(jobs.made[0], jobs.hint()) == "scored"  # the cause is gone
    assert read_proof(jobs.cells, jobs.proof().stem).losses is not None


def test_a_killed_job_leaves_no_half_proof_and_the_next_one_makes_it(trained: Path, jobs: Jobs) -> None:
    jobs.add(trained / "step60", "t1")
    hint = jobs.hint()
    slow = (
        "import sys, time; from ebbtide.jobs import load_proof, worker; real = load_proof.write_proof\n"
        "def write(*given):\n open('writing', 'w').close(); time.sleep(600)\n"
        "load_proof.write_proof = write; sys.exit(worker.main())"
    )
    job = {**jobs.made[0], "cells": str(jobs.cells), "hint": hint, "threads": 1}
    jobs.cells.mkdir()
    with subprocess.Popen([sys.executable, "-c", slow, canonical_json(job)], cwd=jobs.root) as killed:
        while not (jobs.root / "writing").exists():
            assert killed.poll() is None
            time.sleep(0.05)
        os.kill(killed.pid, signal.SIGKILL)
    assert not jobs.proof().exists()
    done = subprocess.run(jobs.command(jobs.made[0], hint), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert MADE in done.stderr
    assert read_proof(jobs.cells, jobs.proof().stem).losses is not None


@pytest.mark.usefixtures("here")
def test_made_up_numbers_have_no_proof(jobs: Jobs) -> None:
    jobs.add(tiny.hollow_checkpoint(jobs.root / "step5"), "t1", backend="fake")
    assert jobs.score(jobs.made[0], jobs.hint()) == "scored"
    assert not (jobs.cells / "proofs").exists()
