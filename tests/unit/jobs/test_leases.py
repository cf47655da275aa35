"""Leases of made-up GPUs: never two jobs on one, none idle while jobs wait, and nothing left by the dead."""

import errno
import fcntl
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebbtide.errors import ScoringError
from ebbtide.jobs import leases
from ebbtide.jobs.devices import Device
from ebbtide.jobs.gpu_jobs import windows
from ebbtide.jobs.leases import holder, lease, lock_directory
from gpus import devices

PATIENT = 60.0  # seconds before a test that hangs fails


@pytest.fixture(autouse=True)
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EBBTIDE_GPU_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setattr(leases, "_SHORTEST", 0.001)
    monkeypatch.setattr(leases, "_LONGEST", 0.01)
    return tmp_path / "locks"


def quiet(_: str) -> None: ...


def once() -> None:
    """Lease a GPU and give it back."""
    with lease([devices(1)], "m/c/t", quiet):
        pass


@dataclass
class Trace:
    """What jobs in threads hold. Locks exclude other descriptors, so threads exclude each other too."""

    held: dict[str, str] = field(default_factory=dict)  # device → job
    lines: list[str] = field(default_factory=list)
    most: int = 0
    guard: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def hold(self, job: str, found: leases.Lease) -> Iterator[None]:
        with self.guard:
            for device in found.devices:
                assert device.uuid not in self.held, f"{job} shares {device.uuid} with {self.held}"
                self.held[device.uuid] = job
            self.most = max(self.most, len(self.held))
            self.lines.append(f"{job} takes {' '.join(d.uuid for d in found.devices)}")
        yield
        with self.guard:
            for device in found.devices:
                del self.held[device.uuid]
            self.lines.append(f"{job} frees {' '.join(d.uuid for d in found.devices)}")


def test_sixteen_jobs_keep_eight_gpus_busy_and_never_share_one() -> None:
    """The work of a cell ends only when eight cells are scored at once, so an idle GPU would be a hang."""
    gpus, rounds, trace = devices(8), 5, Trace()
    eight = threading.Barrier(8, timeout=PATIENT)

    def score(cell: int) -> None:
        with lease(windows(gpus, 1), f"cell {cell}", quiet) as found, trace.hold(f"cell {cell}", found):
            eight.wait()

    with ThreadPoolExecutor(16) as cores:
        list(cores.map(score, range(8 * rounds)))
    assert trace.most == 8
    assert len(trace.lines) == 2 * 8 * rounds
    assert not trace.held


@settings(max_examples=15, deadline=None)
@given(
    jobs=st.lists(st.sampled_from([1, 1, 2, 4]), min_size=1, max_size=20),
    cores=st.integers(1, 8),
    count=st.integers(4, 8),
)
def test_any_mix_of_jobs_is_exclusive_adjacent_and_ends(jobs: list[int], cores: int, count: int) -> None:
    gpus, trace = devices(count, memory_mb=1000), Trace()
    order = {device.uuid: number for number, device in enumerate(gpus)}

    def score(numbered: tuple[int, int]) -> None:
        number, size = numbered
        weights = int(0.9 * size * 1000 * 2**20) - 1
        with lease(windows(gpus, weights), str(number), quiet, patience=0.05) as found:
            places = [order[device.uuid] for device in found.devices]
            assert places == list(range(places[0], places[0] + size))
            with trace.hold(str(number), found):
                time.sleep(0)

    with ThreadPoolExecutor(cores) as pool:
        ended = [pool.submit(score, job) for job in enumerate(jobs)]
        for job in ended:
            job.result(timeout=PATIENT)
    assert len(trace.lines) == 2 * len(jobs)


def test_a_job_that_has_waited_long_is_served_next() -> None:
    """A stream of jobs for one GPU, of which one always runs, does not keep out a job for two."""
    gpus, stop, trace = devices(2), threading.Event(), Trace()

    def stream(name: str, first: threading.Event, other: threading.Event) -> None:
        while not stop.is_set():
            with lease(windows(gpus, 1), name, quiet) as found, trace.hold(name, found):
                first.set()
                other.wait(0.05)  # until the other has one too, if it can
                other.clear()

    a, b = threading.Event(), threading.Event()
    with ThreadPoolExecutor(3) as pool:
        singles = [pool.submit(stream, "a", a, b), pool.submit(stream, "b", b, a)]
        both = [gpus]
        with lease(both, "both", quiet, patience=0.05) as found, trace.hold("both", found):
            assert found.devices == gpus
        stop.set()
        for single in singles:
            single.result(timeout=PATIENT)


def test_a_waiting_job_names_the_holder_and_says_what_it_got() -> None:
    gpus, said = devices(1), []
    waiting = threading.Event()

    def say(text: str) -> None:
        said.append(text)
        waiting.set()

    def wait() -> None:
        with lease(windows(gpus, 1), "m/c2/t1", say, report=0.02) as found:
            assert found.devices == gpus

    with ThreadPoolExecutor(1) as pool:
        with lease(windows(gpus, 1), "m/c1/t1", quiet) as mine:
            mine.note(worker=4321)
            waiter = pool.submit(wait)
            assert waiting.wait(PATIENT)
            until(lambda: len(said) >= 2)  # again after `report` seconds
        waiter.result(timeout=PATIENT)
    user = leases._user()
    held = f"GPU-0 is held by process {os.getpid()} (worker 4321) of {user} for m/c1/t1"
    assert said[0] == said[1] == f"waiting for 1 GPU: {held}"
    assert said[-1].startswith("leased GPU-0 (made up, 78.1 GiB)")
    assert holder(gpus[0]) is None


def test_a_free_gpu_is_leased_without_a_word_of_waiting() -> None:
    said: list[str] = []
    with lease([devices(2)], "m/c/t", said.append) as found:
        assert found.environment == {
            "CUDA_VISIBLE_DEVICES": "GPU-0,GPU-1",
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        }
    assert said == ["leased GPU-0 (made up, 78.1 GiB) and GPU-1 (made up, 78.1 GiB)"]


def test_given_names_are_kept_for_the_worker() -> None:
    with lease([(Device("MIG-x", "0", 1),)], "m/c/t", quiet) as found:
        assert found.environment["CUDA_VISIBLE_DEVICES"] == "0"


HOLD = """
import subprocess, sys, time
from ebbtide.jobs.leases import lease
from gpus import devices
with lease([devices(1)], "m/c/t", print) as found:
    worker = subprocess.Popen(["sleep", "600"], pass_fds=found.descriptors)
    found.note(worker.pid)
    print(worker.pid, flush=True)
    worker.wait()
"""


@pytest.fixture
def lead() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that holds a GPU, and its worker."""
    path = os.pathsep.join(sys.path)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert process.stdout is not None
    process.stdout.readline()
    worker = int(process.stdout.readline())
    yield process, worker
    for pid in (process.pid, worker):
        with_signal(pid, signal.SIGKILL)
    process.communicate()


def with_signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENT
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_killed_lead_does_not_free_the_gpu_under_its_worker(lead: Any) -> None:
    process, worker = lead
    [gpu] = devices(1)
    process.kill()
    process.wait()
    assert f"process {process.pid} (worker {worker}) of " in str(holder(gpu))
    os.kill(worker, signal.SIGKILL)
    until(lambda: holder(gpu) is None)
    with lease([(gpu,)], "m/c/t", quiet) as found:
        assert found.devices == (gpu,)


def test_a_killed_worker_leaves_the_gpu_to_its_lead_and_both_to_the_next(lead: Any) -> None:
    process, worker = lead
    [gpu] = devices(1)
    assert holder(gpu) is not None
    os.kill(worker, signal.SIGKILL)
    process.wait()  # it ends after its worker
    until(lambda: holder(gpu) is None)


def test_lock_files_are_for_all_users_and_links_are_not_followed(locks: Path, tmp_path: Path) -> None:
    mask = os.umask(0o077)
    try:
        with lease([devices(1)], "m/c/t", quiet):
            pass
    finally:
        os.umask(mask)
    assert stat.S_IMODE(locks.stat().st_mode) == 0o1777
    assert {stat.S_IMODE(path.stat().st_mode) for path in locks.iterdir()} == {0o666}
    assert {path.name for path in locks.iterdir()} == {"GPU-0.lock", "turn.lock"}

    (tmp_path / "mine").write_text("precious")
    (locks / "GPU-0.lock").unlink()
    (locks / "GPU-0.lock").symlink_to(tmp_path / "mine")
    with pytest.raises(ScoringError, match=r"GPU-0\.lock cannot be used .*EBBTIDE_GPU_LOCKS"):
        once()
    assert (tmp_path / "mine").read_text() == "precious"


def test_a_hard_link_to_another_file_leaves_it_as_it_is(locks: Path, tmp_path: Path) -> None:
    """On systems without `fs.protected_hardlinks`, other users can make one to a file of yours."""
    lock_directory(create=True)
    (tmp_path / "mine").write_text("precious")
    (locks / "GPU-0.lock").hardlink_to(tmp_path / "mine")
    once()
    assert (tmp_path / "mine").read_text() == "precious"


@pytest.mark.parametrize("damage", ["fifo", "directory"])
def test_what_is_no_lock_file_is_an_error(damage: str, locks: Path) -> None:
    lock_directory(create=True)
    (os.mkfifo if damage == "fifo" else os.mkdir)(locks / "GPU-0.lock")
    with pytest.raises(ScoringError, match=r"GPU-0\.lock cannot be used"):
        once()


def test_a_file_system_without_locks_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(ScoringError, match=r"turn\.lock cannot be used \(No locks available\)"):
        once()


def test_a_directory_of_locks_that_is_none_is_an_error(locks: Path) -> None:
    locks.write_text("")
    with pytest.raises(ScoringError, match=r"locks cannot be used .it is not a directory."):
        once()


def test_a_lock_file_that_a_cleaner_removed_is_made_again(locks: Path) -> None:
    """A lock of a removed file would exclude nobody."""
    [gpu] = devices(1)
    with lease([(gpu,)], "m/c/t", quiet):
        pass
    path, flock = locks / "GPU-0.lock", fcntl.flock
    removed: list[int] = []

    def remove_before(descriptor: int, how: int) -> None:
        if not removed and os.fstat(descriptor).st_ino == path.stat().st_ino:
            removed.append(os.fstat(descriptor).st_ino)
            path.unlink()
        flock(descriptor, how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "flock", remove_before)
        with lease([(gpu,)], "m/c/t", quiet) as found:
            assert os.fstat(found.descriptors[0]).st_ino == path.stat().st_ino
    assert removed


def test_the_lease_of_a_deleted_lock_file_holds(locks: Path) -> None:
    """Somebody cleans /tmp during a run: the next job makes new files, and waits nevertheless."""
    gpus, said = devices(2), []

    def wait() -> None:
        with lease([(gpus[0],)], "m/c2/t", said.append, report=0.01) as found, trace.hold("second", found):
            assert (locks / "GPU-0.lock").exists()

    trace = Trace()
    with ThreadPoolExecutor(1) as pool:
        with lease([(gpus[0],)], "m/c1/t", quiet) as found, trace.hold("first", found):
            shutil.rmtree(locks)
            assert holder(gpus[0]) == "a process whose lock file was deleted"
            assert holder(gpus[1]) is None
            second = pool.submit(wait)
            until(lambda: bool(said))
            locks.rename(locks.with_name("gone"))  # again, at once: the second may be making files in it
            until(locks.exists)
            with lease([gpus[:1], gpus[1:]], "m/c3/t", quiet) as other:
                assert other.devices == gpus[1:]
        second.result(timeout=PATIENT)
    assert said[0] == "waiting for 1 GPU: GPU-0 is held by a process whose lock file was deleted"
    assert trace.lines == [
        f"{job} {does} GPU-0" for job in ("first", "second") for does in ("takes", "frees")
    ]
    assert holder(gpus[0]) is None


def test_a_worker_keeps_the_lease_of_a_deleted_lock_file(lead: Any, locks: Path) -> None:
    process, worker = lead
    shutil.rmtree(locks)
    process.kill()
    process.wait()
    [gpu] = devices(1)
    assert holder(gpu) is not None
    os.kill(worker, signal.SIGKILL)
    until(lambda: holder(gpu) is None)


def test_without_names_of_sockets_the_lock_files_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("socket.socket", refuse)
    [gpu] = devices(1)
    with lease([(gpu,)], "m/c/t", quiet) as found:
        assert len(found.descriptors) == 1
        assert holder(gpu) is not None
    assert holder(gpu) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"pid": 1}', b"\xff\xfe", b"null"])
def test_a_note_that_says_nothing_is_no_error(content: bytes, locks: Path) -> None:
    [gpu] = devices(1)
    with lease([(gpu,)], "m/c/t", quiet) as found:
        os.ftruncate(found.descriptors[0], 0)
        os.pwrite(found.descriptors[0], content, 0)
        assert holder(gpu) == "an unnamed process"


def test_a_note_cannot_write_to_the_terminal(locks: Path) -> None:
    [gpu] = devices(1)
    note = {"pid": 1, "worker": None, "user": "eve\x1b[2J\n", "purpose": "x" * 1000}
    with lease([(gpu,)], "m/c/t", quiet) as found:
        os.pwrite(found.descriptors[0], json.dumps(note).encode(), 0)
        said = str(holder(gpu))
    assert said.startswith("process 1 of eve[2J for xxx")
    assert said.isprintable()
    assert len(said) <= 300


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become two users")
def test_two_users_share_the_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each can lease what the other has leased before, and sees who holds it."""
    monkeypatch.setenv("EBBTIDE_GPU_LOCKS", f"/tmp/ebbtide-test-{os.getpid()}")
    [gpu] = devices(1)
    try:
        for user in (1001, 1002, 1001):
            assert as_user(user, lambda: leased_once(gpu)) == "leased"
        with lease([(gpu,)], "m/c/t", quiet):
            assert as_user(1002, lambda: str(holder(gpu))).startswith(f"process {os.getpid()} of ")
    finally:
        for path in lock_directory().iterdir():
            path.unlink()
        lock_directory().rmdir()


def leased_once(gpu: Device) -> str:
    with lease([(gpu,)], "m/c/t", quiet):
        return "leased"


def as_user(user: int, call: Callable[[], str]) -> str:
    """What a call returns in a process of another user."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
            said = call()
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        said = file.read()
    os.waitpid(child, 0)
    return said


# The directory itself


def test_the_directory_does_not_depend_on_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EBBTIDE_GPU_LOCKS")
    monkeypatch.setenv("TMPDIR", "/somewhere")
    assert str(lock_directory()) == "/tmp/ebbtide-gpus"
