"""Progress goes to the terminal of the run, on this machine only, and sparsely to the log."""

import logging
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ebbtide import logs
from ebbtide.logs import Progress, cause_in, log


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


@pytest.mark.parametrize(
    ("raised", "last", "has_traceback"),
    [("KeyboardInterrupt", "Interrupted.", False), ("ValueError('no [UNK]')", "ValueError: no [UNK]", True)],
)
def test_the_log_of_an_interrupted_script_has_no_traceback(
    raised: str, last: str, has_traceback: bool, tmp_path: Path
) -> None:
    program = f"from ebbtide.logs import log_to\nlog_to('job.log')\nraise {raised}"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, check=False)
    text = (tmp_path / "job.log").read_text()
    assert text.splitlines()[-1].split(" ", 1)[1] == last
    assert ("Traceback" in text) == has_traceback
    assert b"Traceback" not in done.stderr
    assert done.returncode != 0
    assert cause_in(tmp_path / "job.log") == last


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("12:00:00 loaded weights\nScoringError: no tokens.\n", "ScoringError: no tokens."),
        ("12:00:00 ScoringError: of a sibling\n12:00:00 copied\n", None),
        (
            "12:00:00 ScoringError: no [UNK].\nScoringError: a; its message is above.\n",
            "ScoringError: no [UNK].",
        ),
        ("ScoringError: a; its message is above.\n", "ScoringError: a; its message is above."),
        ("12:00:00 leased GPU-a\nInterrupted.\n", "Interrupted."),
        ("12:00:00 fitted 3 of 9\n12:00:01 Interrupted.\n", "Interrupted."),
        ("", None),
    ],
)
def test_the_cause_of_a_failed_job_is_found(tmp_path: Path, text: str, cause: str | None) -> None:
    path = tmp_path / "a.log"
    assert cause_in(path) is None
    path.write_text(text)
    assert cause_in(path) == cause
