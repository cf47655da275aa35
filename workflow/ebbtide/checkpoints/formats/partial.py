"""The directory in which a checkpoint is converted: after a kill, the next job goes on with its files."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from ebbtide.checkpoints.disk import ROOM, Budget, NoLocksError, make_room, partial_of
from ebbtide.errors import CheckpointError
from ebbtide.files import read_json, replace_directory, storage_errors, write_text
from ebbtide.locks import node_lock

BEGUN = ".begun.json"
OWN = (BEGUN, ROOM)  # files that are not of the checkpoint


@contextmanager
def partial_directory(
    to: Path, begun: Mapping[str, Any], need: int, budget: Budget | None = None
) -> Iterator[Path]:
    """Yield the partial directory of `to`; on success fsync its files and rename it to `to`.

    It has the files of a job that was killed, if that job began with the same state. The block must write
    each file atomically. An error removes the directory; a signal leaves it.

    Parameters
    ----------
    begun
        What the files depend on, apart from the name of `to`, as JSON.
    need
        Most bytes that `to` takes, for which there must be space in the budget if there is one.

    Raises
    ------
    StorageError
        It cannot be written.
    CheckpointError
        The budget is too small.
    """
    folder = partial_of(to)
    with storage_errors(to, folder):
        to.parent.mkdir(parents=True, exist_ok=True)
        # A job may live longer than the run that started it.
        with closing(node_lock(to.parent, to.name)), _room(folder, need, budget):
            if _begun(folder) != begun:
                _clear(folder)
                write_text(json.dumps(begun), folder / BEGUN)
            try:
                yield folder
                (folder / BEGUN).unlink()
                replace_directory(folder, to)
                (to / ROOM).unlink(missing_ok=True)
            except Exception:
                shutil.rmtree(folder, ignore_errors=True)
                raise


@contextmanager
def _room(folder: Path, need: int, budget: Budget | None) -> Iterator[None]:
    """See `make_room`. Where there are no locks, no run has a budget, and none is needed."""
    with ExitStack() as stack:
        try:
            stack.enter_context(make_room(folder, need, budget))
        except NoLocksError:
            if budget is not None:
                raise
        yield


def _begun(folder: Path) -> Mapping[str, Any] | None:
    try:
        return read_json(folder / BEGUN, CheckpointError)
    except CheckpointError:
        return None


def _clear(folder: Path) -> None:
    """Make an empty directory, but for the file with which its space is reserved."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.name != ROOM:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
