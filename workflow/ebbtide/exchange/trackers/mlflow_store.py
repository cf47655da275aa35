"""MLflow: one run per model, in a tracking server or in a SQLite file.

The histories of the metrics in MLflow say what is published, so an interrupted publication is completed.
MLflow does not change values: a run that is set aside is deleted there, which `mlflow gc` makes final.
"""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from ebbtide.errors import TrackerError
from ebbtide.exchange.trackers.tracked_run import Published, TrackedRun, no_points, points_from, unusable

_METRICS, _OTHERS = 1000, 100  # most of one request
_RUN, _DESCRIPTION, _IDENTITY = "ebbtide.run", "ebbtide.description", "ebbtide.identity"
_LONGEST_NOTE = 5000  # characters of a tag


class MLflow:
    """An experiment of MLflow; see `tracked_run.Tracker`."""

    real: type[np.floating[Any]] = np.float64
    errors: tuple[type[Exception], ...] = (MlflowException, SQLAlchemyError)

    def __init__(self, directory: Path | None, project: str) -> None:
        uri = os.environ.get("MLFLOW_TRACKING_URI") if directory is None else None
        if not uri:
            directory = (directory or Path("mlflow")).resolve()
            directory.mkdir(parents=True, exist_ok=True)
            uri = f"sqlite:///{directory / 'mlflow.db'}"
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)  # else a line per table that is made
        self.project, self.notes = project, list[str]()
        self.place = f"MLflow experiment {project}"
        self._directory = directory
        try:
            self._client = MlflowClient(tracking_uri=uri)
            self._experiment = self._experiment_id()
        except (MlflowException, SQLAlchemyError) as error:
            raise unusable(self.place, error) from None

    def published(self, run: TrackedRun) -> Published:
        """Return the histories of all metrics of the run."""
        found = self._run(run)
        if found is None:
            return Published(no_points())
        histories = [
            (metric.key, metric.step, metric.value)
            for name in found.data.metrics
            for metric in self._client.get_metric_history(found.info.run_id, name)
        ]
        description = found.data.tags.get(_DESCRIPTION, "")
        return Published(points_from(histories), description, self._conflict(run, found))

    def add(self, run: TrackedRun, new: pd.DataFrame) -> None:
        """Log the points, then the description. The tag `ebbtide.description` is the last."""
        found = self._run(run) or self._created(run)
        run_id, now = found.info.run_id, int(time.time() * 1000)
        known = found.data.params
        parameters = [Param(k, str(v)) for k, v in run.config.items() if k not in known]
        for part in _parts(parameters, _OTHERS):
            self._client.log_batch(run_id, params=part)
        rows = new[["name", "step", "value"]].itertuples(index=False)
        metrics = [Metric(name, value, now, step) for name, step, value in rows]
        for part in _parts(metrics, _METRICS):
            self._client.log_batch(run_id, metrics=part)
        tags = {
            **{f"{_IDENTITY}.{checkpoint}": digest for checkpoint, digest in run.identities.items()},
            "mlflow.note.content": _shortened(run.note),
            "ebbtide.alarms": str(len(run.alarms)),
        }
        for part in _parts([RunTag(key, value) for key, value in tags.items()], _OTHERS):
            self._client.log_batch(run_id, tags=part)
        self._client.set_tag(run_id, _DESCRIPTION, run.description)
        if found.info.status != "FINISHED":
            self._client.set_terminated(run_id)

    def remove(self, run: TrackedRun) -> None:
        """Delete the run, which MLflow can restore."""
        if found := self._run(run):
            self._client.delete_run(found.info.run_id)

    def _experiment_id(self) -> str:
        if found := self._client.get_experiment_by_name(self.project):
            if found.lifecycle_stage != "active":
                raise TrackerError(f"{self.place} is deleted; restore it, or publish to another --project.")
            return str(found.experiment_id)
        # Artifacts of a local store are beside it, although no artifact is ever written.
        place = None if self._directory is None else (self._directory / "artifacts").as_uri()
        return str(self._client.create_experiment(self.project, artifact_location=place))

    def _run(self, run: TrackedRun) -> Run | None:
        """The run of a model, by its key. Raises `TrackerError` if there are several."""
        found = self._client.search_runs([self._experiment], f"tags.`{_RUN}` = '{run.key}'")
        if len(found) > 1:
            ids = ", ".join(of.info.run_id for of in found)
            raise TrackerError(
                f"{self.place}: found {len(found)} runs of {run.name} ({ids}); delete all but one."
            )
        return found[0] if found else None

    def _created(self, run: TrackedRun) -> Run:
        tags = {_RUN: run.key, "ebbtide.study": run.study, "ebbtide.model": run.model}
        return self._client.create_run(self._experiment, tags=tags, run_name=run.name)

    def _conflict(self, run: TrackedRun, found: Run) -> str:
        """A parameter that would have to change, in words; MLflow does not allow it."""
        for key, value in run.config.items():
            if (known := found.data.params.get(key)) not in (None, str(value)):
                return f"parameter {key} was {known}, now {value}"
        return ""


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _shortened(note: str) -> str:
    """A note of at most `_LONGEST_NOTE` characters, by whole lines, which says what is left out."""
    if len(note) <= _LONGEST_NOTE:
        return note
    lines, kept = note.split("\n"), list[str]()
    while lines and sum(map(len, kept)) + len(kept) + len(lines[0]) < _LONGEST_NOTE - 100:
        kept.append(lines.pop(0))
    return "\n".join([*kept, f"* and {len(lines)} more, in alarms.tsv"])
