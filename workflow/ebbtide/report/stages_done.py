"""Which stages have their outputs: by a record of the register of outputs, and by the times of files.

Only rule files know which outputs a study has, so each run records them. Times alone decide what is out of
date here; Snakemake also compares settings and code.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebbtide.errors import StorageError
from ebbtide.files import canonical_json, digest, read_json, write_text
from ebbtide.study.outputs import Outputs
from ebbtide.study.study import Study

FIGURES, PAGE = "figures", "report page"
_OF_ONE_RUN = ("recompute", "replace_results", "watch")  # settings that no output depends on


@dataclass(frozen=True)
class Stage:
    """Counts of the files of a stage; `old` ones are older than what they are made of."""

    name: str
    files: int
    missing: int
    old: int


def record_path(study: str) -> Path:
    """Path of the record of the outputs of a study."""
    return Path("results", study, ".outputs.json")


def record_outputs(study: Study, outputs: Outputs) -> None:
    """Record which tables and figures a study has, if that is known: not before its models are locked."""
    if not study.unlocked:
        record = {"config": _digest(study), "stages": outputs.files_by_stage()}
        write_text(canonical_json(record) + "\n", record_path(study.name))


def recorded(study: Study) -> Mapping[str, Any]:
    """Return the record of the last run of a study; empty if there is none."""
    try:
        found = read_json(record_path(study.name), StorageError)
        return {"same": found["config"] == _digest(study), "stages": dict(found["stages"])}
    except (StorageError, KeyError, TypeError, ValueError):
        return {}


def _digest(study: Study) -> str:
    return digest({key: value for key, value in study.config.items() if key not in _OF_ONE_RUN})


def stages_of(study: Study, record: Mapping[str, Any], newest: float | None) -> list[Stage]:
    """Return the stages of a recorded study, with figures and page at the end.

    `newest` is the time of the newest metrics of a checkpoint, from which tables are made; None if some are
    missing, so that all these tables are out of date.
    """
    times: dict[str, float | None] = {}
    found, drawn = [], []
    for name, of in record["stages"].items():
        tables, figures = list(of["tables"]), dict(of["figures"])
        times |= {path: time_of(path) for path in tables}
        if tables:
            base = newest if _needs_cells(study, name) else 0.0
            found.append(_stage(name, ((times[path], base) for path in tables)))
        drawn += [(file, shown) for file, shown in figures.items()]
    times_of_figures = [(time_of(file), _latest(times, shown)) for file, shown in drawn]
    if drawn:
        found.append(_stage(FIGURES, times_of_figures))
    if study.has_metrics():
        known = [time for time in (*times.values(), *(time for time, _ in times_of_figures)) if time]
        complete = newest is not None and all(times.values()) and all(time for time, _ in times_of_figures)
        page = time_of(f"results/{study.name}/report/index.html")
        found.append(_stage(PAGE, [(page, max(known, default=0.0) if complete else None)]))
    return found


def _needs_cells(study: Study, stage: str) -> bool:
    """Whether the tables of a stage are made from metrics; others have files that status does not look at."""
    of_testbed = stage == "scaling_laws" and "testbed" in study.config.get("scaling_laws", {})
    return stage != "checkpoints" and not of_testbed


def _latest(times: Mapping[str, float | None], shown: Sequence[str]) -> float | None:
    known = [times[path] if path in times else time_of(path) for path in shown]
    return None if None in known else max((time for time in known if time), default=0.0)


def _stage(name: str, files: Iterable[tuple[float | None, float | None]]) -> Stage:
    """Return a stage from (time, time of what it is made of) of its files; None is a file that is missing."""
    all_files = list(files)
    there = [(time, base) for time, base in all_files if time is not None]
    old = sum(base is None or time < base for time, base in there)
    return Stage(name, len(all_files), len(all_files) - len(there), old)


def stage_lines(stages: Sequence[Stage], record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the states of the stages in words."""
    if not record:
        yield "Stages: their outputs are known after the next run, which records them."
        return
    if not record["same"]:
        yield "The configuration has changed since the last run, which recorded these stages:"
    groups = {
        "Stages with missing files": [f"{s.name} ({s.missing} of {s.files})" for s in stages if s.missing],
        "Stages older than what they are made of": [s.name for s in stages if s.old and not s.missing],
        "Stages up to date by the times of their files (a run also compares settings and code)": [
            s.name for s in stages if not s.old and not s.missing
        ],
    }
    for words, names in groups.items():
        if names:
            yield f"{words}: {', '.join(names)}."


def time_of(path: str | Path) -> float | None:
    """Return when a file was modified; None if it is missing."""
    try:
        return Path(path).stat().st_mtime
    except OSError:
        return None
