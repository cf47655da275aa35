"""Commands that a watcher starts: how they end, and which locks of Snakemake it may remove."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ebbtide.watch import snakemake
from ebbtide.watch.ownership import owned
from ebbtide.watch.snakemake import remove_left_lock, run, run_snakemake, still_running

# A command with a process of its own; both note their ends.
PARENT = """
import subprocess, time
child = subprocess.Popen(["sleep", "600"])
print(child.pid, flush=True)
try:
    time.sleep(600)
except KeyboardInterrupt:
    print("cancelled", flush=True)
"""
DEAF = PARENT.replace("import subprocess", "import signal, subprocess").replace(
    "child =", "signal.signal(2, signal.SIG_IGN); signal.signal(15, signal.SIG_IGN)\nchild ="
)
LOCK = Path(".snakemake/locks/0.output.lock")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A package `snakemake` that notes its arguments and, as the real one, ends if there is a lock."""
    (tmp_path / "snakemake").mkdir()
    (tmp_path / "snakemake/__init__.py").touch()
    (tmp_path / "snakemake/__main__.py").write_text(
        "import sys\nfrom pathlib import Path\n"
        "Path('arguments').write_text(' '.join(sys.argv[1:]))\n"
        f"if Path('{LOCK}').exists(): print('Error: Directory cannot be locked.'); sys.exit(1)\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    return []


def exists(pid: int) -> bool:
    """Whether a process runs; one that has ended but was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_end_of_a_command() -> None:
    ended = run([sys.executable, "-c", "print('one'); print('XError: two'); exit(3)"], Path("logs/a.log"))
    assert (ended.status, ended.last_words()) == (3, "XError: two (see logs/a.log)")
    ended = run(
        [sys.executable, "-c", "import os; print(os.environ['A'])"], Path("a"), environment={"A": "b"}
    )
    assert (ended.status, ended.last_words()) == (0, "b (see a)")
    with pytest.raises(OSError, match="nothing-of-this-name"):
        run(["nothing-of-this-name"], Path("a"))


@pytest.mark.parametrize("program", [PARENT, DEAF], ids=["obeys", "ignores signals"])
def test_an_interrupt_ends_the_command_and_its_processes(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snakemake, "_GRACE", (5.0 if program == PARENT else 0.5, 0.5))
    log, started = Path("log"), []

    def interrupt(pid: int) -> None:
        started.append(pid)
        if log.read_text().strip():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run([sys.executable, "-c", program], log, each=interrupt)
    child, *said = log.read_text().split()
    assert said == (["cancelled"] if program == PARENT else [])
    deadline = time.monotonic() + 10
    while exists(started[0]) or exists(int(child)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_other_processes_are_left_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as other:
        timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            run([sys.executable, "-c", "import time; time.sleep(600)"], Path("log"))
        assert other.poll() is None
        other.kill()


@pytest.mark.parametrize(
    ("options", "cores"),
    [
        ([], True),
        (["--profile", "slurm"], False),
        (["--cores=2"], False),
        (["-j", "3"], False),
        (["-n"], True),
    ],
)
def test_cores_are_those_of_the_options(options: list[str], cores: bool, fake: object) -> None:
    with owned(Path("lock")) as own:
        run_snakemake(["all"], ["a.yaml", "b.yaml"], options, Path("log"), own)
    given = " ".join(["--cores all"] * cores + ["--keep-going", *options])
    assert Path("arguments").read_text() == f"all {given} --configfile a.yaml b.yaml"


def test_the_lock_of_another_run_stays(fake: object) -> None:
    LOCK.parent.mkdir(parents=True)
    LOCK.write_text("cell\n")
    with owned(Path("lock")) as own:
        assert run_snakemake(["all"], ["a.yaml"], [], Path("log"), own).found_lock
        # It is not taken for the lock of the run that has just ended.
        assert own.run == {} and not remove_left_lock(own.run)
    assert LOCK.exists()


# Locks as Snakemake does, while another run begins; then ends, or is killed.
LOCKS = """
import os, sys, time
from pathlib import Path
locks = Path(".snakemake/locks")
locks.mkdir(parents=True, exist_ok=True)
own = [locks / "0.input.lock", locks / "0.output.lock"]
for lock in own:
    lock.write_text("cell\\n")
while b"0.output.lock" not in Path("lock").read_bytes():
    time.sleep(0.05)
if {other}:
    (locks / "1.output.lock").write_text("other\\n")
    time.sleep(0.5)
if {killed}:
    os.kill(os.getpid(), 9)
for lock in own:
    lock.unlink()
time.sleep(0.5)  # which it takes to end
sys.exit({status})
"""


@pytest.mark.parametrize(
    ("other", "killed", "status"),
    [(True, False, 0), (True, False, 1), (True, True, 0), (False, True, 0), (False, False, 1)],
)
def test_the_lock_of_a_run_that_begins_meanwhile_is_not_taken_for_its_own(
    other: bool, killed: bool, status: int, fake: object
) -> None:
    Path("snakemake/__main__.py").write_text(LOCKS.format(other=other, killed=killed, status=status))
    with owned(Path("lock")) as own:
        ended = run_snakemake(["all"], ["a.yaml"], [], Path("log"), own)
        assert ended.status == (-signal.SIGKILL if killed else status)
        assert remove_left_lock(own.run) == (killed and not other)
    assert LOCK.with_name("1.output.lock").exists() == other
    assert LOCK.exists() == (killed and other)


def test_the_lock_of_a_killed_run_is_removed_once_its_processes_are_gone(fake: object) -> None:
    killed = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    LOCK.parent.mkdir(parents=True)
    LOCK.write_text("cell\n")
    status = LOCK.stat()
    locks = [[str(LOCK), status.st_mtime_ns, status.st_ino]]
    note = {"group": killed.pid, "started": snakemake._start_of(killed.pid), "locks": locks}
    with owned(Path("lock")) as own:
        own.note(note)
        assert f"goes on (process group {killed.pid})" in still_running(own.run)
        assert not remove_left_lock(own.run)
        killed.kill()
        os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)  # ended, but nobody has taken its status
        assert still_running(own.run) == ""
        killed.wait()
        assert still_running(own.run) == ""
        assert not remove_left_lock({**note, "locks": [[str(LOCK), 1, 2]]})  # somebody else has made it since
        assert not remove_left_lock({}) and LOCK.exists()
        assert remove_left_lock(own.run) and not LOCK.exists()
        assert not remove_left_lock(own.run)
        assert run_snakemake(["all"], ["a.yaml"], [], Path("log"), own).status == 0 and own.run == {}
