"""The workflow as a module of another one, and run from another directory."""

import subprocess
import sys

import pytest

from workspace import ROOT, Workspace

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("workflow")]

OUTER = f"""
configfile: "config.yaml"

module ebbtide:
    snakefile: "{ROOT}/Snakefile"
    config: config

use rule * from ebbtide as ebbtide_*

rule mine:
    default_target: True
    input: "results/small/trends.tsv"
    output: "rows.txt"
    shell: "wc -l < {{input}} > {{output}}"
"""


def outer(study: Workspace, *arguments: str) -> str:
    (study.path / "Snakefile").write_text(OUTER)
    profile = ["--workflow-profile", str(ROOT / "profiles/default")]  # as docs/recipes.md says
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *profile, *arguments]
    done = subprocess.run(command, cwd=study.path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_another_workflow_uses_the_tables(study: Workspace) -> None:
    outer(study)
    rows = int((study.path / "rows.txt").read_text())
    assert rows == len((study.path / "results/small/trends.tsv").read_text().splitlines())


def test_a_module_scores_only_what_is_new(study: Workspace) -> None:
    with study.edited("config.yaml") as config:
        config["models"][0]["steps"] = [0, 16, 64, 256]
    planned = outer(study, "-n", "ebbtide_all")
    assert "ebbtide_score" in planned
    counts = {
        line.split()[0]: int(line.split()[1]) for line in planned.splitlines() if line.startswith("ebbtide_")
    }
    assert counts["ebbtide_score"] == 2 * 3  # models × tasks, at the new checkpoint
