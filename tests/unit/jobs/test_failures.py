"""Causes of failed jobs: few lines, of failed jobs only."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from ebbtide.jobs.failures import MOST, SILENT, Failures
from ebbtide.jobs.snakemake_internals import FailedJob

SNAKEMAKE = logging.getLogger("snakemake.logging")
TIME_LIMIT = "slurmstepd-ebb: error: *** JOB 6 ON ebb CANCELLED AT 2026-11-26T23:44:46 DUE TO TIME LIMIT ***"


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Failures:
    """Of a run with `--quiet rules`."""
    monkeypatch.setattr(SNAKEMAKE, "handlers", [])
    monkeypatch.chdir(tmp_path)
    quiet = [SimpleNamespace(name="RULES")]
    return Failures(SimpleNamespace(output_settings=SimpleNamespace(quiet=quiet)))


def job(name: str, log: str | None = None) -> dict[str, Any]:
    """What Snakemake says of a failed job; the log is written unless it is None."""
    path = Path(f"logs/{name}.log")
    if log is not None:
        path.parent.mkdir(exist_ok=True)
        path.write_text(log)
    return {"output": [f"{name}.parquet"], "log": [str(path)], "indent": False}


def fail(found: dict[str, Any]) -> None:
    SNAKEMAKE.error("Error in rule score", extra={"event": LogEvent.JOB_ERROR, **found})


def fail_group(jobs: list[dict[str, Any]], slurm: str) -> None:
    """As `GroupJob.log_error`: the group, and then each of its jobs."""
    Path("logs").mkdir(exist_ok=True)
    Path("logs/6.log").write_text(slurm)
    group = {"event": LogEvent.GROUP_ERROR, "aux_logs": ["logs/6.log"], "job_error_info": jobs}
    SNAKEMAKE.error("Error in group checkpoint", extra=group)
    for one in jobs:
        fail({**one, "indent": True})


def test_a_submission_names_its_failed_cells_only(failures: Failures) -> None:
    noise = "rule score:\n" * 200 + "WorkflowError:\nAt least one job did not complete successfully.\n"
    bad = "12:00:00 CheckpointError: no config.\nScoringError: bad not scored; its message is above.\n"
    fail_group([job("good", "12:00:00 scored 3 cells\n"), job("bad", bad), job("measure")], noise)
    assert failures.lines() == ["logs/bad.log: CheckpointError: no config."]


@pytest.mark.parametrize(
    ("slurm", "said"),
    [
        (f"{TIME_LIMIT}\nsrun: error: ebb: task 0: Terminated\n", "logs/6.log: JOB 6 ON ebb CANCELLED"),
        (
            "slurmstepd: error: Detected 1 oom_kill event in StepId=6.batch.\n",
            "logs/6.log: Detected 1 oom_kill",
        ),
        ("srun: error: ebb: task 0: Killed\n", "logs/6.log: ebb: task 0: Killed"),
        ("rule score:\n", f"logs/6.log: {SILENT}"),
    ],
)
def test_a_submission_ended_by_slurm_says_why(failures: Failures, slurm: str, said: str) -> None:
    fail_group([job("good", "12:00:00 scored 3 cells\n"), job("never started")], slurm)
    [line] = failures.lines()
    assert line.startswith(said)


def test_a_failure_is_printed_when_it_occurs(failures: Failures, caplog: pytest.LogCaptureFixture) -> None:
    fail(job("bad", "ScoringError: no tokens.\n"))
    assert "Failed: logs/bad.log: ScoringError: no tokens." in caplog.messages
    failures._workflow.output_settings.quiet = None  # Snakemake prints it
    caplog.clear()
    fail(job("worse", "ScoringError: no tokens.\n"))
    assert caplog.messages == ["Error in rule score"]


def test_a_job_that_succeeded_at_the_second_attempt_is_no_failure(failures: Failures) -> None:
    fail(job("bad", "ScoringError: no tokens.\n"))
    Path("bad.parquet").touch()
    assert failures.lines() == []


def test_equal_causes_are_one_line_and_many_causes_few(failures: Failures) -> None:
    for i in range(3):
        fail(job(f"same{i}", f"12:00:0{i} ScoringError: no tokens.\n"))
    assert failures.lines() == ["logs/same0.log and 2 more: ScoringError: no tokens."]
    for i in range(40):
        fail(job(f"a{i}", f"ScoringError: example {i}.\n"))
    lines = failures.lines()
    assert len(lines) == MOST
    assert lines[0].startswith("logs/same0.log and 2 more")
    assert lines[-1] == "37 other errors, the first: logs/a3.log: ScoringError: example 3."


def test_a_log_that_is_not_visible_yet_is_named(failures: Failures) -> None:
    fail(job("bad"))
    assert failures.lines() == [f"logs/bad.log: {SILENT}"]
    assert failures._jobs == [FailedJob(["bad.parquet"], ["logs/bad.log"])]
