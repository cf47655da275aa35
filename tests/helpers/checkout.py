"""A copy of what git tracks, in which commands run as a user would type them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from workspace import ROOT


class Checkout:
    """A copy of what git tracks, with its package before all others."""

    def __init__(self, path: Path) -> None:
        self.path = path
        tracked = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        for name in filter(None, tracked.split("\0")):
            if not (ROOT / name).is_file():
                continue  # a link to a directory
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, path / name)  # with its date: a newer script would plan its rule
        # So that `make` finds an installed environment; its programs come from PATH.
        for name in ("python", "../.installed", "../.installed-test"):
            (path / ".venv/bin").mkdir(parents=True, exist_ok=True)
            (path / ".venv/bin" / name).touch()
        own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        self.env = own | {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": str(path / "workflow"),
            "PYTEST_DEBUG_TEMPROOT": str(path.parent),
            "OMP_NUM_THREADS": "1",
        }
        self.run("git init --quiet && git add --all")

    def run(self, command: str, directory: Path | None = None) -> str:
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {command}"],
            cwd=directory or self.path,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.fail(f"{command}\nended with {done.returncode}:\n{done.stdout[-6000:]}")
        return done.stdout
