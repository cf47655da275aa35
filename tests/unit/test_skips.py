"""A skip that CI does not allow fails the run; one that it allows, or one outside CI, does not."""

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
