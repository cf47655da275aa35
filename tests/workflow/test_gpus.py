"""A study on made-up GPUs: each lead leases one, followers and copies none, and the logs say so."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import tiny
from gpus import fake_gpus
from workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("gpus")]

CHECKPOINTS, TASKS = 4, ("a", "b")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Four checkpoints on disk and two tasks, for the fake back end."""
    made = Workspace(tmp_path)
    for step in range(CHECKPOINTS):
        tiny.hollow_checkpoint(tmp_path / f"models/step{step}", step)
    for task in TASKS:
        row = {"prompt": f"the {task}", "options": ["old", "young"], "answer": 0}
        text = json.dumps(row) + "\n"
        (tmp_path / f"{task}.jsonl").write_text(text)
        source = {"file": f"{task}.jsonl", "sha256": hashlib.sha256(text.encode()).hexdigest()}
        fields = {"prompt": "prompt", "choices": "options", "gold": "answer"}
        made.write_yaml(f"tasks/{task}.yaml", {"title": task, "source": source, "fields": fields})
    row = {"name": "tiny", "path": "models/step{step}", "steps": "all", "tokens_per_step": 10}
    made.write_yaml(
        "config.yaml",
        {
            "study": "gpus",
            "models": [row],
            "tasks": [f"tasks/{task}.yaml" for task in TASKS],
            "audit": {"shape": "warn"},
            "scoring": {"backend": "fake", "dtype": "float32", "load_once_per": "checkpoint"},
        },
    )
    made.env |= {"EBBTIDE_FAKE_GPUS": fake_gpus(2), "EBBTIDE_GPU_LOCKS": str(tmp_path / "locks")}
    return made


def cells() -> list[str]:
    return [f"results/scores/tiny/step{step}/{task}.parquet" for step in range(CHECKPOINTS) for task in TASKS]


def test_leads_lease_one_gpu_each_and_their_logs_say_which(workspace: Workspace) -> None:
    planned = workspace.snakemake("--dry-run", *cells()).stdout
    assert len(re.findall(r"resources: .*\bgpu=1\b", planned)) == CHECKPOINTS
    said = workspace.run(*cells(), cores=4).stdout
    assert re.search(r"Provided resources: .*\bgpu=\D*\b2\b", said)
    logs = {path: path.read_text() for path in workspace.path.glob("logs/score/tiny/*/*.log")}
    assert len(logs) == CHECKPOINTS * len(TASKS)
    leases = [
        re.findall(r"^[\d:]{8} leased (GPU-[01]) \(made up, 78.1 GiB\)", log, re.M) for log in logs.values()
    ]
    assert sorted(map(len, leases)) == [0] * CHECKPOINTS + [1] * CHECKPOINTS
    for log, leased in zip(logs.values(), leases, strict=True):
        assert ("scored" in log.splitlines()[-1]) == bool(leased)
    assert workspace.loads() == CHECKPOINTS

    larger = {"number": np.zeros(2**20, dtype=np.float32)}
    save_file(larger, workspace.path / "models/step1/model.safetensors")
    workspace.env["EBBTIDE_FAKE_GPUS"] = fake_gpus(2, memory_mb=1)
    stopped = workspace.snakemake("--cores", "4", *cells(), check=False)
    assert stopped.returncode == 2
    assert "ScoringError: tiny/step1: the weights take 4 MiB in float32" in stopped.stdout
    assert "needed: 5 of 1 MiB" in stopped.stdout
