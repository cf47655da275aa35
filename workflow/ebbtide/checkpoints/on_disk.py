"""Models whose checkpoints are Hugging Face directories on disk."""

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebbtide.checkpoints.directory import Located, locate
from ebbtide.checkpoints.layout import check_pattern, directories_by_step, formatted, has_step, step_of
from ebbtide.checkpoints.record import LOCATED, read_record
from ebbtide.checkpoints.schedule import Schedule, pick
from ebbtide.errors import CheckpointError, ConfigError
from ebbtide.grid import CHECKPOINTS, Checkpoint, Model
from ebbtide.logs import Progress

THREADS = 8  # directories read in parallel: network file systems have a high latency


@dataclass(frozen=True)
class Directory:
    """The directory of one step: what was found there, or why it cannot be loaded."""

    name: str  # of the checkpoint
    step: int
    path: Path
    located: Located | None
    error: CheckpointError | None = None


@dataclass(frozen=True)
class DiskModel:
    """A model on disk. `where` is the file and key of its row; other attributes are keys of the row."""

    name: str
    where: str
    tokens_per_step: int
    tokenizer: str | None
    directories: tuple[Directory, ...]
    nominal: int = 0
    arm: str = ""
    seed: int | None = None

    def checkpoints(self, out: Collection[tuple[str, str]] = ()) -> Iterator[Checkpoint]:
        """Yield the checkpoints that can be loaded or have a record; without the (model, name) in `out`."""
        for directory in self.directories:
            found = directory.located
            if found is not None and (self.name, directory.name) not in out:
                yield Checkpoint(
                    model=self.name,
                    name=directory.name,
                    step=directory.step,
                    tokens=directory.step * self.tokens_per_step,
                    weights=found.weights,
                    tokenizer=found.tokenizer,
                    marker=record_path(self.name, directory.name),
                    size_bytes=found.size_bytes,
                    dtype=found.dtype,
                    nominal=self.nominal,
                )

    def model(self, out: Collection[tuple[str, str]] = ()) -> Model:
        """The row of the grid, without the (model, checkpoint) in `out`."""
        facts = (d.located.facts for d in self.directories if d.located)
        return Model(
            self.name,
            tuple(self.checkpoints(out)),
            arm=self.arm,
            seed=self.seed,
            parameters=max((f.values for f in facts if f is not None), default=0),
        )


def model_on_disk(row: Mapping[str, Any], where: str, only: Collection[str] | None = None) -> DiskModel:
    """Return the model of a row with a `path`; `only` is that of `directories_of`.

    Directories that exist but cannot be loaded are kept with their error, for the audit.

    Raises `ConfigError` for an invalid pattern, two directories of one step, or a missing directory.
    """
    chosen = directories_of(row, where, only)
    directories, progress = [], Progress()
    with ThreadPoolExecutor(THREADS) as pool:
        for directory in pool.map(lambda item: _read(row, where, *item), chosen.items()):
            directories.append(directory)
            progress.show(f"{row['name']}: {len(directories)} of {len(chosen)} directories read")
    return DiskModel(
        row["name"],
        where,
        row["tokens_per_step"],
        row.get("tokenizer"),
        tuple(directories),
        nominal=row.get("nominal", 0),
        arm=row.get("arm", ""),
        seed=row.get("seed"),
    )


def directories_of(
    row: Mapping[str, Any], where: str, only: Collection[str] | None = None
) -> dict[int, Path]:
    """Return the directories that the row requests, by step in ascending order.

    Parameters
    ----------
    only
        Names of checkpoints among which the row chooses, as if there were no others; it may choose none.
        None: nobody watches the model, so a requested directory that does not exist is an error.
    """
    pattern, steps = row["path"], row.get("steps")
    available = available_directories(row, where)
    if only is not None:
        available = {s: path for s, path in available.items() if checkpoint_name(row, s) in only}
        if steps and not isinstance(steps, str | Mapping):
            steps = [step for step in steps if step in available]
        if not _selects(steps, available):
            return {}
    if not has_step(pattern):
        return available
    if available:
        return {
            s: available[s]
            for s in pick(steps or "all", list(available), f"{where}.steps", pattern, unit=row["unit"])
        }
    if isinstance(steps, str | Mapping):
        raise ConfigError(f"{where}.path: no directory matches {pattern!r}; correct the path.")
    return {step: formatted(pattern, step) for step in sorted(steps or [])}


def available_directories(row: Mapping[str, Any], where: str) -> dict[int, Path]:
    """Return the directories that match the row, by step; that of a row without steps may not exist.

    Raises `ConfigError` for an invalid pattern, or two directories of one step.
    """
    pattern, steps = row["path"], row.get("steps")
    check_pattern(pattern, f"{where}.path")
    if has_step(pattern) and steps is None:
        raise ConfigError(
            f"{where}.steps: missing, because path {pattern!r} contains {{step}}; "
            "allowed: all, log2, last, {every: N}, or a list of steps."
        )
    if not has_step(pattern) and steps is not None and (isinstance(steps, str | Mapping) or len(steps) > 1):
        raise ConfigError(f"{where}.path: found {pattern!r} for steps {steps}; it must contain {{step}}.")
    available = {**_recorded(row), **directories_by_step(pattern, f"{where}.path")}
    if has_step(pattern):
        return available
    return {steps[0] if steps else 0: available.get(0, formatted(pattern, 0))}


def _selects(steps: Schedule | None, available: Collection[int]) -> bool:
    """Whether a schedule selects any of the available steps."""
    if isinstance(steps, Mapping):
        return any(step % steps["every"] == 0 for step in available)
    return bool(available) and (steps is None or len(steps) > 0)


def _recorded(row: Mapping[str, Any]) -> dict[int, Path]:
    """The directories of which records exist, by step: their weights may have been deleted since."""
    found, absolute = {}, str(Path(row["path"]).expanduser().absolute())
    for record in sorted(Path(CHECKPOINTS, row["name"]).glob(f"*/{LOCATED}")):
        known = read_record(record)
        for pattern, path in ((row["path"], known.get("path")), (absolute, known.get("directory"))):
            step = step_of(pattern, path) if isinstance(path, str) else None
            if step is not None and record.parent.name == checkpoint_name(row, step):
                found[step] = Path(str(path))
                break
    return found


def _read(row: Mapping[str, Any], where: str, step: int, path: Path) -> Directory:
    name = checkpoint_name(row, step)
    try:
        located = locate(path, record_path(row["name"], name), row.get("tokenizer"))
    except OSError as error:
        place = error.filename or path
        return Directory(
            name, step, path, None, CheckpointError(f"{place} cannot be read ({error.strerror}).")
        )
    except CheckpointError as error:
        if not path.is_dir():
            raise ConfigError(f"{where}.path: {error.args[0]}") from error
        return Directory(name, step, path, None, error)
    return Directory(name, step, path, located)


def checkpoint_name(row: Mapping[str, Any], step: int) -> str:
    """Return the name of the checkpoint of a row at a step."""
    return f"step{step}" if row.get("steps") else "main"


def record_path(model: str, checkpoint: str) -> str:
    """Return the path of the record of a checkpoint on disk."""
    return f"{CHECKPOINTS}/{model}/{checkpoint}/{LOCATED}"
