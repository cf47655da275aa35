"""A bundle that is killed while it is written or unpacked leaves no partial file under a final name."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ebbtide.report.bundle.archive import write_bundle
from ebbtide.report.bundle.unpacking import directory_of

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
import shutil, sys, time
from ebbtide.report.bundle import unpacking
copied = []
def stop(source, target, block):
    if len(copied) < 3:
        copied.append(target.write(source.read()))
    else:
        target.write(source.read(3)); target.flush(); print("halfway", flush=True); time.sleep(600)
unpacking.shutil.copyfileobj = stop
unpacking.directory_of(sys.argv[1], (), is_job=False)
"""


def _killed_halfway(code: str, *arguments: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"halfway\n"
        run.kill()
    assert run.returncode == -signal.SIGKILL


def test_a_killed_bundle_is_made_and_unpacked_by_the_next_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cells, bundle = tmp_path / "cells", tmp_path / "bundle.zip"
    cells.mkdir()
    for name in ("a", "b"):
        (cells / name).write_text(f"cell {name}")

    _killed_halfway(WRITE, bundle, cells)
    assert not bundle.exists()
    write_bundle(bundle, {"cells": str(cells)}, "drill", {"name": "drill"}, None)

    _killed_halfway(UNPACK, bundle)
    [target] = (tmp_path / "bundles").iterdir()
    whole = {path for path in target.rglob("[!.]*") if path.is_file()}
    assert len(whole) == 3
    before = {path: path.stat().st_mtime_ns for path in whole}
    assert directory_of(str(bundle), (), is_job=False) == target.relative_to(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in whole} == before  # it goes on where it was killed
    assert {path.name: path.read_text() for path in (target / "cells").iterdir()} == {
        "a": "cell a",
        "b": "cell b",
    }
    assert len([path for path in target.rglob("[!.]*") if path.is_file()]) == 6
