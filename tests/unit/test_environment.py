"""What jobs inherit: the interpreter, the package and the mirrors of the process that runs Snakemake."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ebbtide.environment import require_library, share_with_jobs
from ebbtide.errors import ConfigError

SEARCHED = ("PATH", "PYTHONPATH", "EBBTIDE_MIRRORS")


@pytest.mark.parametrize("position", ["absent", "second"])
def test_the_commands_of_rules_run_the_interpreter_of_snakemake(
    position: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also if its environment is not activated, or another `python` precedes it."""
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\nexit 7\n")
    other.chmod(0o755)
    own = str(Path(sys.executable).parent)
    after = {"absent": [], "second": [own]}[position]
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path), "/usr/bin", "/bin", *after]))
    for name in SEARCHED[1:]:  # empty, not absent, so that they are restored afterwards
        monkeypatch.setenv(name, "")
    share_with_jobs(["mirror"])
    command = "python -c 'import sys, ebbtide; print(sys.prefix)'"
    done = subprocess.run(["/bin/bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == sys.prefix
    assert os.environ["PATH"].split(os.pathsep).count(own) == 1


def test_a_job_that_parses_the_workflow_again_adds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SEARCHED:  # restored afterwards
        monkeypatch.setenv(name, os.environ.get(name, ""))
    share_with_jobs(["mirror"])
    once = [os.environ[name] for name in SEARCHED]
    share_with_jobs(["mirror"])
    assert [os.environ[name] for name in SEARCHED] == once


def test_a_library_of_an_extra_that_is_missing_is_a_sentence() -> None:
    require_library("json", "this test", "paper")
    said = r"`snakemake paper` needs the library nowhere, .* -e '\.\[paper\]'\.$"
    with pytest.raises(ConfigError, match=said):
        require_library("nowhere", "`snakemake paper`", "paper")


def test_a_directory_with_the_name_of_a_library_is_not_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nowhere").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="needs the library nowhere, which is not installed"):
        require_library("nowhere", "this test", "paper")
