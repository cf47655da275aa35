"""The private Slurm works, and the profiles do on it what their comments say."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cluster
import pytest
from toy import CHECKPOINTS, TASKS, run_and_interrupt, snakefile

pytestmark = pytest.mark.xdist_group("slurm")  # one cluster for all, also with several workers

ROOT = Path(__file__).parents[2]


def snakemake(directory: Path, score: str, profile: Path = ROOT / "slurm") -> list[str]:
    """Write the small workflow, whose cells run a shell command, and the command line that runs it."""
    return [
        *(sys.executable, "-m", "snakemake"),
        *("--directory", str(directory), "--snakefile", snakefile(directory, score)),
        *("--profile", str(profile), "--workflow-profile", str(ROOT / "profiles/default")),
        *("--slurm-init-seconds-before-status-checks", "2"),
    ]


def settings(*arguments: str) -> str:
    """What Snakemake makes of the repository's profiles for a command line given in its root."""
    program = (
        "import sys; from snakemake.cli import parse_args; args = parse_args(sys.argv[1:])[1]; "
        "print(args.executor, args.scheduler, args.show_failed_logs, args.rerun_incomplete, args.cores)"
    )
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("profile", ["slurm", "profiles/slurm"])
def test_profile_is_found_from_the_root_and_keeps_its_executor(profile: str) -> None:
    """A value that names a file beside the profile would become a path."""
    assert settings("--profile", profile) == "slurm greedy True True 1"


def test_default_profile_says_nothing_of_executor_and_cores() -> None:
    assert settings() == "None greedy True True None"


def test_nodes_are_idle(slurm: cluster.Cluster) -> None:
    assert slurm.run("sinfo", "--noheader", "--Node", "--format=%t %G").split() == ["idle", "gpu:2"] * 2


def test_job_sees_its_gpu(slurm: cluster.Cluster, tmp_path: Path) -> None:
    look = ("--gres=gpu:1", "--output=seen.txt", "--wrap", "echo $CUDA_VISIBLE_DEVICES")
    slurm.run("sbatch", "--wait", *look, cwd=tmp_path)

    assert (tmp_path / "seen.txt").read_text().strip() in {"0", "1"}


def test_daemons_listen_on_loopback_alone(slurm: cluster.Cluster) -> None:
    settings = (slurm.directory / "slurm.conf").read_text()
    ports = {int(port) for port in re.findall(r"\b(?:SlurmctldPort|Port)=(\d+)", settings)}
    assert len(ports) == 1 + len(cluster.NODES)
    listening = Path("/proc/net/tcp").read_text().splitlines()[1:]
    addresses = {
        address
        for address, port in (line.split()[1].split(":") for line in listening if line.split()[3] == "0A")
        if int(port, 16) in ports
    }

    assert addresses == {"0100007F"}


@pytest.mark.slow
def test_checkpoint_is_one_submission_with_its_cells_in_turn(slurm: cluster.Cluster, tmp_path: Path) -> None:
    slurm.run(*snakemake(tmp_path, "sleep 0.5"))

    jobs = slurm.jobs(tmp_path)
    assert len(jobs) == len(CHECKPOINTS), "one submission per checkpoint"
    for job in jobs:
        assert (job.state, job.gres) == ("COMPLETED", "gres:gpu:1")
        assert job.memory == "200M", "of the largest rule"
        assert job.time_limit == "7:00", "summed over three cells and the metrics"
        assert not job.log.exists(), "removed after success"
    for checkpoint in CHECKPOINTS:
        outputs = [tmp_path / "scores" / checkpoint / f"{task}.txt" for task in TASKS]
        starts, ids, gpus, ends = zip(*sorted(output.read_text().split() for output in outputs), strict=True)
        assert all(float(end) <= float(start) for end, start in zip(ends[:-1], starts[1:], strict=True))
        assert len(set(ids)) == 1
        assert set(gpus) <= {"0", "1"}


@pytest.mark.slow
def test_commented_settings_of_the_profile_work(slurm: cluster.Cluster, tmp_path: Path) -> None:
    """`--gpus` instead of `--gres`, and all checkpoints in one submission."""
    lines = (ROOT / "profiles/slurm/config.yaml").read_text().splitlines()
    lines.remove('    gres: "gpu:1"')
    for setting in ("    # gpu: 1", "# group-components: [checkpoint=8]"):
        lines[lines.index(setting)] = setting.replace("# ", "", 1)
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile/config.yaml").write_text("\n".join(lines))

    slurm.run(*snakemake(tmp_path, "sleep 0.1", profile=tmp_path / "profile"))

    [job] = slurm.jobs(tmp_path)
    assert (job.state, job.memory, job.time_limit) == ("COMPLETED", "200M", "14:00")
    gpus = [path.read_text().split()[2] for path in tmp_path.glob("scores/*/*")]
    assert len(gpus) == len(CHECKPOINTS) * len(TASKS)
    assert set(gpus) <= {"0", "1"}


@pytest.mark.slow
def test_whole_node_is_one_submission_that_ends_in_order(slurm: cluster.Cluster, tmp_path: Path) -> None:
    """It sees all GPUs; the signal before the time limit leaves no lock, and the next submission goes on."""
    submit = ("sbatch", "--gres=gpu:2", "--cpus-per-task=1", "--wait", str(ROOT / "profiles/slurm/node.sh"))
    arguments = ("--workflow-profile", str(ROOT / "profiles/default"), "--snakefile")
    first = (*submit, *arguments, snakefile(tmp_path, "sleep 120"))
    waiting = subprocess.Popen(first, cwd=tmp_path, env=slurm.environment, stdout=subprocess.DEVNULL)
    while not any(tmp_path.glob("scores/*/*")):
        assert waiting.poll() is None
        time.sleep(0.2)
    slurm.run("scancel", "--signal=INT", slurm.jobs(tmp_path)[0].id)
    assert waiting.wait() == 1

    slurm.run(*submit, *arguments, snakefile(tmp_path, "true"), cwd=tmp_path)

    assert [job.gres for job in slurm.jobs(tmp_path)] == ["gres:gpu:2"] * 2
    assert slurm.jobs(tmp_path)[1].state == "COMPLETED"
    outputs = [path.read_text().split() for path in tmp_path.glob("scores/*/*")]
    assert len(outputs) == len(CHECKPOINTS) * len(TASKS)
    assert {(id, gpus) for _, id, gpus, _ in outputs} == {(slurm.jobs(tmp_path)[1].id, "0,1")}


@pytest.mark.slow
def test_cancelled_submission_ends_the_run_and_leaves_its_log(slurm: cluster.Cluster, tmp_path: Path) -> None:
    def cancel(_: subprocess.Popen[str]) -> None:
        slurm.run("scancel", *(job.id for job in slurm.jobs(tmp_path)))

    status, said = interrupted(slurm, tmp_path, cancel)

    assert status == 1
    causes = [line for line in said.splitlines()[-10:] if re.match(r"\S+/logs/slurm/\S+: ", line)]
    assert len(causes) == len(CHECKPOINTS)
    assert any(" CANCELLED AT " in line for line in causes)
    assert "rule score" not in said
    assert any(job.log.exists() for job in slurm.jobs(tmp_path))


@pytest.mark.slow
def test_sigterm_cancels_submissions(slurm: cluster.Cluster, tmp_path: Path) -> None:
    status, said = interrupted(slurm, tmp_path, lambda run: run.send_signal(signal.SIGTERM))

    assert status == 1
    assert "Terminating processes on user request" in said
    while "COMPLETING" in (states := {job.state for job in slurm.jobs(tmp_path)}):
        time.sleep(0.2)  # Slurm clears up after the cancelled steps
    assert states == {"CANCELLED"}


def interrupted(
    slurm: cluster.Cluster, directory: Path, interrupt: Callable[[subprocess.Popen[str]], None]
) -> tuple[int, str]:
    """Interrupt a run whose submissions have started; its exit status, and what it printed."""
    command = [*snakemake(directory, "sleep 120"), "--retries", "0"]

    def started() -> bool:
        return len(slurm.jobs(directory)) == len(CHECKPOINTS) and any(directory.glob("scores/*/*"))

    return run_and_interrupt(command, slurm.environment, started, interrupt)


@pytest.mark.usefixtures("slurm")  # skips where no cluster can run
def test_nothing_is_left_when_a_daemon_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the second of three fails."""
    before = daemons()
    assert before  # those of the fixture
    broken = cluster._configuration
    monkeypatch.setattr(cluster, "_configuration", lambda directory: broken(directory) + "Nonsense=1\n")

    with pytest.raises(cluster.ClusterError, match="slurmctld ended with 1"), cluster.running():
        pass

    assert daemons() <= before


def daemons() -> set[str]:
    """Process ids of the daemons that this process started (their own helpers come and go)."""
    return {process.name for process in Path("/proc").glob("[0-9]*") if is_own_daemon(process)}


def is_own_daemon(process: Path) -> bool:
    """Whether a process is one of Slurm's or munge, and a child of this one."""
    try:
        name, rest = (process / "stat").read_text().split("(", 1)[1].rsplit(") ", 1)
    except OSError:  # it has just ended
        return False
    return name in {"munged", "slurmctld", "slurmd"} and int(rest.split()[1]) == os.getpid()
