"""The real workflow on a real Slurm: the same cells, one submission and one load per checkpoint."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from ebbtide.tables import CELL, read_frame
from gpus import fake_gpus
from workspace import ROOT, write_small_study

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("slurm")]

CHECKPOINTS, TASKS = 3, 3


def test_a_small_grid(slurm, finished_study, tmp_path):
    study = write_small_study(tmp_path)
    with study.edited("config.yaml") as config:
        config["scoring"]["load_once_per"] = "checkpoint"
        config["models"][0]["sizes"] = ["small-d16"]
    shutil.copytree(finished_study.path / "resources", tmp_path / "resources")
    study.env = {**slurm.environment, **{k: study.env[k] for k in ("OMP_NUM_THREADS", "PYTHONPATH")}}
    # A node with two made-up GPUs, also on the machine that submits. Slurm gives one to each submission.
    study.env |= {"EBBTIDE_FAKE_GPUS": fake_gpus(2), "EBBTIDE_GPU_LOCKS": str(tmp_path / "locks")}
    study.env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), slurm.environment["PATH"]])
    study.snakemake(
        *("--profile", str(ROOT / "slurm"), "--workflow-profile", str(ROOT / "profiles/default")),
        *("--slurm-init-seconds-before-status-checks", "2"),
    )
    assert len(slurm.jobs(tmp_path)) == CHECKPOINTS
    assert study.loads() == CHECKPOINTS
    assert study.workers() == CHECKPOINTS
    logs = "".join(log.read_text() for log in study.path.glob("logs/score/**/*.log"))
    assert len(re.findall(r"leased GPU-[01] ", logs)) == CHECKPOINTS
    assert "waiting for" not in logs
    assert len(study.cells()) == CHECKPOINTS * TASKS
    for cell in study.cells():
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
