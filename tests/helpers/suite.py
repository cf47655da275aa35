"""A published suite of tiny GPT-NeoX checkpoints on the loopback hub, and a study of it."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import tiny
from hub import FakeHub, Repo
from workspace import Workspace, write_small_study

REPO = "lab/tiny-1m"
STEPS = (0, 1, 8, 16, 32)


def checkpoint_files(directory: Path, scale: float = 1.0) -> dict[str, bytes | Path | None]:
    """The files of a checkpoint with weights of its own."""
    tiny.checkpoint(directory, scale=scale)
    return {path.name: path for path in sorted(directory.iterdir()) if path.is_file()}


def publish(hub: FakeHub, directory: Path, name: str = REPO, steps: tuple[int, ...] = STEPS) -> Repo:
    """A repository with a branch per step; `main` is the last."""
    repo = hub.repo(name)
    for step in steps:
        files = checkpoint_files(directory / f"{name.replace('/', '-')}-{step}", scale=1 + step / 100)
        repo.commit(f"step{step}", files)
    repo.commit("main", {**files, "README.md": b"# a suite"})
    return repo


def row(**changes: Any) -> dict[str, Any]:
    """The row of a config for the suite."""
    own = {"name": "tiny-1m", "repo": REPO, "revision": "step{step}", "steps": "all", "tokens_per_step": 1024}
    return {**own, **changes}


def study(path: Path, hub: FakeHub, *rows: dict[str, Any], **config: Any) -> Workspace:
    """A study of models of the hub on two toy tasks."""
    workspace = write_small_study(path)
    with workspace.edited("config.yaml") as written:
        written["models"] = list(rows) or [row()]
        written["tasks"] = ["tasks/memo_trap.yaml", "tasks/fact_qa.yaml"]
        written["scoring"] = {"dtype": "float32", "load_once_per": "checkpoint"}
        written.update(config)
    workspace.env.update(hub.environment())
    return workspace


def lock(workspace: Workspace, *arguments: str, check: bool = True) -> str:
    """Run the target lock; returns what the terminal showed."""
    return workspace.snakemake("--cores", "1", "lock", *arguments, check=check).stdout


def short_grace(workspace: Workspace) -> None:
    """Let weights go three seconds after a cell has failed.

    They wait for tasks as briefly, so these are frozen before.
    """
    tasks = [Path(task).stem for task in workspace.read_yaml("config.yaml")["tasks"]]
    workspace.run(*(f"resources/tasks/{task}.parquet" for task in tasks))
    workspace.env["EBBTIDE_GRACE"] = "3"


def fetched(workspace: Workspace) -> list[str]:
    """The checkpoints whose fetched weights are on disk."""
    return sorted(p.parent.name for p in (workspace.path / "resources/checkpoints").glob("*/*/hub-*"))


@contextmanager
def watched(workspace: Workspace) -> Iterator[list[int]]:
    """The most bytes that weights take on disk during the block, whole and partial; complete at its end."""
    most, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.01):
            most[0] = max(most[0], _weight_bytes(workspace))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        stop.set()
        watcher.join()


def _weight_bytes(workspace: Workspace) -> int:
    found = 0
    # Directories disappear while they are walked: os.walk passes over them, Path.rglob raises.
    for directory, _, names in os.walk(workspace.path / "resources/checkpoints"):
        for name in names:
            with suppress(FileNotFoundError):
                found += os.lstat(Path(directory) / name).st_size
    return found
