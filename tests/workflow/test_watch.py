"""`ebbtide watch` beside a run in training, and what disturbs it: kills, other runs, broken studies."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import tiny
import trainer
from drills import descendants
from workspace import ROOT, Workspace, write_small_study

pytestmark = pytest.mark.slow
OPTIONS = (
    "--snakemake",
    "--snakefile",
    str(ROOT / "Snakefile"),
    "--cores",
    "2",
    "--until",
    "check_alarms",
    "audit",
)
HOLD = 240  # seconds that anything may take on a busy machine


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture
def study(tmp_path: Path) -> Workspace:
    """A study of a run in training that has no checkpoint yet."""
    made = write_small_study(tmp_path)
    with made.edited("config.yaml") as config:
        row = {"name": "run", "path": "run/step{step}", "steps": "all", "tokens_per_step": 1000}
        config |= {
            "models": [row],
            "tasks": ["tasks/memo_trap.yaml", "tasks/fact_qa.yaml"],
            "scoring": {"dtype": "float32", "load_once_per": "model", "rescore_examples": 0},
            "watch": {"settle_seconds": 0.5, "attempts": 1},
        }
    made.env["PYTHONPATH"] = str(ROOT / "workflow")
    return made


@contextmanager
def watcher(study: Workspace, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A watcher that prints to watch.log; it is ended with the block."""
    command = [sys.executable, "-m", "ebbtide", "watch", "config.yaml", *arguments, *OPTIONS]
    with (study.path / "watch.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=study.path, env=study.env, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(HOLD)


def once(study: Workspace, *arguments: str) -> tuple[int, str]:
    """Make one pass; returns its status and what it printed."""
    before = printed(study)
    with watcher(study, "--once", *arguments) as process:
        return process.wait(HOLD), printed(study).removeprefix(before)


def printed(study: Workspace) -> str:
    log = study.path / "watch.log"
    return log.read_text() if log.exists() else ""


def until(ready: Callable[[], object], process: subprocess.Popen[bytes], study: Workspace) -> None:
    """Wait while the watcher runs."""
    deadline = time.monotonic() + HOLD
    while not ready():
        assert process.poll() is None and time.monotonic() < deadline, printed(study)
        time.sleep(0.05)


def scored(study: Workspace) -> list[str]:
    """The checkpoints of which the watcher says that it has scored cells, once for each time."""
    return re.findall(r"run/(step\d+): scored 2 cells", printed(study))


def stored(study: Workspace) -> dict[str, tuple[int, int]]:
    """The cells in the store, by their file, and when they were written."""
    files = (study.path / "cells").glob("[!.]*.parquet")
    return {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in files}


def test_a_run_in_training_is_scored_as_it_grows(study: Workspace, base: Path) -> None:
    """A half-written checkpoint waits, a broken one is named, and every other one is scored exactly once."""
    (study.path / "watch.log").touch()
    training = subprocess.Popen(
        [sys.executable, trainer.__file__, str(base), str(study.path / "run"), str(study.path / "watch.log")],
        env=study.env,
    )
    with watcher(study, "--every", "1s") as process:
        until(lambda: "scored before" in printed(study), process, study)
        first = stored(study)
        until(lambda: "run/step400: refused: it failed 1 time:" in printed(study), process, study)
        until(lambda: len(descendants(process.pid)) > 1, process, study)  # the next run of Snakemake
        processes = descendants(process.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(HOLD) == 130
    assert not any(Path(f"/proc/{pid}").exists() for pid in processes)
    assert training.wait(10) == 0
    said = printed(study)
    assert re.search(r"run/step300: waits.*: run/step300/model.safetensors has \d+ bytes, its header", said)
    assert re.search(
        r"run/step400: failed 1 time \(watch.attempts: 1\): CheckpointError: .*non-finite values", said
    )
    assert sorted(scored(study)) == ["step100", "step200", "step300", "step500"]
    assert len(stored(study)) == 8 and first.items() <= stored(study).items()
    assert "gate: " in said and said.endswith("Interrupted.\n")
    assert not list(study.path.glob(".snakemake/locks/*"))
    alarms = (study.path / "results/small/alarms.tsv").read_text()
    assert "step500" in alarms and "step400" not in alarms


def test_what_a_kill_leaves_is_taken_over_and_nothing_is_scored_twice(study: Workspace, base: Path) -> None:
    for step in (100, 200):
        trainer.write(base, study.path / f"run/step{step}", trainer.weights(base, step))
    with watcher(study, "--once") as process:
        until(lambda: stored(study), process, study)
        # Another watcher of the same study says who has it, and ends.
        status, said = once(study)
        assert status == 2 and f"another watcher of this study is running: process {process.pid} of" in said
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    # Its run of Snakemake goes on, so that nobody may begin.
    first = stored(study)
    group = json.loads((study.path / "results/small/.watch.lock").read_text())["run"]["group"]
    status, said = once(study)
    assert "took over from process" in said
    assert (status, "a killed watcher has started goes on" in said) in [(2, True), (0, False)]
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    was_locked = any(study.path.glob(".snakemake/locks/*"))
    status, said = once(study)
    assert status == 0, said
    assert ("removed the lock of a run of Snakemake that was killed" in said) == was_locked
    assert len(stored(study)) == 4 and first.items() <= stored(study).items()
    status, said = once(study)
    assert (status, scored(study).count("step100") <= 1) == (
        0,
        True,
    ) and "2 checkpoints scored before" in said


def test_alarms_of_a_real_gate_are_reported_once(study: Workspace) -> None:
    """Made-up numbers scatter from checkpoint to checkpoint, which is an alarm if any drop is one."""
    for step in (100, 200, 300):
        tiny.hollow_checkpoint(study.path / f"run/step{step}", step)
    note = "import os; print(os.environ['EBBTIDE_MESSAGE'], os.path.isfile(os.environ['EBBTIDE_ALARMS']))"
    with study.edited("config.yaml") as config:
        config["scoring"]["backend"] = "fake"
        config["watch"] = {"settle_seconds": 0, "on_alarm": [sys.executable, "-c", note]}
        config["trajectories"] = {"alpha": 0.99}
        config["alarms"] = {"effects": {"moderate": 1e-6}}
    status, said = once(study)
    verdict = re.search(r"gate: (\d+ alarms? at or above moderate)\n", said)
    assert verdict and status == 1, said
    log = study.path / "logs/watch/small.on_alarm.log"
    assert log.read_text() == f"{verdict[1]} True\n" and "on_alarm: done" in said
    log.unlink()
    status, said = once(study)
    assert (status, log.exists()) == (1, False) and verdict[0] in said
    assert "3 checkpoints scored before" in said
