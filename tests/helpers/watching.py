"""Passes of a watcher without Snakemake: a stand-in writes the cells that a run would score."""

import re
import shutil
from pathlib import Path
from typing import Any

import tiny
from ebbtide.cells import store
from ebbtide.jobs.leads import cell_path
from ebbtide.study.load import read_study
from ebbtide.watch.loop import watch
from ebbtide.watch.snakemake import Ended

GOOD = "No alarm at or above moderate: exit status 0.\n"


class Runs:
    """In place of runs of Snakemake: scores what the study has, but for the checkpoints that are to fail."""

    def __init__(self) -> None:
        self.files: list[tuple[str, ...]] = []
        self.failing: set[str] = set()
        self.failed_log = "logs/score/{model}/{checkpoint}/{task}.log"  # of the job that fails
        self.ended: tuple[int, str] = (0, GOOD)  # status and output of a run without failures

    def __call__(self, targets: Any, files: Any, options: Any, log: Path, ownership: Any) -> Ended:
        self.files.append(tuple(files))
        study, failed = read_study(*files), False
        for checkpoint in study.checkpoints():
            for task in study.tasks:
                if checkpoint.name in self.failing:
                    place = {"model": checkpoint.model, "checkpoint": checkpoint.name, "task": task}
                    weights = Path(checkpoint.marker).name
                    path = Path(self.failed_log.format(**place, weights=weights))
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text("ScoringError: it cannot be.\n")
                    failed = True
                    continue
                identity, cell = study.identity(checkpoint, task), Path(cell_path(checkpoint, task))
                if store.is_whole(cell, identity):
                    continue
                cell.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(tiny.stored(Path("other"), identity), cell)
        status, output = (
            (2, "A job failed, so alarms were not checked: exit status 2.\n") if failed else self.ended
        )
        return Ended(status, output, log)


def once(*, retry: bool = False) -> tuple[int, list[str]]:
    """Make one pass; returns its status and what it said, without the line of the end."""
    said: list[str] = []
    status = watch(["config.yaml"], [], said.append, retry=retry)
    assert re.fullmatch(rf"pass ended: status {status}, .+", said[-1])
    return status, said[:-1]
