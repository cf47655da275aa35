"""A bundle that is killed while it is written or unpacked leaves nothing under its final name."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ebbtide.report.bundle.archive import unpack, write_bundle

pytestmark = pytest.mark.long
# Prints a line in the middle of the work and waits there to be killed.
WRITE = """
import sys, time
from ebbtide.report.bundle import archive
def stop(source, target, block):
    target.write(source.read(3)); print("halfway", flush=True); time.sleep(600)
archive.shutil.copyfileobj = stop
archive.write_bundle(sys.argv[1], {"cells": sys.argv[2]}, "drill", {"name": "drill"}, None)
"""
UNPACK = """
import sys, time
from ebbtide.report.bundle import archive
whole = archive._extract
def stop(*arguments):
    whole(*arguments); print("halfway", flush=True); time.sleep(600)
archive._extract = stop
archive.unpack(sys.argv[1], sys.argv[2])
"""


def _killed_halfway(code: str, *arguments: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"halfway\n"
        run.kill()
    assert run.returncode == -signal.SIGKILL


def test_a_killed_bundle_is_made_and_unpacked_by_the_next_command(tmp_path: Path) -> None:
    cells, bundle, target = tmp_path / "cells", tmp_path / "bundle.zip", tmp_path / "unpacked"
    cells.mkdir()
    for name in ("a", "b"):
        (cells / name).write_text(f"cell {name}")

    _killed_halfway(WRITE, bundle, cells)
    assert not bundle.exists()
    write_bundle(bundle, {"cells": str(cells)}, "drill", {"name": "drill"}, None)

    _killed_halfway(UNPACK, bundle, target)
    assert not target.exists()
    unpack(bundle, target)
    assert {path.name: path.read_text() for path in (target / "cells").iterdir()} == {
        "a": "cell a",
        "b": "cell b",
    }
    assert not list(tmp_path.glob(".unpacked*"))
