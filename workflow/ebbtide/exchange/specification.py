"""Rows of `imported`: which files to read, and what the names in them mean."""

import glob
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebbtide.errors import ConfigError, nearest
from ebbtide.schema import check, check_name, load_schema
from ebbtide.sources import Source

PARAMETERS = ("total", "non_embedding", "active", "nominal")


@dataclass(frozen=True)
class CheckpointRow:
    """One checkpoint of one model, as a row of the metrics table identifies it."""

    model: str
    name: str
    step: int
    tokens: int  # training tokens seen; 0 is unknown
    parameters: Mapping[str, int]  # the keys of PARAMETERS; 0 is unknown

    def columns(self) -> dict[str, Any]:
        """Columns of the metrics table."""
        sizes = {f"parameters_{name}": self.parameters[name] for name in PARAMETERS}
        return {
            "model": self.model,
            "checkpoint": self.name,
            "step": self.step,
            "tokens": self.tokens,
            **sizes,
        }


@dataclass(frozen=True)
class Specification:
    """A checked row of `imported`."""

    where: str  # the key in the study, for messages
    checked: Mapping[str, Any]
    files: tuple[Path, ...]

    def tasks(self, found: "list[str]", files: str) -> dict[str, str]:
        """Tasks to import, name in the files → name here. Raises `ConfigError` for one in no file."""
        wanted = self.checked.get("tasks")
        if wanted is None:
            return {name: name for name in found}
        for name in wanted:
            if name not in found:
                raise ConfigError(
                    f"{self.where}.tasks: found {name!r}, which is not in {files}; "
                    f"allowed: {', '.join(sorted(found))}{nearest(name, found) or '.'}"
                )
        return dict(wanted)

    def examples(self, task: str, found: int) -> int:
        """Number of examples of a task: from the file, else from the study; 0 is unknown."""
        return found or int(self.checked["n"].get(task, 0))

    def percent(self, metric: str) -> float:
        """What the values of a metric are divided by: 100 if the study says that they are in percent."""
        return 100.0 if metric.partition("[")[0] in self.checked["percent"] else 1.0

    def chance(self, task: str, metric: str) -> float:
        """Chance level of an accuracy, as the study states it; NaN is unknown."""
        from ebbtide.metrics.direction import is_accuracy  # the register takes a second to import

        if is_accuracy(metric):
            return float(self.checked["chance"].get(task, "nan"))
        return float("nan")


def specification(row: Mapping[str, Any], where: str) -> Specification:
    """Check a row of `imported` and find its files.

    `where` is its key in the study (`study.yaml: imported[0]`). Raises `ConfigError`.
    """
    checked = check_row(row, where)
    source = source_of(checked, where)
    if source is None:
        return Specification(where, checked, _files(checked["files"], where))
    if not Path(source.fetched).is_file():
        raise ConfigError(
            f"{where}.source: {source.text} has not been downloaded. Run snakemake, or `ebbtide fetch "
            f"--source {source.text} {source.sha256} --to {source.fetched}`."
        )
    return Specification(where, checked, (Path(source.fetched),))


def source_of(checked: Mapping[str, Any], where: str) -> Source | None:
    """The pinned file of a row of `imported`; None if it has files. Raises `ConfigError`."""
    if "source" not in checked:
        return None
    return Source.parse(checked["source"], checked["sha256"], f"{where}.source")


def check_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A row of `imported` with its defaults; reads no file. Raises `ConfigError`."""
    checked = check(row, load_schema("imported"), where)
    patterns = {f"{where}.step": checked["step"]} if "step" in checked else {}
    patterns |= {
        f"{where}.models[{i}].match": m.get("match", "") for i, m in enumerate(checked.get("models", []))
    }
    for key, pattern in patterns.items():
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise ConfigError(f"{key}: found {pattern!r}, not a regular expression ({error}).") from None
        if key.endswith(".step") and "step" not in compiled.groupindex:
            raise ConfigError(f"{key}: found {pattern!r}, allowed: a pattern with the group (?P<step>…).")
    table = checked["format"] == "table"
    if table and "columns" not in checked:
        raise ConfigError(f"{where}.columns: missing; format table needs the names of its columns.")
    _check_keys(checked, where, table)
    _check_source(checked, where)
    return checked


def sizes(parameters: Mapping[str, int]) -> dict[str, int]:
    """All of PARAMETERS; `active` defaults to the non-embedding parameters."""
    known = {name: int(parameters.get(name, 0)) for name in PARAMETERS}
    return known | {"active": int(parameters.get("active", known["non_embedding"]))}


def _check_keys(checked: Mapping[str, Any], where: str, table: bool) -> None:
    only = ("shots", "groups") if table else ("columns", "metric", "where")
    for key in only:
        if checked.get(key):
            raise ConfigError(f"{where}.{key}: found with format {checked['format']}, which has no such key.")
    names = [m["name"] for m in checked.get("models", [])]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice:
        raise ConfigError(f"{where}.models: found two models named {twice!r}; names must differ.")
    if table and ("metric" in checked) == ("metric" in checked["columns"]):
        raise ConfigError(f"{where}: set either metric (one for the whole table) or columns.metric.")
    if table and ("step" in checked["columns"]) == ("revision" in checked["columns"]):
        raise ConfigError(f"{where}.columns: set either step or revision.")


def _check_source(checked: Mapping[str, Any], where: str) -> None:
    """Check that there are either files or a pinned source, which is one file."""
    if ("files" in checked) == ("source" in checked):
        found = "both files and source" if "files" in checked else "neither files nor source"
        raise ConfigError(f"{where}: found {found}, allowed: either files, or source with sha256.")
    if ("source" in checked) != ("sha256" in checked):
        key = "sha256" if "source" in checked else "source"
        raise ConfigError(f"{where}.{key}: missing; a pinned file needs both source and sha256.")
    if "source" in checked and checked["format"] == "lm_eval_samples":
        raise ConfigError(
            f"{where}.source: found with format lm_eval_samples, which also reads the results file next to "
            "each file of samples. Set files."
        )
    source = source_of(checked, where)
    if source is not None:
        check_name(Path(source.path).name, f"{where}.source")


def files_read(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the local files that checked rows of `imported` read, with the results beside samples."""
    found = {path for row in rows for pattern in row.get("files", []) for path in _matches(pattern)}
    samples = [Path(path) for path in found if Path(path).name.startswith("samples_")]
    beside = {f.with_name(f"results_{f.stem.rpartition('_')[2]}.json") for f in samples}
    return sorted(found | {str(path) for path in beside if path.exists()})


def _files(patterns: "list[str]", where: str) -> tuple[Path, ...]:
    """Files of all patterns, without duplicates; those of one pattern sorted by name."""
    found: dict[Path, None] = {}
    for number, pattern in enumerate(patterns):
        files = sorted(p for p in map(Path, _matches(pattern)) if p.is_file())
        if not files:
            raise ConfigError(f"{where}.files[{number}]: found {pattern!r}, which matches no file.")
        found |= dict.fromkeys(files)
    return tuple(found)


def _matches(pattern: str) -> list[str]:
    return glob.glob(pattern, recursive=True)  # noqa: PTH207 (Path.glob takes no absolute patterns)
