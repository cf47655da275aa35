"""Reading the weights of the next checkpoint from disk while this one is scored."""

from collections.abc import Sequence
from pathlib import Path
from threading import Thread

import torch

from ebbtide.checkpoints.directory import directory_of
from ebbtide.checkpoints.weight_files import weight_files
from ebbtide.errors import CheckpointError
from ebbtide.logs import log
from ebbtide.scoring.memory import free_memory

PART = 1 << 22  # bytes that are read at once
FRACTION = 0.5  # of the free memory; more could displace what this checkpoint still needs


def read_ahead(checkpoint: str) -> Thread | None:
    """Read the weights of a checkpoint into the system's cache; None if they fill half of the free memory.

    `checkpoint` is anything that `directory_of` accepts. Returns at once; the thread ends when all is read.
    Nothing depends on it: what is wrong with the files is said by the job that loads them.
    """
    try:
        files = weight_files(directory_of(checkpoint))
        size, free = sum(file.stat().st_size for file in files), free_memory(torch.device("cpu"))
    except (CheckpointError, OSError):
        return None
    if free is not None and size > FRACTION * free:
        return None
    log.info("reading ahead: %s, %.2f GB", files[0].parent, size / 1e9)
    thread = Thread(target=_read, args=(files,), daemon=True)
    thread.start()
    return thread


def _read(files: Sequence[Path]) -> None:
    """Read files and forget what was read. (The advice POSIX_FADV_WILLNEED reads a few megabytes only.)"""
    part = bytearray(PART)
    for file in files:
        try:
            with file.open("rb", buffering=0) as opened:
                while opened.readinto(part):
                    pass
        except OSError:
            return
