"""Trackio: one run per model in its local database.

Alarms are added in one transaction, points and configuration in another, under keys of their own, so that
repeating it adds nothing. The database says what is published. The time of a row is its step, in seconds
since 1970, because Trackio sorts rows by time.
"""

import os
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.errors import TrackerError, first_line
from ebbtide.exchange.trackers.points import history_rows
from ebbtide.exchange.trackers.tracked_run import Published, TrackedRun, no_points, points_from
from ebbtide.files import digest

_LEVELS = {"minor": "info", "moderate": "warn", "severe": "error"}
_DESCRIPTION = "ebbtide_description"


class Trackio:
    """A project of Trackio; see `tracked_run.Tracker`."""

    real: type[np.floating[Any]] = np.float64
    errors: tuple[type[Exception], ...] = (sqlite3.Error,)

    def __init__(self, directory: Path | None, project: str) -> None:
        if directory is not None:
            os.environ["TRACKIO_DIR"] = str(directory.resolve())  # before the import, which reads it
        from trackio.sqlite_storage import SQLiteStorage

        self._storage, self.project, self.notes = SQLiteStorage, project, list[str]()
        try:
            SQLiteStorage.validate_project_name(project)
        except ValueError as error:
            raise TrackerError(f"--project: {first_line(error)}.") from None
        self.place = str(SQLiteStorage.get_project_db_path(project))

    def published(self, run: TrackedRun) -> Published:
        """Return the rows of the database."""
        if not Path(self.place).exists():
            return Published(no_points())
        rows = self._storage.get_logs(self.project, run.name, run_id=run.key)
        config = self._storage.get_run_config(self.project, run.name, run_id=run.key) or {}
        points = [
            (name, row["step"], value)
            for row in rows
            for name, value in row.items()
            if name not in ("step", "timestamp") and isinstance(value, int | float)
        ]
        return Published(points_from(points), str(config.get(_DESCRIPTION, "")))

    def add(self, run: TrackedRun, new: pd.DataFrame) -> None:
        """Add the alarms, then the points with the configuration, in one transaction."""
        self._storage.bulk_alert(
            self.project,
            run.name,
            titles=[f"{alarm.severity} alarm at {alarm.checkpoint}" for alarm in run.alarms],
            texts=[alarm.text for alarm in run.alarms],
            levels=[_LEVELS[alarm.severity] for alarm in run.alarms],
            steps=[alarm.step for alarm in run.alarms],
            timestamps=[_time(alarm.step) for alarm in run.alarms],
            alert_ids=[digest([run.key, list(alarm)]) for alarm in run.alarms],
            run_id=run.key,
        )
        # Without rows, Trackio does not write the configuration. One row is always there, and added once.
        first = int(run.points["step"].min())
        rows = [(first, {"study": run.study}), *history_rows(new)]
        config = {**run.config, "identities": dict(run.identities), "alarms": [a.text for a in run.alarms]}
        self._storage.bulk_log(
            self.project,
            run.name,
            metrics_list=[row for _, row in rows],
            steps=[step for step, _ in rows],
            timestamps=[_time(step) for step, _ in rows],
            config={**config, "_Group": run.study, _DESCRIPTION: run.description},
            log_ids=[digest([run.key, step, row]) for step, row in rows],
            run_id=run.key,
        )

    def remove(self, run: TrackedRun) -> None:
        """Delete the run from the database."""
        self._storage.delete_run(self.project, run.name, run_id=run.key)


def _time(step: int) -> str:
    return datetime.fromtimestamp(step, UTC).isoformat()
