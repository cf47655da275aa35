"""Explain a study from its configuration and what is on disk, without running anything."""

from pathlib import Path

from ebbtide.cells.store import is_whole, path_of
from ebbtide.report.summary import notice_lines
from ebbtide.study.notices import study_notices
from ebbtide.study.study import Study


def explain(study: Study) -> list[str]:
    """Return lines: the grid and how much of it is scored, then the summary of the last run that finished.

    Before a run has finished, the notices that are known from the configuration.
    """
    summary = Path("results") / study.name / "summary.txt"
    checkpoints = sum(1 for _ in study.checkpoints())
    tasks = len(study.config["tasks"] if study.unlocked else study.tasks)
    grid = f"models: {len(study.models)}, checkpoints: {checkpoints}, tasks: {tasks}"
    lines = [f"Study {study.name} ({study.file}): {grid}.", *_cells(study)]
    if study.unlocked:
        return [
            *lines,
            f"Not locked: {', '.join(study.unlocked)}.",
            f"To lock, run: snakemake lock --cores 1 --configfile {study.file}",
        ]
    if not summary.exists():
        run = f"snakemake --cores all --configfile {study.file}"
        lines += [
            f"{summary} does not exist: no run has finished. Run {run}.",
            *notice_lines(study_notices(study)),
        ]
        return lines
    return [*lines, "", summary.read_text(encoding="utf-8").rstrip()]


def _cells(study: Study) -> list[str]:
    store = study.config["scoring"]["store"]
    cells = [(c, t) for c in study.checkpoints() for t in study.tasks]
    stored = sum(is_whole(path_of(store, i), i) for i in (study.identity(c, t) for c, t in cells))
    return [f"{stored} of {len(cells)} cells are scored."] if cells else ["No cell is scored here."]
