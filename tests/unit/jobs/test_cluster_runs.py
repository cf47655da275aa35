"""Runs on a scheduler: no submission is forgotten, and SIGTERM acts as Ctrl-C."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ebbtide.errors import ConfigError
from ebbtide.jobs import cluster


def run(command: str | None, first_look: int = 10, *, remote: bool = True) -> Any:
    """What Snakemake says of a run; without a command, its scheduler is another than Slurm."""
    settings = SimpleNamespace(status_command=command, init_seconds_before_status_checks=first_look)
    return SimpleNamespace(
        dryrun=False, local_exec=not remote, executor_settings=settings if command else None
    )


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The `scontrol` of a site; write what it prints into `settings`."""
    program = tmp_path / "scontrol"
    program.write_text(f"#!/bin/sh\ncat {tmp_path}/settings\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path / "settings"


@pytest.fixture(autouse=True)
def sigterm() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("setting", "command", "first_look", "safe"),
    [
        ("MinJobAge               = 300 sec", "squeue", 10, True),
        ("MinJobAge               = 100 sec", "squeue", 10, False),
        ("MinJobAge               = 3 min", "squeue", 10, False),
        ("MinJobAge               = 100 sec", "squeue", 60, True),  # the plugin turns to sacct
        ("MinJobAge               = 2 sec", "squeue", 10, True),  # likewise
        ("MinJobAge               = 100 sec", "sacct", 10, True),
        ("MinJobAge               = 100 sec", None, 10, True),
        ("nothing of the kind", "squeue", 10, True),
    ],
)
def test_slurm_must_remember_submissions_between_two_looks(
    scontrol: Path, setting: str, command: str | None, first_look: int, safe: bool
) -> None:
    scontrol.write_text(f"Configuration data\nMaxJobCount = 10000\n{setting}\nMpiDefault = none\n")
    workflow = run(command, first_look)
    if safe:
        cluster.prepare(workflow)
    else:
        with pytest.raises(ConfigError, match=r"found squeue.* MinJobAge of 200, or .* sacct .*Ctrl-C only"):
            cluster.prepare(workflow)


def test_sigterm_interrupts_a_run_on_a_scheduler() -> None:
    cluster.prepare(run(None))
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)


def test_sigterm_is_left_to_snakemake_in_a_local_run() -> None:
    before = signal.getsignal(signal.SIGTERM)
    cluster.prepare(run(None, remote=False))
    assert signal.getsignal(signal.SIGTERM) == before
