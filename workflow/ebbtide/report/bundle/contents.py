"""What a bundle contains: the files that everything after the cells reads, and the study that names them.

Paths below the working directory are kept. Definitions of the catalogue are copied, and named by their path
in the study of the bundle, because the catalogue of another checkout may differ. Weights and data of tasks
are left out: cells and frozen requests have what follows from them.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ebbtide.checkpoints.hub.lock import lock_path
from ebbtide.checkpoints.series import CATALOGUE as SERIES
from ebbtide.errors import ConfigError
from ebbtide.schema import catalogue_file, read_yaml
from ebbtide.scoring.proof.load_key import path_of
from ebbtide.sources import CHECKOUT
from ebbtide.study.load_proofs import all_proof_entries
from ebbtide.study.study import Study
from ebbtide.tables import CELL, read_footer
from ebbtide.tasks.definition import CATALOGUE as TASKS
from ebbtide.tasks.definition import definition_file

STUDY_FILE = "study.yaml"
STORE = "cells"  # the default of `scoring.store`, which a bundle uses
DEFINITIONS = "definitions"
# Settings of one machine or one run.
_LEFT_OUT = ("mirrors", "replace_results", "recompute")


@dataclass
class Contents:
    """Files by their name in the bundle, those that are cells, and the configuration of the study in it."""

    files: dict[str, str] = field(default_factory=dict)
    cells: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)

    def add(self, path: str | Path, key: str, name: str | Path | None = None) -> None:
        """Add a file under its path, or another name.

        Raises `ConfigError`, naming the key, if the path is not below the working directory.
        """
        place = Path(name if name is not None else path)
        if place.is_absolute() and place.resolve().is_relative_to(Path.cwd().resolve()):
            place = place.resolve().relative_to(Path.cwd().resolve())
        if place.is_absolute() or ".." in place.parts:
            raise ConfigError(
                f"{key}: {path} is outside of the working directory, so a bundle cannot contain it under its "
                "path; copy it below the working directory, and use the relative path."
            )
        self.files[PurePosixPath(place).as_posix()] = str(path)


def newest_day(cells: Iterable[str | Path]) -> str | None:
    """Return the day (UTC) on which the last of these cells was scored, as 2026-12-31; None is unknown.

    It follows from the bytes of the cells, so that equal cells make equal bundles. Raises `CellError`.
    """
    times = (read_footer(cell, CELL).get("written", {}).get("time") for cell in cells)
    return max((time[:10] for time in times if time), default=None)


def bundle_contents(
    study: Study,
    config: Mapping[str, Any],
    *,
    cells: Iterable[str],
    imported: Iterable[str],
    testbed: str = "",
    template: Iterable[Path] = (),
) -> Contents:
    """Return the contents of the bundle of a study.

    Parameters
    ----------
    config
        The merged configuration as it was given, without defaults.
    cells
        Paths of the cells.
    imported
        Local files of imported results.
    testbed
        Directory of the files of a testbed; empty without one.
    template
        Files of a paper of one's own.

    Raises
    ------
    ConfigError
        A file is outside of the working directory.
    """
    cells = list(cells)
    made = Contents(
        cells=cells, config=_plain({key: value for key, value in config.items() if key not in _LEFT_OUT})
    )
    made.config.get("scoring", {}).pop("store", None)
    for cell in cells:
        made.add(cell, "results")
    for task in study.tasks.values():
        made.add(task.frozen, "resources")
    for source in study.sources().values():
        made.add(source.fetched, "resources")
    for file in imported:
        made.add(file, f"{study.file}: imported")
    for beside in template:
        made.add(beside, f"{study.file}: paper.template")
    _add_definitions(made, study)
    _add_records(made, study)
    _add_proofs(made, study)
    published = made.config.get("regression", {}).get("published")
    if published is not None:
        made.add(study.config["regression"]["published"], f"{study.file}: regression.published", published)
    if testbed:
        pins = study.config["scaling_laws"]["testbed"]["pins"]
        found = next(base / pins for base in (Path.cwd(), CHECKOUT) if (base / pins).is_file())
        made.add(found, f"{study.file}: scaling_laws.testbed.pins", pins)
        made.add(testbed, "resources")
    made.add(CHECKOUT / "envs/cpu.txt", "envs", "environment/cpu.txt")
    made.add(CHECKOUT / "CITATION.cff", "CITATION", "CITATION.cff")
    return made


def _add_definitions(made: Contents, study: Study) -> None:
    """Add the definitions of tasks and series with what they include; name those of the catalogues anew."""
    for number, name in enumerate(made.config.get("tasks", []) if study.tasks else []):
        key = f"{study.file}: tasks[{number}]"
        path = definition_file(name, key)
        place = path if name.endswith((".yaml", ".yml")) else Path(DEFINITIONS, "tasks", path.name)
        made.config["tasks"][number] = place.as_posix()
        for found, inside in _with_included(path, place):
            made.add(found, key, inside)
    for task in study.tasks.values():
        folder = task.definition["source"].get("include_path")
        for path in sorted(Path(folder).rglob("*")) if folder else ():
            if path.is_file():
                made.add(path, f"{task.file}: source.include_path")
    for number, row in enumerate(made.config.get("models", []) if study.models else []):
        if "series" in row:
            key = f"{study.file}: models[{number}].series"
            path = catalogue_file(SERIES, row["series"], key)
            is_file = row["series"].endswith((".yaml", ".yml"))
            place = path if is_file else Path(DEFINITIONS, "series", path.name)
            row["series"] = place.as_posix()
            made.add(path, key, place)


def _with_included(path: Path, place: Path) -> Iterator[tuple[Path, Path]]:
    """Yield a definition, what it includes and its prefix file, each with its path in the bundle."""
    yield path, place
    definition = read_yaml(path)
    if isinstance(name := definition.get("include"), str):
        beside = path.parent / name
        yield from _with_included(beside if beside.is_file() else TASKS / name, place.parent / name)
    prefix = (definition.get("few_shot") or {}).get("prefix_file")
    if prefix is not None:
        yield path.parent / prefix, place.parent / prefix


def _add_records(made: Contents, study: Study) -> None:
    """Add the lock, and the records of directories: with them, the grid is known without weights."""
    if study.lock_file and Path(study.lock_file).is_file():
        made.add(study.lock_file, "lock", lock_path(STUDY_FILE))
    for model in study.on_disk:
        for checkpoint in model.checkpoints():
            made.add(Path(model.record(checkpoint.name)), "resources")


def _add_proofs(made: Contents, study: Study) -> None:
    """Add the load proofs that the store has, in the place of the store of a bundle."""
    for model in study.models.values():
        for entry in all_proof_entries(study, model):
            path = path_of(study.config["scoring"]["store"], entry["key"])
            if path.is_file():
                made.add(path, "scoring.store", path_of(STORE, entry["key"]))


def _plain(value: Any) -> Any:
    """Return a copy of plain mappings and lists, which YAML can write."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
