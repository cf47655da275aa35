"""The GPUs that Snakemake counts: those of leads. Copies and followers take none."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tiny
from ebbtide.grid import Checkpoint, Model
from ebbtide.jobs.gpu_plan import GpuPlan
from ebbtide.jobs.leads import ScoreJobs
from ebbtide.jobs.snakemake_internals import jobs_run_here
from ebbtide.study.study import Study
from ebbtide.tasks.definition import Task
from gpus import fake_gpus

TASKS = ("t1", "t2", "t3")
GB = 2**30
SCORING = {
    **{"dtype": "checkpoint", "encoding": "harness", "bos": "tokenizer", "truncation": "left"},
    **{"max_length": None, "backend": "auto", "generation_backend": "same", "gpus": None, "offload": False},
    "load_once_per": "checkpoint",
}


def study(store: Path, size: int = 0, **scoring: Any) -> Study:
    """Two checkpoints of one model, of this size in bfloat16, on three tasks."""
    checkpoints = tuple(
        Checkpoint("m", f"step{step}", step, step, f"w{step}", "t", f"{step}.json", size, "bfloat16")
        for step in (0, 8)
    )
    tasks = {t: Task(t, Path(f"{t}.yaml"), {"source": {"toy": t}, "fields": {}}, None) for t in TASKS}
    config = {"scoring": {**SCORING, "store": str(store), **scoring}, "recompute": False}
    return Study("s", config, {"m": Model("m", checkpoints)}, tasks)


def plan(made: Study, *, planning: bool = True) -> GpuPlan:
    return GpuPlan(made, ScoreJobs(made), planning=planning)


def gpus_of(made: Study) -> list[list[int]]:
    """GPUs of the jobs: a list per checkpoint."""
    planned = plan(made)
    return [[planned.of_job("m", name, task) for task in TASKS] for name in ("step0", "step8")]


@pytest.fixture(autouse=True)
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EBBTIDE_FAKE_GPUS", fake_gpus(8, 80 * 1024))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("once_per", "expected"),
    [
        ("cell", [[0, 1, 1], [1, 1, 1]]),
        ("checkpoint", [[0, 1, 0], [1, 0, 0]]),
        ("model", [[0, 1, 0], [0, 0, 0]]),
    ],
)
def test_leads_take_gpus_copies_and_followers_none(
    once_per: str, expected: list[list[int]], tmp_path: Path
) -> None:
    made = study(tmp_path, load_once_per=once_per)
    tiny.stored(tmp_path, made.identity(made.checkpoint("m", "step0"), "t1"))
    assert gpus_of(made) == expected
    assert plan(made).limit == 8


@pytest.mark.parametrize(
    ("size", "dtype", "gpus", "count"),
    [
        (72 * GB, "checkpoint", None, 1),
        (73 * GB, "checkpoint", None, 2),
        (72 * GB, "float32", None, 2),  # twice the size
        (144 * GB, "float64", None, 8),
        (73 * GB, "checkpoint", 2, 2),
    ],
)
def test_a_large_model_takes_as_many_gpus_as_hold_it(
    size: int, dtype: str, gpus: int | None, count: int, tmp_path: Path
) -> None:
    made = study(tmp_path, size, dtype=dtype, gpus=gpus)
    assert gpus_of(made) == [[count, 0, 0], [count, 0, 0]]
    assert plan(made).problem is None
    assert plan(made).limit == (gpus or 8)


def test_a_model_that_fits_nowhere_is_a_problem_before_the_run(tmp_path: Path) -> None:
    made = study(tmp_path, 73 * GB, gpus=1)
    assert plan(made).problem == (
        "ScoringError: m/step0: the weights take 73 GiB in bfloat16, more than 90% of the 80 GiB of the GPUs "
        "that scoring.gpus allows; found 1 GPU, needed: 2 of 80 GiB. Provide them, use a narrower "
        "scoring.dtype, or set scoring.offload: true to keep the rest in CPU memory, which is slow."
    )
    offloaded = study(tmp_path, 73 * GB, gpus=1, offload=True)
    assert plan(offloaded).problem is None
    assert gpus_of(offloaded) == [[1, 0, 0], [1, 0, 0]]
    for name in ("step0", "step8"):  # nothing left to score, so nothing to hold
        for task in TASKS:
            tiny.stored(tmp_path, made.identity(made.checkpoint("m", name), task))
    assert plan(made).problem is None


def test_vllm_has_one_gpu_for_a_model(tmp_path: Path) -> None:
    """Only the cells that it generates are limited, and only while they are missing."""
    decoding: dict[str, Any] = {"max_tokens": 2, "samples": 1, "temperature": 0, "top_p": 1, "top_k": 0}
    decoding |= {"stop": [], "seed": 0}
    generating = {"source": {"toy": "g"}, "fields": {}, "kind": "generation", "decoding": decoding}
    task = Task("g", Path("g.yaml"), generating, None)
    for size, count in ((72 * GB, 1), (73 * GB, 2)):
        made = study(tmp_path, size, load_once_per="cell", generation_backend="vllm")
        made = replace(made, tasks={"t1": made.tasks["t1"], "g": task})
        assert plan(made).of_job("m", "step0", "t1") == count
        if count == 1:
            assert (plan(made).of_job("m", "step0", "g"), plan(made).problem) == (1, None)
    assert plan(made).problem == (
        "ScoringError: m/step0: the weights take 73 GiB in bfloat16, more than 90% of the largest visible "
        "GPU (80 GiB), of which vLLM uses one. Use a narrower scoring.dtype, or set "
        "scoring.generation_backend to same."
    )
    for name in ("step0", "step8"):
        tiny.stored(tmp_path, made.identity(made.checkpoint("m", name), "g"))
    assert plan(made).problem is None


def test_without_gpus_nothing_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for made in (study(tmp_path, 999 * GB, gpus=0), study(tmp_path, 999 * GB)):
        if made.config["scoring"]["gpus"] is None:
            monkeypatch.setenv("EBBTIDE_FAKE_GPUS", fake_gpus(8))
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        assert (plan(made).limit, plan(made).problem, gpus_of(made)) == (0, None, [[0] * 3] * 2)


def test_a_job_that_parses_the_workflow_again_looks_for_no_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ebbtide.jobs import gpu_plan

    monkeypatch.setattr(gpu_plan, "visible_devices", lambda: pytest.fail("nvidia-smi would be started"))
    assert plan(study(tmp_path), planning=False).limit == 0
    assert plan(study(tmp_path, gpus=0)).limit == 0
    monkeypatch.delenv("EBBTIDE_FAKE_GPUS")
    assert plan(study(tmp_path, backend="fake")).limit == 0


def test_gpus_and_offload_are_no_identity(tmp_path: Path) -> None:
    plain, other = study(tmp_path), study(tmp_path, gpus=1, offload=True)
    checkpoint = plain.checkpoint("m", "step0")
    assert plain.identity(checkpoint, "t1") == other.identity(checkpoint, "t1")


@pytest.mark.parametrize(
    ("local", "dry", "nodes", "here"),
    [
        (True, False, None, True),
        (True, False, 4, True),  # --cores and --jobs
        (False, False, 50, False),
        (True, True, None, True),
        (True, True, 50, False),  # -n --profile slurm
    ],
)
def test_where_jobs_run(local: bool, dry: bool, nodes: int | None, here: bool) -> None:
    settings = SimpleNamespace(nodes=nodes)
    assert jobs_run_here(SimpleNamespace(local_exec=local, dryrun=dry, resource_settings=settings)) is here
