"""Models whose checkpoints are on disk: Hugging Face directories, or formats that are converted first."""

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebbtide.checkpoints.directory import Located, locate
from ebbtide.checkpoints.formats.planning import Reading, conversion_spec, converted_directory, locate_source
from ebbtide.checkpoints.formats.sources import ADAPTER, MAPS
from ebbtide.checkpoints.layout import check_pattern, formatted, has_step, paths_by_step, step_of
from ebbtide.checkpoints.record import LOCATED, SOURCE, read_record
from ebbtide.checkpoints.schedule import Schedule, pick
from ebbtide.errors import CheckpointError, ConfigError
from ebbtide.grid import CHECKPOINTS, Checkpoint, Model
from ebbtide.logs import Progress

THREADS = 8  # directories read in parallel: network file systems have a high latency


@dataclass(frozen=True)
class Directory:
    """The directory or file of one step: what was found there, or why it cannot be loaded."""

    name: str  # of the checkpoint
    step: int
    path: Path
    located: Located | None
    error: CheckpointError | None = None


@dataclass(frozen=True)
class DiskModel:
    """A model on disk. `where` is the file and key of its row; other attributes are keys of the row.

    `reading` says how its checkpoints are converted; None: they are in Hugging Face layout.
    """

    name: str
    where: str
    tokens_per_step: int
    tokenizer: str | None
    directories: tuple[Directory, ...]
    nominal: int = 0
    arm: str = ""
    seed: int | None = None
    reading: Reading | None = None

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
                    marker=self._marker(directory.name, found),
                    size_bytes=found.size_bytes,
                    dtype=found.dtype,
                    nominal=self.nominal,
                    peak_disk_bytes=found.disk_bytes,
                    generation=found.generation,
                )

    def conversions(self) -> Iterator[tuple[Checkpoint, dict[str, Any]]]:
        """Yield the checkpoints that are converted before they are scored, and how."""
        paths = {directory.name: directory.path for directory in self.directories}
        if self.reading is not None:
            for checkpoint in self.checkpoints():
                yield checkpoint, conversion_spec(paths[checkpoint.name], self.reading)

    def record(self, checkpoint: str) -> str:
        """Return the path of what planning has recorded of a checkpoint."""
        return record_path(self.name, checkpoint, self.reading)

    def _marker(self, checkpoint: str, found: Located) -> str:
        place = self.record(checkpoint)
        return place if self.reading is None else str(converted_directory(Path(place), found.weights))

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
    reading = reading_of(row, where)
    chosen = directories_of(row, where, only)
    directories, progress = [], Progress()
    with ThreadPoolExecutor(THREADS) as pool:
        for directory in pool.map(lambda item: _read(row, where, reading, *item), chosen.items()):
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
        reading=reading,
    )


def reading_of(row: Mapping[str, Any], where: str) -> Reading | None:
    """Return how the checkpoints of a row are converted; None if they are not.

    Raises `ConfigError` for a key of another format.
    """
    of_format = row.get("format", "safetensors")
    if of_format != "safetensors":
        if "base" in row and of_format != ADAPTER:
            raise ConfigError(
                f"{where}.base: found {row['base']!r}, which applies to adapters; set format: {ADAPTER}, or "
                "leave base out."
            )
        given = {key: row.get(key) for key in ("config", "base", "tokenizer")}
        return Reading(of_format, row.get("map", MAPS[of_format]), **given, where=where)
    for key in ("map", "config", "base"):
        if key in row:
            raise ConfigError(
                f"{where}.{key}: found {row[key]!r}, which applies to checkpoints that are converted; set "
                f"`format:` ({', '.join(MAPS)}), or leave {key} out."
            )
    return None


def directories_of(
    row: Mapping[str, Any], where: str, only: Collection[str] | None = None
) -> dict[int, Path]:
    """Return the directories that the row requests, by step in ascending order; of other formats, also files.

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
        none = reading_of(row, where) is None
        what = "no directory matches" if none else "no directory or file matches"
        raise ConfigError(f"{where}.path: {what} {pattern!r}; correct the path.")
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
    reading = reading_of(row, where)
    found = paths_by_step(pattern, f"{where}.path", files=reading is not None)
    available = {**_recorded(row, reading), **found}
    if has_step(pattern):
        return available
    return {steps[0] if steps else 0: available.get(0, formatted(pattern, 0))}


def _selects(steps: Schedule | None, available: Collection[int]) -> bool:
    """Whether a schedule selects any of the available steps."""
    if isinstance(steps, Mapping):
        return any(step % steps["every"] == 0 for step in available)
    return bool(available) and (steps is None or len(steps) > 0)


def _recorded(row: Mapping[str, Any], reading: Reading | None) -> dict[int, Path]:
    """The directories of which records exist, by step: their weights may have been deleted since."""
    found, absolute = {}, str(Path(row["path"]).expanduser().absolute())
    for record in sorted(Path(CHECKPOINTS, row["name"]).glob(f"*/{_record_name(reading)}")):
        known = read_record(record)
        for pattern, path in ((row["path"], known.get("path")), (absolute, known.get("directory"))):
            step = step_of(pattern, path) if isinstance(path, str) else None
            if step is not None and record.parent.name == checkpoint_name(row, step):
                found[step] = Path(str(path))
                break
    return found


def _read(row: Mapping[str, Any], where: str, reading: Reading | None, step: int, path: Path) -> Directory:
    name = checkpoint_name(row, step)
    record = record_path(row["name"], name, reading)
    try:
        if reading is None:
            located = locate(path, record, row.get("tokenizer"))
        else:
            located = locate_source(path, Path(record), reading)
    except OSError as error:
        place = error.filename or path
        return Directory(
            name, step, path, None, CheckpointError(f"{place} cannot be read ({error.strerror}).")
        )
    except CheckpointError as error:
        if not (path.exists() if reading else path.is_dir()):
            raise ConfigError(f"{where}.path: {error.args[0]}") from error
        return Directory(name, step, path, None, error)
    return Directory(name, step, path, located)


def checkpoint_name(row: Mapping[str, Any], step: int) -> str:
    """Return the name of the checkpoint of a row at a step."""
    return f"step{step}" if row.get("steps") else "main"


def record_path(model: str, checkpoint: str, reading: Reading | None) -> str:
    """Return the path of the record of a checkpoint on disk."""
    return f"{CHECKPOINTS}/{model}/{checkpoint}/{_record_name(reading)}"


def _record_name(reading: Reading | None) -> str:
    return LOCATED if reading is None else SOURCE
