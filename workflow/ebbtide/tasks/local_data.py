"""Local data of a task: the digest of its files, and whether they have changed since the task was frozen."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ebbtide.errors import CellError, ConfigError
from ebbtide.files import digest
from ebbtide.sources import CHECKOUT, file_digest
from ebbtide.tasks.lm_eval.folder import check_folder

# Names of data files in the YAML files of lm-eval.
_DATA_FILE = re.compile(r"[^\s'\"\[\]{},]+\.(?:jsonl?|csv|tsv|parquet|arrow|txt)(?:\.(?:gz|bz2|zst|xz))?\b")


def contents(place: Path) -> str | None:
    """Return the digest of a file, or of the names and contents of all files in a directory.

    None if there is no such path.
    """
    if place.is_file():
        return digest({place.name: file_digest(place)})
    if not place.is_dir():
        return None
    return digest(_files(place))


def with_contents(definition: dict[str, Any], path: Path) -> dict[str, Any]:
    """Add a digest of the files in `include_path`, and of the data files that they name, to a definition.

    They determine the requests. Raises `ConfigError` for an `include_path` that is not a directory, or has a
    bad YAML file (see `lm_eval.folder`).
    """
    place = definition["source"].get("include_path")
    if place is None:
        return definition
    if not Path(place).is_dir():
        raise ConfigError(f"{path}: source.include_path: {place} is not a directory.")
    check_folder(place)
    files = _files(Path(place)) | _named(Path(place))
    return {**definition, "source": {**definition["source"], "contents": digest(files)}}


def check_unchanged(source: Mapping[str, Any], frozen: Path, where: str) -> None:
    """Raise `ConfigError` if the data at `source["path"]` have changed since the task was frozen.

    The requests in `frozen` have the rows of the definition's `rows_sha256`, so the change would go
    unnoticed. `where` is the file and key for the message.
    """
    from ebbtide.tables import REQUESTS, read_footer

    if not frozen.is_file():
        return
    try:
        before = read_footer(frozen, REQUESTS).get("contents")
    except CellError:  # the job that reads it reports it
        return
    now = contents_of_source(source)
    if None not in (before, now) and before != now:
        raise ConfigError(
            f"{where}.path: {source['path']} has changed since the task was frozen; restore it, or remove "
            "rows and rows_sha256 from the source, run `ebbtide pin TASK.yaml --to NEW.yaml` and "
            f"use NEW.yaml (if the rows are still the same, delete {frozen})."
        )


def contents_of_source(source: Mapping[str, Any]) -> str | None:
    """Return the digest of the local files of a source with `path`, if they exist."""
    places = [base / Path(source["path"]).expanduser() for base in (Path.cwd(), CHECKOUT)]
    return next((found for place in places if (found := contents(place)) is not None), None)


def _files(directory: Path) -> dict[str, str]:
    """Relative name → sha256 of the files in a directory."""
    files = sorted(p for p in directory.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return {str(file.relative_to(directory)): file_digest(file) for file in files}


def _named(directory: Path) -> dict[str, str]:
    """Name → sha256 of the existing local files elsewhere that the YAML files of a directory name."""
    found: dict[str, str] = {}
    for file in sorted(p for p in directory.rglob("*") if p.suffix in (".yaml", ".yml") and p.is_file()):
        for name in _DATA_FILE.findall(file.read_text(encoding="utf-8", errors="replace")):
            data = Path(name)
            if data.is_file() and not data.resolve().is_relative_to(directory.resolve()):
                found[name] = file_digest(data)
    return found
