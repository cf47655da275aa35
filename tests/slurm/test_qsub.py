"""The profile for schedulers with `qsub`, with stand-ins for its commands that run jobs on this machine."""

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from toy import CHECKPOINTS, TASKS, run_and_interrupt, snakefile

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see whether a job runs"),
]

ROOT = Path(__file__).parents[2]
PBS = Path(__file__).parent / "pbs"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    path = [str(PBS), str(Path(sys.executable).parent), os.environ["PATH"]]
    own = {"PATH": os.pathsep.join(path), "PBS_LOG": str(tmp_path / "pbs.log"), "EBBTIDE_LATENCY": "1"}
    return {**os.environ, **own}


def snakemake(directory: Path, score: str) -> list[str]:
    return [
        *(sys.executable, "-m", "snakemake"),
        *("--directory", str(directory), "--snakefile", snakefile(directory, score)),
        *("--profile", str(ROOT / "profiles/cluster"), "--workflow-profile", str(ROOT / "profiles/default")),
        *("--seconds-between-status-checks", "1", "--retries", "0"),
    ]


def started(directory: Path) -> Callable[[], bool]:
    """Whether all submissions of a directory run."""
    return lambda: len(list(directory.glob("scores/*/*"))) == len(CHECKPOINTS)


def test_checkpoint_is_one_submission(tmp_path: Path, environment: dict[str, str]) -> None:
    subprocess.run(snakemake(tmp_path, "sleep 0.2"), env=environment, check=True)

    submitted = (tmp_path / "pbs.log").read_text().splitlines()
    assert len(submitted) == len(CHECKPOINTS)
    for options in submitted:
        assert "-l select=1:ncpus=1:mem=200mb:ngpus=1 -l walltime=7:00 " in options
    for checkpoint in CHECKPOINTS:
        outputs = [tmp_path / "scores" / checkpoint / f"{task}.txt" for task in TASKS]
        times = sorted(
            (float(words[0]), float(words[-1])) for words in (o.read_text().split() for o in outputs)
        )
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(times))


def test_a_scheduler_that_keeps_completed_jobs_is_not_waited_for(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    subprocess.run(snakemake(tmp_path, "true"), env=environment | {"PBS_KEEPS": "1"}, check=True, timeout=120)


def test_killed_submission_ends_the_run(tmp_path: Path, environment: dict[str, str]) -> None:
    """It leaves no result, so only `qstat` can tell."""

    def kill(_: subprocess.Popen[str]) -> None:
        jobs = [line.split()[0] for line in (tmp_path / "pbs.log").read_text().splitlines()]
        subprocess.run([PBS / "qdel", *jobs], env=environment, check=True)

    status, said = run_and_interrupt(snakemake(tmp_path, "sleep 120"), environment, started(tmp_path), kill)

    assert status == 1
    assert sum(
        "failed without an error message; it may have been killed" in line for line in said.splitlines()[-10:]
    ) == len(CHECKPOINTS)


def test_the_result_of_an_earlier_job_with_the_id_is_not_believed(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """Schedulers use ids again. While the new job runs, the old result counts as nothing; it is read once."""
    results = tmp_path / "logs/cluster"
    results.mkdir(parents=True)

    def status(job: str) -> str:
        command = [ROOT / "profiles/cluster/status.sh", job]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    with subprocess.Popen(["sleep", "600"]) as job:
        old = results / f"{job.pid}.status"
        old.write_text("success\n")
        assert status(str(job.pid)) == "running"
        job.kill()
        job.wait()
        assert status(str(job.pid)) == "success"
        assert not old.exists()
        assert status(str(job.pid)) == "failed"


def test_sigterm_cancels_submissions(tmp_path: Path, environment: dict[str, str]) -> None:
    command = snakemake(tmp_path, "sleep 120")
    status, _ = run_and_interrupt(
        command, environment, started(tmp_path), lambda run: run.send_signal(signal.SIGTERM)
    )

    assert status == 1
    [cancelled] = [
        line for line in (tmp_path / "pbs.log").read_text().splitlines() if line.startswith("qdel")
    ]
    jobs = cancelled.split()[1:]
    assert len(jobs) == len(CHECKPOINTS)
    assert all(subprocess.run([PBS / "qstat", job], check=False).returncode for job in jobs)
