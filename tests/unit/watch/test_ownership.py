"""One watcher per study: the lock, its heartbeat, and owners that are gone."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ebbtide.errors import EbbtideError
from ebbtide.watch import ownership
from ebbtide.watch.ownership import STALE, owned

HOLDER = """
import sys, time
from pathlib import Path
from ebbtide.watch.ownership import owned
with owned(Path(sys.argv[1])) as own:
    own.note({"group": 5})
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "results/small/.watch.lock"


def write(lock: Path, **changes: Any) -> dict[str, Any]:
    """The lock file of an owner that did not give it back."""
    now = time.time()
    owner = {"host": socket.gethostname(), "pid": 4, "user": "ada", "started": now, "beat": now, **changes}
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text(json.dumps(owner))
    return owner


def refuse(*_: object) -> bool:
    raise OSError("no locks available")


def grant(*_: object) -> bool:
    return True


def test_a_second_watcher_is_told_who_has_the_lock_until_it_is_given_back(lock: Path) -> None:
    with owned(lock) as first:
        assert first.predecessor is None
        said = rf"another watcher of this study is running: process {os.getpid()} of \S+ on \S+, last sign"
        with pytest.raises(EbbtideError, match=said), owned(lock):
            pass
    with owned(lock) as second:
        assert second.predecessor is None


def test_a_killed_owner_is_taken_over_with_its_run(lock: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        with pytest.raises(EbbtideError, match=f"process {holder.pid} of"), owned(lock):
            pass
        holder.send_signal(signal.SIGKILL)
    with owned(lock) as heir:
        assert heir.predecessor and heir.predecessor.pid == holder.pid
        assert heir.run == {"group": 5}
    with owned(lock) as heir:  # its run is known until somebody has seen to it
        assert heir.predecessor is None and heir.run == {"group": 5}
        heir.note({})
    with owned(lock) as heir:
        assert heir.run == {}


@pytest.mark.parametrize("kernel", [grant, refuse], ids=["locks have no effect", "no locks"])
def test_without_locks_of_the_kernel_the_heartbeat_decides(
    lock: Path, kernel: Callable[..., bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "try_lock", kernel)
    write(lock, host="elsewhere", beat=time.time() - STALE / 2)
    with (
        pytest.raises(EbbtideError, match=r"process 4 of ada on elsewhere.*start again in 60 s"),
        owned(lock),
    ):
        pass
    write(lock, host="elsewhere", beat=time.time() - STALE - 1, run={"group": 5})
    with owned(lock) as heir:
        assert heir.predecessor and heir.run == {}  # of another machine, nothing can be known


def test_without_locks_of_the_kernel_a_process_of_this_machine_decides(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "try_lock", refuse)
    write(lock, pid=os.getppid())
    with pytest.raises(EbbtideError, match="another watcher"), owned(lock):
        pass
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    write(lock, pid=ended.pid)
    with owned(lock) as heir:
        assert heir.predecessor


def test_the_heart_beats(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "BEAT", 0.02)
    with owned(lock):
        first = json.loads(lock.read_text())["beat"]
        deadline = time.monotonic() + 30
        while json.loads(lock.read_text() or '{"beat": 0}')["beat"] <= first:
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": 3}'])
def test_a_damaged_file_is_nobodys(lock: Path, content: str) -> None:
    lock.parent.mkdir(parents=True)
    lock.write_text(content)
    with owned(lock) as own:
        assert own.predecessor is None and json.loads(lock.read_text())["pid"] == os.getpid()
