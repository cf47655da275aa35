"""Weights & Biases: one offline run per model, which `wandb sync` uploads.

    {directory}/wandb/offline-run-{time}-{run}/           what wandb writes, one per publication
    {directory}/wandb/ebbtide/{project}-{key}.parquet     the record of what was published

Nothing is sent from here. The files may be uploaded and deleted at any time, so the record says what is
published. It is written last: a directory that it does not list is of an interrupted publication, and is
removed. A row of the history has one checkpoint. Rows are numbered on from the record, because W&B refuses
numbers that do not increase; the training step is a column, and may decrease.
"""

import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import wandb

from ebbtide.errors import TrackerError
from ebbtide.exchange.trackers.points import STEP, history_rows
from ebbtide.exchange.trackers.record import Record, read_record, write_record
from ebbtide.exchange.trackers.tracked_run import Published, TrackedRun, no_points

_FORBIDDEN = "/\\#?%:"  # in names of projects


class WandB:
    """Offline runs below a directory; see `tracked_run.Tracker`."""

    real: type[np.floating[Any]] = np.float64
    errors: tuple[type[Exception], ...] = (wandb.Error,)

    def __init__(self, directory: Path | None, project: str) -> None:
        if found := [c for c in project if c in _FORBIDDEN]:
            raise TrackerError(f"--project: found {project!r} with {found[0]!r}, which W&B does not allow.")
        self.project, self.notes = project, list[str]()
        self.directory = (directory or Path(os.environ.get("WANDB_DIR") or ".")) / "wandb"
        self.place = str(self.directory)

    def published(self, run: TrackedRun) -> Published:
        """Return what the record says."""
        record = self._record(run)
        return Published(record.points, record.description)

    def add(self, run: TrackedRun, new: pd.DataFrame) -> None:
        """Write an offline run with the new points, then the record."""
        record = self._record(run)
        run_id = record.run or run.key
        self._remove_incomplete(run_id, record)
        rows = [{STEP: step, **row} for step, row in history_rows(new)]
        directory = self._written(run, run_id, rows, record.rows)
        write_record(
            Record(
                pd.concat([record.points, new]),
                run_id,
                record.rows + len(rows),
                (*record.directories, directory.name),
                run.description,
            ),
            self._path(run),
            self._owner(run),
        )

    def remove(self, run: TrackedRun) -> None:
        """Begin another run: W&B has no way to delete the old one offline."""
        old = self._record(run).run
        empty = Record(no_points(), f"{run.key}-{int(time.time())}")
        write_record(empty, self._path(run), self._owner(run))
        self.notes.append(f"{run.name}: run {old} stays in W&B; delete it there")

    def _written(self, run: TrackedRun, run_id: str, rows: list[dict[str, Any]], first: int) -> Path:
        settings = wandb.Settings(
            mode="offline",
            root_dir=str(self.directory.parent.resolve()),
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            save_code=False,
            x_disable_meta=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
        )
        self.directory.mkdir(parents=True, exist_ok=True)
        replaced = " (replaced)" if run_id != run.key else ""
        with wandb.init(
            project=self.project,
            id=run_id,
            name=f"{run.name}{replaced}",
            group=run.study,
            job_type="evaluation",
            tags=run.tags,
            notes=run.note,
            config={**run.config, "identities": dict(run.identities)},
            settings=settings,
        ) as opened:
            opened.define_metric(STEP, hidden=True)
            opened.define_metric("*", step_metric=STEP)
            for number, row in enumerate(rows, start=first):
                opened.log(row, step=number, commit=True)
            opened.summary.update(_latest(run.points))  # else that of the row that was written last
            directory = Path(opened.dir).parent
        return directory

    def _remove_incomplete(self, run_id: str, record: Record) -> None:
        """Remove what an interrupted publication left. Raises `TrackerError` if it was uploaded."""
        for directory in sorted(self.directory.glob(f"offline-run-*-{run_id}*")):
            if directory.name in record.directories:
                continue
            if any(directory.glob("*.synced")):
                raise TrackerError(
                    f"{directory} was uploaded, but {self._record_name(run_id)} does not list it; delete run "
                    f"{run_id} in W&B and this directory, and publish again."
                )
            shutil.rmtree(directory)
            self.notes.append(f"{directory} was not complete and is written again")

    def _record(self, run: TrackedRun) -> Record:
        return read_record(self._path(run), self._owner(run))

    def _record_name(self, key: str) -> str:
        return f"ebbtide/{self.project}-{key}.parquet"

    def _path(self, run: TrackedRun) -> Path:
        return self.directory / self._record_name(run.key)

    def _owner(self, run: TrackedRun) -> dict[str, str]:
        return {"tracker": "wandb", "project": self.project, "study": run.study, "model": run.model}


def _latest(points: pd.DataFrame) -> dict[str, float]:
    """The value of every metric at its last step."""
    last = points.drop_duplicates("name", keep="last")
    return dict(zip(last["name"], last["value"], strict=True))
