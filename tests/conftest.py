"""Fixtures of all tests: a finished small study, and reference data."""

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from filelock import FileLock

import skips
from workspace import SHARED, Workspace, write_small_study


def pytest_configure() -> None:
    """Let interrupts interrupt, also if the run ignores them, as a shell makes its background jobs do."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Take back what a verb that runs inside the test sets in the environment, such as its leased GPUs."""
    with patch.dict(os.environ):
        yield


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The small study, run once for all tests. Do not change it: take `study`."""
    shared = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        shared = shared.parent
    with FileLock(shared / "small.lock"):
        path = shared / "small"
        if not (path / "results/small/summary.txt").exists():
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()
            write_small_study(path).run()
    return Workspace(path)


@pytest.fixture
def study(finished_study: Workspace, tmp_path: Path) -> Workspace:
    """A copy of the finished small study, with its history; change it at will."""
    shutil.copytree(finished_study.path, tmp_path / "study", symlinks=True)
    return Workspace(tmp_path / "study")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference data beside the checkout; the test is skipped where there is none."""
    if not SHARED.is_dir():
        pytest.skip("no reference data: ../shared is not beside this checkout")
    return SHARED


@pytest.fixture
def any_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load models of a few rows beside a tokenizer of more words: for tests that feed ids themselves."""
    monkeypatch.setattr("ebbtide.scoring.tokenizer.check_vocabulary", lambda *_: None)


_SKIPPED: list[tuple[str, str]] = []


def _note_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and isinstance(report.longrepr, tuple) and not hasattr(report, "wasxfail"):
        _SKIPPED.append((report.nodeid, report.longrepr[2].removeprefix("Skipped: ")))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note every skipped test (in the process that collects the reports of all workers)."""
    _note_skip(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Note every skipped module."""
    _note_skip(report)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """With CI=true, a skip that `skips.ALLOWED` does not list fails the run."""
    if os.environ.get("CI") != "true" or os.environ.get("PYTEST_XDIST_WORKER"):
        return
    if found := skips.unexpected(_SKIPPED):
        print("\nSkipped without a reason that CI allows (tests/helpers/skips.py):", *found, sep="\n  ")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
