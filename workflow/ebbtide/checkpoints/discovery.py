"""Find the checkpoints of runs, as rows of `models:`: directories on disk, branches of a hub repository."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from ebbtide.checkpoints.configuration import configuration
from ebbtide.checkpoints.formats.dcp import METADATA
from ebbtide.checkpoints.hub.fetched import is_fetched, read_fetched
from ebbtide.checkpoints.precision import dtype_of
from ebbtide.checkpoints.series import CATALOGUE, read_series
from ebbtide.checkpoints.weight_files import ADAPTER, has_weight_files
from ebbtide.errors import CheckpointError, ConfigError
from ebbtide.files import read_json
from ebbtide.notices import counted, listed
from ebbtide.training.record import read_made

DEPTH = 4  # levels of directories below the one that is searched
SCORED = Path("results/scores")  # of every model that was scored in this directory, a directory
# How trainers and authors name a step: a word and a number, or a number alone.
_WORD = r"steps?|iter(?:ation)?s?|checkpoints?|ckpts?|batch|updates?"
_STEP = re.compile(
    rf"(?P<before>(?:.*[^a-z])?(?:{_WORD})[-_=.]?|)(?P<step>[0-9]{{1,18}})(?P<after>[^0-9].*|)", re.IGNORECASE
)


@dataclass(frozen=True)
class FoundRow:
    """A row of `models:`, what was found in words, and what is not in the row, with the reason.

    `renamed` says why the model does not have the name of its directory or repository; empty if it has.
    """

    values: Mapping[str, Any]
    found: str
    left_out: tuple[str, ...] = ()
    renamed: str = ""


def rows_on_disk(root: str | Path) -> list[FoundRow]:
    """Return a row for each run at or below a directory: checkpoints whose paths differ by the step only.

    A checkpoint without a step in its path is a model of its own. Raises `ConfigError` if there is none, and
    for checkpoints that Ebbtide made or fetched.
    """
    root = Path(root)
    groups: dict[str, dict[int, Path]] = {}
    distributed: dict[str, dict[int, Path]] = {}
    adapters: dict[str, dict[int, Path]] = {}
    empty, bare = [], []
    for directory in _directories(root, DEPTH):
        if (directory / ADAPTER).is_file():
            pattern, step = _pattern_of_path(root, directory)
            adapters.setdefault(pattern, {})[step] = directory
            continue
        if (directory / METADATA).is_file() and not has_weight_files(directory):
            pattern, step = _pattern_of_path(root, directory)
            distributed.setdefault(pattern, {})[step] = directory
            continue
        if not (directory / "config.json").is_file():
            bare.append(directory)
            continue
        if not has_weight_files(directory):
            empty.append(directory)
            continue
        _check_not_made_here(directory)
        pattern, step = _pattern_of_path(root, directory)
        groups.setdefault(pattern, {})[step] = directory
    # A Trainer saves its last weights beside its checkpoints.
    parents = {str(Path(pattern).parent) for pattern in groups if "{step}" in pattern}
    bare = [directory for directory in bare if _pattern_of_path(root, directory)[0] in groups]
    config = _configuration_of(root, distributed)
    left_out = [f"{directory} has no safetensors" for directory in empty if directory != config]
    left_out += [f"{directory} has no config.json" for directory in bare]
    left_out += [
        f"{pattern} has weights, but no step in its path" for pattern in groups if pattern in parents
    ]
    names: set[str] = set()
    gaps = {_pattern_of_path(root, directory)[0] for directory in (*empty, *bare)}
    runs = {pattern: found for pattern, found in groups.items() if pattern not in parents}
    rows = [_disk_row(root, p, found, names, listed=p in gaps) for p, found in runs.items()]
    if config is not None:
        keys = {"format": "dcp", "config": str(config)}
        rows += [_converted_row(root, p, found, names, keys) for p, found in distributed.items()]
    else:
        left_out += [
            f"{pattern} has distributed checkpoints, but there is no config.json, or several: add a row with "
            "format: dcp and config"
            for pattern in distributed
        ]
    for pattern, found in adapters.items():
        base = _base(found)
        if Path(base).is_dir():
            rows.append(_converted_row(root, pattern, found, names, {"format": "peft", "base": base}))
        else:
            left_out.append(
                f"{pattern} has adapters of {base}, which is not a directory here: add a row with format: "
                "peft and base"
            )
    if not rows:
        reason = f" ({listed(left_out)})" if left_out else ""
        raise ConfigError(
            f"{root}: found no checkpoint{reason}; allowed: a directory that has config.json and safetensors "
            f"itself, or at most {DEPTH} levels below it, a series, or a hub repository as owner/name."
        )
    return [*rows[:-1], replace(rows[-1], left_out=tuple(left_out))]


def _directories(directory: Path, depth: int) -> Iterator[Path]:
    """The directory and those below it, sorted with numbers by value; hidden ones and cycles are skipped."""
    yield directory
    if depth == 0:
        return
    try:
        below = [Path(entry.path) for entry in os.scandir(directory) if entry.is_dir()]
    except OSError:  # no permission
        return
    for path in sorted(below, key=_by_value):
        if not path.name.startswith("."):
            yield from _directories(path, depth - 1)


def _by_value(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _pattern_of_path(root: Path, directory: Path) -> tuple[str, int]:
    """The path with `{step}` in place of the step in its deepest part that has one; else the path, and 0."""
    parts = directory.relative_to(root).parts
    for i in range(len(parts) - 1, -1, -1):
        if found := _step_in(parts[i], any_text="*"):
            return str(root.joinpath(*parts[:i], found[0], *parts[i + 1 :])), found[1]
    return str(directory), 0


def _step_in(text: str, any_text: str) -> tuple[str, int] | None:
    """The pattern and the step of a name; None if it has no step. Text after it that has digits varies."""
    match = _STEP.fullmatch(text)
    if match is None or (not match["before"] and match["after"]):  # 125m is a size
        return None
    after = re.sub(r"\d.*", any_text, match["after"])
    return f"{match['before']}{{step}}{after}", int(match["step"])


def _disk_row(
    root: Path, pattern: str, found: Mapping[int, Path], names: set[str], *, listed: bool
) -> FoundRow:
    """The row of a pattern; `listed` if not all directories that match it are checkpoints."""
    name, renamed = _free_name(pattern, root, names)
    row: dict[str, Any] = {"name": name, "path": pattern}
    directories = list(found.values())
    words = counted(directories, "checkpoint")
    if "{step}" in pattern:
        row["steps"] = sorted(found) if listed else "all"
        words += f", step {min(found)}" + (f" to {max(found)}" if len(found) > 1 else "")
        row["tokens_per_step"] = _tokens_per_step(found)
    if (tokenizer := _tokenizer(root, directories[-1])) is not None:
        row["tokenizer"] = str(tokenizer)
    size = sum(path.stat().st_size for path in directories[-1].glob("*.safetensors"))
    shown = f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
    return FoundRow(row, f"{words}, {shown} each, {_dtype(directories[-1])}", renamed=renamed)


def _configuration_of(root: Path, distributed: Mapping[str, Mapping[int, Path]]) -> Path | None:
    """The only directory with a configuration of a model without weights, for distributed checkpoints."""
    directories = _directories(root, DEPTH) if distributed else ()
    found = [path for path in directories if (path / "config.json").is_file() and not has_weight_files(path)]
    return found[0] if len(found) == 1 else None


def _base(adapters: Mapping[int, Path]) -> str:
    """The model that the last of these adapters changes."""
    settings = read_json(list(adapters.values())[-1] / ADAPTER, CheckpointError)
    return str(settings.get("base_model_name_or_path"))


def _converted_row(
    root: Path, pattern: str, found: Mapping[int, Path], names: set[str], keys: Mapping[str, str]
) -> FoundRow:
    """The row of a pattern whose checkpoints are converted."""
    name, renamed = _free_name(pattern, root, names)
    row: dict[str, Any] = {"name": name, "path": pattern, **keys}
    if "{step}" in pattern:
        row |= {"steps": "all", "tokens_per_step": 0}
    if (tokenizer := _tokenizer(root, list(found.values())[-1])) is not None:
        row["tokenizer"] = str(tokenizer)
    what = "adapter" if "base" in keys else "distributed checkpoint"
    return FoundRow(row, f"{counted(found, what)}, converted once", renamed=renamed)


def _check_not_made_here(directory: Path) -> None:
    """Raise `ConfigError` for a checkpoint that Ebbtide fetched or made itself: a series or a row has it."""
    how = "trained, averaged or converted"
    if is_fetched(directory):
        how = "fetched"
        repo = read_fetched(directory).repo
        found = series_of_repository(repo)
        whose = (
            f"{repo}, {f'model {found[1]} of the series {found[0]}' if found else 'a repository of the hub'}"
        )
        remedy = f"ebbtide init {found[0] if found else repo}"
    else:
        try:
            read_made(directory)
        except CheckpointError:  # there is no record, or it is a file of another program
            return
        model = directory.absolute().parent.name
        series = _series_of_model(model)
        whose = f"model {model} of {f'the series {series}' if series else 'a series of your own'}"
        remedy = f"ebbtide init {series or 'SERIES'}"
    raise ConfigError(
        f"{directory}: found a checkpoint that Ebbtide {how} ({whose}); allowed: checkpoints of other "
        f"programs. For a study of the series, run: {remedy}"
    )


def _free_name(pattern: str, root: Path, names: set[str]) -> tuple[str, str]:
    """A name for the model of a pattern: what its path has before the step; not one of `names`.

    Also return why it is another one; empty if it is not.
    """
    below = Path(pattern).relative_to(root).parts
    parts = [part for part in below if "{step}" not in part]
    name = "-".join(parts) if parts else root.resolve().name
    if not parts and _step_in(name, "*"):  # a checkpoint itself
        name = root.resolve().parent.name
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).lstrip("-_.") or "model"
    return _unused(name, "disk", names)


def _unused(name: str, suffix: str, names: set[str]) -> tuple[str, str]:
    """Return a name that no other model has, and why it is another one than `name`; empty if it is not.

    The cells of two models of one name would replace each other in `results/scores/`. The name is added to
    `names`, those that are taken in this study.
    """
    reason = _taken(name)
    base = f"{name}-{suffix}" if reason else name
    free = base
    for number in count(2):
        if free not in names and not _taken(free):
            break
        free = f"{base}-{number}"
    names.add(free)
    return free, f"named {free}, because {reason}" if reason else ""


def _taken(name: str) -> str:
    """Say what has this name of a model already; empty for nothing."""
    if os.path.lexists(SCORED / name):
        return f"{SCORED / name} has cells of a model {name}"
    series = _series_of_model(name)
    return f"the series {series} has a model {name}" if series else ""


def _tokens_per_step(found: Mapping[int, Path]) -> int:
    """Training tokens per step as a Trainer recorded them at every step; 0 if it did not."""
    rates = set()
    for step, directory in found.items():
        try:
            state = read_json(directory / "trainer_state.json", CheckpointError)
            seen = int(state["num_input_tokens_seen"])
        except (CheckpointError, KeyError, TypeError, ValueError):
            return 0
        rates.add(seen / step if step else None)
    rates.discard(None)
    [rate] = rates if len(rates) == 1 else [0]
    return int(rate) if rate and float(rate).is_integer() else 0


def _tokenizer(root: Path, checkpoint: Path) -> Path | None:
    """The only directory with a tokenizer, if it is neither the checkpoint nor its parent."""
    if any((directory / "tokenizer.json").is_file() for directory in (checkpoint, checkpoint.parent)):
        return None
    found = [path for path in _directories(root, DEPTH) if (path / "tokenizer.json").is_file()]
    return found[0] if len(found) == 1 else None


def _dtype(directory: Path) -> str:
    try:
        return dtype_of(configuration(directory)) or "no precision in config.json"
    except CheckpointError:
        return "config.json cannot be read"


def row_of_repository(repo: str, revisions: Iterable[str]) -> FoundRow:
    """Return the row of a hub repository: its largest group of branches and tags that differ by a step."""
    groups: dict[str, set[int]] = {}
    for revision in revisions:
        if found := _step_in(revision, any_text="{any}"):
            groups.setdefault(found[0], set()).add(found[1])
    name, renamed = _unused(
        re.sub(r"[^A-Za-z0-9_.-]+", "-", repo.rpartition("/")[2]).lstrip("-_."), "hub", set()
    )
    if not groups:
        main = {"name": name, "repo": repo, "revision": "main"}
        return FoundRow(main, "no branch with a step in its name", renamed=renamed)
    pattern, steps = max(groups.items(), key=lambda item: len(item[1]))
    others = [f"{p} ({counted(s, 'step')})" for p, s in groups.items() if p != pattern]
    values = {"name": name, "repo": repo, "revision": pattern, "steps": "log2", "tokens_per_step": 0}
    words = f"{counted(steps, 'step')}, {min(steps)} to {max(steps)}"
    return FoundRow(values, words, tuple(others), renamed)


def row_of_series(name: str, model: str | None = None) -> FoundRow:
    """Return the row of a series of the catalogue with one model; None: all of a ladder, else the first.

    Raises `ConfigError` for an invalid series.
    """
    series, is_ladder = read_series(CATALOGUE / f"{name}.yaml")
    models = list(series["models"])
    sizes: Any = "all" if is_ladder and model is None else [model or models[0]]
    values = {"series": name, "sizes": sizes, "steps": "all" if is_ladder else "log2"}
    formats = series["models"][model or models[0]].get("formats", series.get("formats", ["safetensors"]))
    if "safetensors" not in formats:  # the default
        values["format"] = formats[0]
    others = [other for other in models if sizes != "all" and other not in sizes]
    words = f"{series['title']}; trained here" if is_ladder else series["title"]
    return FoundRow(values, words, (f"{', '.join(others)}, of the same series",) if others else ())


def series_names() -> list[str]:
    """Return the names of the series of the catalogue."""
    return sorted(path.stem for path in CATALOGUE.glob("[!_]*.yaml"))


def series_of_repository(repo: str) -> tuple[str, str] | None:
    """Return the series and the model that a hub repository is in the catalogue; None if it is in none."""
    for name in series_names():
        series, is_ladder = read_series(CATALOGUE / f"{name}.yaml")
        for model, own in series["models"].items() if not is_ladder else ():
            if own.get("repo") == repo or repo in (own.get("repos") or {}).values():
                return name, model
    return None


def _series_of_model(model: str) -> str:
    """The series of the catalogue that has a model of this name; empty if none has."""
    return _series_by_model().get(model, "")


@cache
def _series_by_model() -> dict[str, str]:
    series = {name: read_series(CATALOGUE / f"{name}.yaml")[0] for name in series_names()}
    return {model: name for name, content in series.items() for model in content["models"]}
