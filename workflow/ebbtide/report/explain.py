"""Explain a study from its configuration and what is on disk, without running anything."""

from pathlib import Path

from ebbtide.cells.store import is_whole, path_of
from ebbtide.notices import COLUMNS, from_records
from ebbtide.report.summary import notice_lines
from ebbtide.study.study import Study
from ebbtide.tables import read_tsv


def explain(study: Study) -> list[str]:
    """Return lines: the grid and how much of it is scored, then every notice, worst first.

    The notices are those of the last run that finished.
    """
    table = Path("results") / study.name / "notices.tsv"
    checkpoints = sum(1 for _ in study.checkpoints())
    grid = f"models: {len(study.models)}, checkpoints: {checkpoints}, tasks: {len(study.tasks)}"
    lines = [f"Study {study.name} ({study.file}): {grid}.", *_cells(study)]
    if study.unlocked:
        return [*lines, f"Not locked: {', '.join(study.unlocked)}. Run snakemake lock --cores 1."]
    if not table.exists():
        return [*lines, f"{table} does not exist: no run has finished. Run snakemake --cores all."]
    notices = from_records(read_tsv(table)[list(COLUMNS)].to_dict("records"))
    return [*lines, *(notice_lines(notices) or ["Nothing was defaulted, dropped, tied or left uncompared."])]


def _cells(study: Study) -> list[str]:
    store = study.config["scoring"]["store"]
    cells = [(c, t) for c in study.checkpoints() for t in study.tasks]
    stored = sum(is_whole(path_of(store, i), i) for i in (study.identity(c, t) for c, t in cells))
    return [f"{stored} of {len(cells)} cells are scored."] if cells else ["No cell is scored here."]
