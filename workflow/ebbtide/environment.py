"""The process: what jobs inherit from the one that plans them, and a quick start."""

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def share_with_jobs(mirrors: Sequence[str]) -> None:
    """Set `PYTHONPATH` and `EBBTIDE_MIRRORS` for every job, local or submitted.

    The package of this checkout comes first, wherever `python` comes from. Mirrors are no param of rule
    `fetch`: where a copy of the data lies is no reason to fetch it again.
    """
    _put("PYTHONPATH", [str(Path(__file__).parents[1])], first=True)
    _put("EBBTIDE_MIRRORS", mirrors, first=False)


@contextmanager
def quick_start() -> Iterator[None]:
    """Import within: all that is made stays, and the garbage collector need not look at it again and again.

    An eighth of the CPU time of `import torch`.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _put(name: str, paths: Sequence[str], *, first: bool) -> None:
    """Add paths to a list in the environment, unless they are there (jobs plan again)."""
    present = [path for path in os.environ.get(name, "").split(os.pathsep) if path]
    new = [path for path in paths if path not in present]
    os.environ[name] = os.pathsep.join(new + present if first else present + new)
