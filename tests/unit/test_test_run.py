"""The test run itself: unexpected skips fail CI, and tests of one group share a worker and its set-up."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from workspace import ROOT


@pytest.mark.parametrize(
    ("reason", "ci", "status"),
    [
        ("needs a GPU", "true", 0),
        ("lm_eval is not installed", "true", 1),
        ("lm_eval is not installed", "", 0),
    ],
)
def test_unexpected_skips_fail_ci(tmp_path: Path, reason: str, ci: str, status: int) -> None:
    (tmp_path / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(
        f"import pytest\ndef test_good(): pass\ndef test_skipped(): pytest.skip({reason!r})\n"
    )
    paths = os.pathsep.join([str(ROOT / "tests/helpers"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    done = subprocess.run(
        [*command, str(tmp_path)],
        env={**os.environ, "CI": ci, "PYTHONPATH": paths, "PYTEST_XDIST_WORKER": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert ("Skipped without a reason" in done.stdout) == bool(status)


def test_a_group_runs_in_one_worker(tmp_path: Path) -> None:
    """Without groups, every worker would train its own ladder."""
    (tmp_path / "test_it.py").write_text(
        "import os, pytest\n"
        "@pytest.mark.xdist_group('one')\n"
        "@pytest.mark.parametrize('i', range(12))\n"
        f"def test_it(i): open({str(tmp_path / 'workers')!r}, 'a').write(os.environ['PYTEST_XDIST_WORKER'] + ' ')\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadgroup", str(tmp_path)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    subprocess.run([*command, "--rootdir", str(tmp_path)], env=environment, check=True, capture_output=True)
    workers = (tmp_path / "workers").read_text().split()
    assert len(workers) == 12 and len(set(workers)) == 1
