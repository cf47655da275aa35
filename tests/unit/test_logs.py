"""Progress goes to the terminal of the run, on this machine only, and sparsely to the log."""

import logging
import socket
from pathlib import Path

import pytest

from ebbtide import logs
from ebbtide.logs import Progress, last_errors, log


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in place of a terminal, named as the planning process would name its own."""
    path = tmp_path / "terminal"
    path.touch()
    monkeypatch.setenv("EBBTIDE_TERMINAL", f"{socket.gethostname()}:{path}")
    monkeypatch.setattr(logs, "TERMINAL_SECONDS", 0.0)
    return path


def test_lines_go_to_the_terminal_of_the_run(terminal: Path) -> None:
    progress = Progress()
    progress.show("checkpoint 1 of 9")
    progress.show("checkpoint 2 of 9")
    assert terminal.read_text() == "checkpoint 1 of 9\ncheckpoint 2 of 9\n"


def test_a_young_line_is_not_followed_by_another(terminal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "TERMINAL_SECONDS", 1e9)
    Progress().show("checkpoint 1 of 9")
    assert terminal.read_text() == ""


def test_a_job_on_another_machine_leaves_its_terminals_alone(
    terminal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EBBTIDE_TERMINAL", f"elsewhere:{terminal}")
    Progress().show("checkpoint 1 of 9")
    assert terminal.read_text() == ""


def test_the_log_is_quiet(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(log, "propagate", True)
    monkeypatch.setattr(log, "handlers", [])  # pytest adds its own to a logger that does not propagate
    monkeypatch.delenv("EBBTIDE_TERMINAL", raising=False)
    caplog.set_level(logging.INFO, "ebbtide")
    progress = Progress()
    for i in range(100):
        progress.show(f"checkpoint {i}")
    progress.done("9 checkpoints")
    assert caplog.messages == ["9 checkpoints"]


def test_the_last_errors_of_failed_jobs_are_found(tmp_path: Path) -> None:
    (tmp_path / "score").mkdir()
    failed = tmp_path / "score" / "a.log"
    failed.write_text("12:00:00 loaded weights\nScoringError: example 0, choice 1: no tokens.\n")
    (tmp_path / "score" / "b.log").write_text("12:00:00 ScoringError: of a sibling\nb: copied\n")
    assert last_errors(tmp_path, since=0.0) == [f"{failed}: ScoringError: example 0, choice 1: no tokens."]
    failed.write_text("12:00:00 ScoringError: no [UNK].\nScoringError: a not scored; its message is above.\n")
    assert last_errors(tmp_path, since=0.0) == [
        f"{failed}: 12:00:00 ScoringError: no [UNK].",
        f"{failed}: ScoringError: a not scored; its message is above.",
    ]
    assert last_errors(tmp_path, since=failed.stat().st_mtime + 1) == []
