"""A small workflow of the shape of the real one, whose cells run a shell command."""

import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

CHECKPOINTS, TASKS = ("step0", "step1"), ("a", "b", "c")

# The shape of the real workflow: a checkpoint's cells in one group, tied by the rule that reads them all.
_WORKFLOW = f"""
from ebbtide.jobs import cluster
from ebbtide.jobs.failures import Failures

FAILURES = Failures(workflow)

onstart:
    cluster.prepare(workflow)

onerror:
    print(*FAILURES.lines(), sep="\\n", file=sys.stderr)

rule all:
    input: expand("metrics/{{checkpoint}}.txt", checkpoint={CHECKPOINTS})
    localrule: True

rule score:
    output: "scores/{{checkpoint}}/{{task}}.txt"
    log: "logs/score/{{checkpoint}}/{{task}}.log"
    group: "checkpoint"
    resources: slot=1, mem_mb=200, runtime=2
    shell:
        "exec > {{output}} 2> {{log}}; "
        "date +%s.%N; echo ${{{{SLURM_JOB_ID:-none}}}} ${{{{CUDA_VISIBLE_DEVICES:-none}}}}; "
        "SCORE; date +%s.%N"

rule measure:
    input: expand("scores/{{{{checkpoint}}}}/{{task}}.txt", task={TASKS})
    output: "metrics/{{checkpoint}}.txt"
    group: "checkpoint"
    resources: slot=0, mem_mb=100, runtime=1
    shell: "cat {{input}} > {{output}}"
"""


def snakefile(directory: Path, score: str) -> str:
    """Write the workflow, whose cells run a shell command; returns its path."""
    path = directory / "Snakefile"
    path.write_text(_WORKFLOW.replace("SCORE", score))
    return str(path)


def run_and_interrupt(
    command: list[str],
    environment: Mapping[str, str],
    ready: Callable[[], object],
    interrupt: Callable[[subprocess.Popen[str]], None],
) -> tuple[int, str]:
    """Interrupt a run as soon as it is ready; its exit status, and what it printed."""
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        try:
            while not ready():
                assert run.poll() is None
                time.sleep(0.2)
            interrupt(run)
            said, _ = run.communicate(timeout=120)
        finally:
            run.kill()
    return run.returncode, said
