"""Environment variables that jobs inherit, libraries that must be there, and faster imports."""

import gc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from ebbtide.errors import ConfigError


def share_with_jobs(mirrors: Sequence[str]) -> None:
    """Set `PATH`, `PYTHONPATH` and `EBBTIDE_MIRRORS` for every job, local or submitted.

    In the commands of rules, `python` is the interpreter that runs Snakemake, also if its environment is not
    activated. A software environment of a rule is activated afterwards and precedes it. The package of this
    checkout comes first, whichever `python` runs. Mirrors are not a param of rule `fetch`, because another
    location of a copy is not a reason to fetch the data again.
    """
    directory = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join([directory, *(entry for entry in path if entry != directory)])
    _put("PYTHONPATH", [str(Path(__file__).parents[1])], first=True)
    _put("EBBTIDE_MIRRORS", mirrors, first=False)


def requirements() -> tuple[str, list[str]]:
    """Return the versions of Python and the packages that this package needs, as in pyproject.toml.

    They are read from the checkout if this is one, because the metadata of an installation may be older.
    """
    import tomllib
    from importlib.metadata import metadata

    file = Path(__file__).parents[2] / "pyproject.toml"
    if file.exists():
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        return project["requires-python"], list(project["dependencies"])
    installed = metadata("ebbtide")
    needed = [text for text in installed.get_all("Requires-Dist") or [] if "extra ==" not in text]
    return installed["Requires-Python"], needed


@contextmanager
def quick_start() -> Iterator[None]:
    """Context for imports: disable garbage collection, since imported modules are never freed.

    Saves an eighth of the CPU time of `import torch`.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _put(name: str, paths: Sequence[str], *, first: bool) -> None:
    """Add paths to a list in the environment. Jobs parse the workflow again, so present ones are skipped."""
    present = [path for path in os.environ.get(name, "").split(os.pathsep) if path]
    new = [path for path in paths if path not in present]
    os.environ[name] = os.pathsep.join(new + present if first else present + new)


def require_library(name: str, what: str, extra: str, *, pinned: bool = True) -> None:
    """Raise `ConfigError` unless a library is installed that belongs to an extra of Ebbtide.

    `what` is what needs it, for the message; `pinned` says whether envs/cpu.txt allows it. The library is not
    imported.
    """
    found = find_spec(name)
    if found is None or found.origin is None:  # none: a directory of this name, such as ./wandb
        raise ConfigError(
            f"{what} needs the library {name}, which is not installed; pip install "
            f"{'-c envs/cpu.txt ' if pinned else ''}-e '.[{extra}]'."
        )
