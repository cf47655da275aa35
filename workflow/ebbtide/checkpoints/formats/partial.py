"""The directory in which a checkpoint is converted: after a kill, the next job goes on with its files."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ebbtide.errors import CheckpointError
from ebbtide.files import read_json, replace_directory, storage_errors, write_text
from ebbtide.locks import node_lock

BEGUN = ".begun.json"


@contextmanager
def partial_directory(to: Path, begun: Mapping[str, Any]) -> Iterator[Path]:
    """Yield `.NAME.partial` beside `to`; on success fsync its files and rename it to `to`.

    It has the files of a job that was killed, if that job began with the same state. The block must write
    each file atomically. An error removes the directory; a signal leaves it.

    Parameters
    ----------
    begun
        What the files depend on, apart from the name of `to`, as JSON.

    Raises
    ------
    StorageError
        It cannot be written.
    """
    folder = to.with_name(f".{to.name}.partial")
    with storage_errors(to, folder):
        to.parent.mkdir(parents=True, exist_ok=True)
        with closing(node_lock(to.parent, to.name)):  # a job may live longer than the run that started it
            if _begun(folder) != begun:
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                write_text(json.dumps(begun), folder / BEGUN)
            try:
                yield folder
                (folder / BEGUN).unlink()
                replace_directory(folder, to)
            except Exception:
                shutil.rmtree(folder, ignore_errors=True)
                raise


def _begun(folder: Path) -> Mapping[str, Any] | None:
    try:
        return read_json(folder / BEGUN, CheckpointError)
    except CheckpointError:
        return None
