"""One cell: from the store if it is there, else scored, together with its siblings. A lean module.

Rule `score` has one job per cell, but weights are loaded once per checkpoint: the job that comes first
(the *lead*) takes the checkpoint's lock and starts a worker (`ebbtide.jobs.worker`), which loads the weights,
scores the lead's cell and then every missing sibling into the store. The siblings' jobs wait for the lock,
find their cell and copy it, in milliseconds, without importing torch.

The lock is named by the weights, not by their path, so that two checkouts that share a store wait for each
other. There is one on the node, and one in the store for other nodes, if its file system has locks.

The worker is a process of its own that inherits the locks: a crash while scoring siblings never fails the
lead's own cell, and a killed lead does not free the lock under a living worker. After a crash, another worker
scores the siblings that are left.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.cells import store
from ebbtide.cells.publish import publish
from ebbtide.errors import CellError, ScoringError, StorageError
from ebbtide.files import canonical_json, check_writable, read_json
from ebbtide.jobs.signals import exit_reason
from ebbtide.locks import node_lock, shared_lock
from ebbtide.logs import ABOVE

if TYPE_CHECKING:
    from ebbtide.jobs.leases import Lease

# Signals that end a worker for what it does (out of memory, a fault of a library), not those that end a run.
CRASHES = (signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE)


def score_cell(
    checkpoint: str,
    requests: str,
    identity: store.Identity,
    target: str,
    *,
    hint: str | None = None,
    threads: int = 1,
) -> str:
    """Write the cell of `identity` to `target`; return `copied`, `waited` or `scored`.

    Parameters
    ----------
    checkpoint
        The file that exists when the weights can be loaded (see `checkpoints.directory.directory_of`).
    requests
        Frozen task.
    identity
        Identity of the cell (see `ebbtide.cells.store`).
    target
        Path of the cell in the results.
    hint
        JSON written at the start of the run: the store, and the siblings to score (see `jobs.worker`).

    Raises
    ------
    ScoringError
        If the weights do not fit on the GPUs, or if the worker ended without writing the cell, which its own
        message in the log explains.
    """
    wanted = read_hint(hint)
    cells = str(wanted.get("store", "cells"))
    after = float(wanted.get("recompute_before", 0.0))
    source = store.path_of(cells, identity)
    if store.is_whole(source, identity, after=after):
        _copy(source, target)
        return "copied"
    check_writable(cells)
    with _locks(cells, _shared_load(identity, wanted, hint)) as locks:
        how = "waited"
        if not _exists(source, identity, after):
            how = "scored"
            _clear(source)
            if hint and (error := _recurring_error(source, hint, [checkpoint, requests])):
                print(error, file=sys.stderr)
                raise ScoringError(f"{target} was not scored again: an earlier attempt failed, and {ABOVE}")
            store.failed_mark(source).unlink(missing_ok=True)
            job: dict[str, Any] = {"checkpoint": checkpoint, "requests": requests, "identity": dict(identity)}
            job |= {"cells": cells, "hint": hint, "threads": threads}
            with _leased(job, wanted, target) as lease:
                status = _work(job, locks, lease)
                crashed = -status in CRASHES
                for _ in wanted.get("cells", []):  # a crash marks its cell, so each worker has fewer to score
                    if not crashed:
                        break
                    crashed = -_work({**job, "siblings_only": True}, locks, lease) in CRASHES
            if not _exists(source, identity, after):
                store.failed_mark(source).touch()
                raise ScoringError(f"{target} could not be scored{exit_reason(status)}")
            store.attempt_mark(cells, identity).unlink(missing_ok=True)
    _copy(source, target)
    return how


def _shared_load(identity: store.Identity, wanted: Mapping[str, Any], hint: str | None) -> str:
    """Name what one load of weights serves, which is what jobs wait for each other for.

    The name does not depend on paths, so it is the same in all checkouts that share a store.
    """
    from ebbtide.scoring.scorer import backend_identity, backend_of, load_once_per

    backend = backend_of(identity)
    once_per = load_once_per(str(wanted.get("load_once_per")), backend)
    if once_per == "cell":  # cells of a checkpoint are scored side by side, each on a GPU of its own
        return store.key(identity)
    if hint and once_per == "model":  # otherwise, the checkpoints of a model would be loaded side by side
        return Path(hint).name
    return canonical_json([identity["weights"], identity["dtype"], *backend_identity(backend).values()])


def read_hint(path: str | None) -> Mapping[str, Any]:
    """The hint file, or nothing: a job started by hand has none and scores its own cell only."""
    if path is None or not Path(path).exists():
        return {}
    return read_json(path, ScoringError, "delete it, and run snakemake to write it again")


def mark_of(hint: str, error: Exception) -> str:
    """Text of the mark of a failed cell: the run, by its hint, and the error that recurs."""
    return f"{_run_of(hint)}\n{error}"


def _recurring_error(cell: Path, hint: str, inputs: Sequence[str]) -> str:
    """Return the error of an earlier attempt of this run that another one would end with, or nothing.

    An attempt counts if its inputs have not changed since. Those of other runs do not: another checkout that
    shares the store may have other packages. A job started by hand has no hint, and is always done.
    """
    try:
        mark = store.failed_mark(cell)
        run, _, error = mark.read_text().partition("\n")
        changed = max(Path(path).stat().st_mtime_ns for path in inputs)
        return error if run == _run_of(hint) and changed <= mark.stat().st_mtime_ns else ""
    except OSError:
        return ""


def _run_of(hint: str) -> str:
    """Return what tells a run from others: each writes its hint anew."""
    return f"{Path(hint).resolve()} {Path(hint).stat().st_mtime_ns}"


def _copy(cell: Path, target: str) -> None:
    """Copy a cell to the results. One that is damaged is moved aside, so that the next run scores it again.

    This job cannot: a copy was planned, without weights.
    """
    try:
        publish(cell, target)
    except CellError as error:
        again = "run the same command again, to score the cell again."
        raise CellError(f"{error.args[0]} {_moved(cell)} {again}") from error


def _moved(cell: Path) -> str:
    """Move a file aside; return the beginning of a sentence that says so, or what to do instead."""
    try:
        return f"It was renamed to {store.set_aside(cell)};"
    except OSError as error:
        return f"It cannot be renamed ({error.strerror}): delete it, and"


def _clear(cell: Path) -> None:
    """Move a directory in the place of a cell aside before scoring; anything else is replaced by the cell."""
    if not cell.is_dir():
        return
    try:
        moved = store.set_aside(cell)
    except OSError as error:
        raise StorageError(
            f"{cell} is a directory, but a cell is to be written there, and it cannot be renamed "
            f"({error.strerror}); delete it (rm -r), and run the same command again."
        ) from error
    print(f"{cell} is a directory; it was renamed to {moved}, and the cell is scored.", file=sys.stderr)


def _exists(cell: Path, identity: store.Identity, after: float) -> bool:
    """Whether the cell is in the store; one that was finished, and only its check died, is put there."""
    if store.is_whole(cell, identity, after=after):
        return True
    if not store.recover(cell, identity, after=after):
        return False
    print(f"{cell}: scored, but the process ended during its check, so it is not verified.", file=sys.stderr)
    return True


def _leased(job: Mapping[str, Any], hint: Mapping[str, Any], target: str) -> AbstractContextManager["Lease"]:
    """Hold the GPUs of a worker. Copies need none, and do not import this."""
    from ebbtide.jobs.gpu_jobs import leased, say_on_stderr
    from ebbtide.scoring.scorer import backend_of

    dtype, backend = str(job["identity"]["dtype"]), backend_of(job["identity"])
    most, offload = hint.get("gpus"), bool(hint.get("offload"))
    return leased(job["checkpoint"], dtype, backend, target, say_on_stderr, most=most, offload=offload)


@contextmanager
def _locks(cells: str, name: str) -> Iterator[list[int]]:
    """Hold the lock `name` on this node and, if possible, in the store; yield their file descriptors."""

    def waiting(path: Path) -> None:
        print(f"waiting for another machine that scores these weights ({path})", file=sys.stderr, flush=True)

    with ExitStack() as held:
        files = [held.enter_context(node_lock(cells, name))]
        shared, problem = shared_lock(cells, name, waiting=waiting)
        if shared:
            files.append(held.enter_context(shared))
        if problem:
            print(
                f"{cells}: no locks between machines ({problem}); if two score the same weights at the same "
                "time, they do so twice, with the same results.",
                file=sys.stderr,
            )
        yield [file.fileno() for file in files]


def _ignore_interrupts() -> None:
    """Ctrl-C reaches all processes of a terminal; a worker is killed by its job, without a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _work(job: Mapping[str, Any], locks: Sequence[int], lease: "Lease") -> int:
    """Run the worker, which inherits the file descriptors of the locks; return its exit status."""
    command = [sys.executable, "-m", "ebbtide.jobs.worker", canonical_json(job)]
    sys.stderr.flush()
    # Code from a checkpoint's repository may run there, and must not see the token.
    environment = {name: value for name, value in os.environ.items() if name != "HF_TOKEN"}
    environment |= lease.environment
    with subprocess.Popen(
        command,
        pass_fds=[*locks, *lease.descriptors],
        env=environment,
        preexec_fn=_ignore_interrupts,  # noqa: PLW1509 (this process has one thread)
    ) as worker:
        try:
            lease.note(worker.pid)
            return worker.wait()
        except BaseException:  # Ctrl-C
            worker.kill()
            raise
