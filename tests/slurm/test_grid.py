"""The real workflow on a real Slurm: the same cells, one submission and one load per checkpoint."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ebbtide.tables import CELL, read_frame
from gpus import fake_gpus
from workspace import ROOT, write_small_study

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("slurm")]

CHECKPOINTS, TASKS = 3, 3


def prepared(path, finished_study, slurm, **config):
    """A study of one model on the cluster, with weights and tasks from a finished one."""
    study = write_small_study(path)
    with study.edited("config.yaml") as content:
        content["scoring"] |= {"load_once_per": "checkpoint", **config}
        content["models"][0]["sizes"] = ["small-d16"]
    shutil.copytree(finished_study.path / "resources", path / "resources")
    study.env = {**slurm.environment, **{k: study.env[k] for k in ("OMP_NUM_THREADS", "PYTHONPATH")}}
    # A node with two made-up GPUs, also on the machine that submits. Slurm gives one to each submission.
    study.env |= {"EBBTIDE_FAKE_GPUS": fake_gpus(2), "EBBTIDE_GPU_LOCKS": str(path / "locks")}
    study.env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), slurm.environment["PATH"]])
    return study


def options():
    return [
        *("--profile", str(ROOT / "slurm"), "--workflow-profile", str(ROOT / "profiles/default")),
        *("--slurm-init-seconds-before-status-checks", "2"),
    ]


def test_a_small_grid(slurm, finished_study, tmp_path):
    study = prepared(tmp_path, finished_study, slurm)
    with study.edited("config.yaml") as content:
        content["models"][0]["average"] = {"steps": [256]}
    study.snakemake(*options())
    scored = CHECKPOINTS + 1
    assert len(slurm.jobs(tmp_path)) == scored + 1  # and the one that averages
    assert study.loads() == scored
    assert study.workers() == scored
    logs = "".join(log.read_text() for log in study.path.glob("logs/score/**/*.log"))
    assert len(re.findall(r"leased GPU-[01] ", logs)) == scored
    assert "waiting for" not in logs
    assert len(study.cells()) == scored * TASKS
    for cell in study.cells():
        if cell.parent.name.endswith("-mean1"):
            parent = study.path / "results/scores/small-d16/step256" / cell.name
            one, other = (read_frame(path, CELL)["loglikelihood"] for path in (cell, parent))
            assert one.equals(other)
            continue
        local = read_frame(finished_study.path / cell.relative_to(study.path), CELL)
        remote = read_frame(cell, CELL)
        assert remote["loglikelihood"].to_numpy() == pytest.approx(
            local["loglikelihood"].to_numpy(), abs=1e-5
        )
        assert remote.drop(columns=["loglikelihood", "first_token_loglikelihood"]).equals(
            local.drop(columns=["loglikelihood", "first_token_loglikelihood"])
        )
    assert study.planned() == {}
    assert (study.path / "results/small/figures/curves.pdf").exists()


def test_two_checkouts_share_a_store(slurm, finished_study, tmp_path):
    """Their jobs are on nodes with disks of their own, so only the locks in the store can tell."""
    runs = []
    for name in ("one", "two"):
        study = prepared(tmp_path / name, finished_study, slurm, store=str(tmp_path / "cells"))
        (tmp_path / name / "disk").mkdir()
        study.env["TMPDIR"] = str(tmp_path / name / "disk")
        command = [*study.command(), *options(), "--until", "measure"]
        output = (study.path / "output").open("w")
        runs.append((study, subprocess.Popen(command, env=study.env, stdout=output, stderr=output)))
    for study, run in runs:
        assert run.wait() == 0, (study.path / "output").read_text()[-3000:]
    assert [len(slurm.jobs(study.path)) for study, _ in runs] == [CHECKPOINTS] * 2
    assert sum(study.loads() for study, _ in runs) == CHECKPOINTS
    one, two = ([cell.read_bytes() for cell in study.cells()] for study, _ in runs)
    assert len(one) == CHECKPOINTS * TASKS
    assert one == two


def test_a_damaged_checkpoint_is_named_in_the_last_lines(slurm, finished_study, tmp_path):
    study = prepared(tmp_path, finished_study, slurm)
    weights = tmp_path / "resources/checkpoints/small-d16/step16/model.safetensors"
    times = weights.stat()
    weights.write_bytes(b"\xff" * 100 + weights.read_bytes()[100:])
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    done = study.snakemake(*options(), "--retries", "0", "--until", "measure", check=False)
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert len(lines) < 150
    [cause] = [line for line in lines[-10:] if line.startswith("logs/")]
    assert "small-d16/step16/" in cause
    assert "Error: " in cause
    assert "its message is above" not in cause
    assert "Error in " not in done.stdout
