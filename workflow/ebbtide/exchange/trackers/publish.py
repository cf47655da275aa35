"""Publish the runs of a study: add what a tracker lacks, and nothing else."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from ebbtide.environment import require_library
from ebbtide.errors import TrackerError
from ebbtide.exchange.trackers.difference import POINT, difference
from ebbtide.exchange.trackers.tracked_run import TrackedRun, Tracker, unusable
from ebbtide.notices import counted, listed

# Libraries read these when they are imported. Without them, two report usage and errors to their makers.
_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "WANDB_ERROR_REPORTING": "false"}


def open_tracker(name: str, directory: Path | None, project: str) -> Tracker:
    """Return a tracker, whose library is imported now.

    Parameters
    ----------
    name
        wandb, mlflow, tensorboard or trackio, as their libraries and extras are called.
    directory
        Where it stores runs; None: where its own settings say, or else its default.
    project
        Name of the project (MLflow: of the experiment). TensorBoard has none.

    Raises
    ------
    ConfigError
        Its library is not installed.
    TrackerError
        It cannot be used, or does not allow the name of the project.
    """
    os.environ.update({key: os.environ.get(key, value) for key, value in _QUIET.items()})
    require_library(name, f"ebbtide publish --to {name}", name, pinned=name != "trackio")
    if name == "tensorboard":
        from ebbtide.exchange.trackers.tensorboard_files import TensorBoard

        return TensorBoard(directory or Path("tensorboard"))
    if name == "mlflow":
        from ebbtide.exchange.trackers.mlflow_store import MLflow

        return MLflow(directory, project)
    if name == "wandb":
        from ebbtide.exchange.trackers.wandb_offline import WandB

        return WandB(directory, project)
    from ebbtide.exchange.trackers.trackio_database import Trackio

    return Trackio(directory, project)


def publish(runs: Iterable[TrackedRun], tracker: Tracker, *, replace: bool = False) -> Iterator[str]:
    """Publish runs, one after another, and yield a line about each.

    Parameters
    ----------
    replace
        Publish runs that have changed, or of which points are gone, as new runs in place of the earlier ones.

    Raises
    ------
    TrackerError
        A published point has another value now, and `replace` is not set, or the tracker cannot be used.
        Runs before it are published.
    """
    for run in runs:
        try:
            yield f"{run.name}: {_publish(run, tracker, replace)}"
        except tracker.errors as error:
            raise unusable(f"{tracker.place}: {run.name}", error) from None


def _publish(run: TrackedRun, tracker: Tracker, replace: bool) -> str:
    if run.points.empty:
        return "no values, so nothing to publish"
    wanted = rounded(run.points, tracker)
    found = tracker.published(run)
    new, changed, gone = difference(wanted, found.points)
    if replace and (len(changed) or len(gone) or found.conflict):
        tracker.remove(run)
        tracker.add(run, wanted)
        why = f"{counted(changed, 'value')} changed, {len(gone)} removed"
        return f"replaced, {counted(wanted, 'point')} ({found.conflict or why})"
    if len(changed) or found.conflict:
        conflict = _first(changed, wanted) if len(changed) else found.conflict
        raise TrackerError(f"{tracker.place}: {run.name}: {conflict}. Publish with --replace for a new run.")
    kept = (
        f"; {counted(gone, 'point')} of earlier publications not in the study any more" if len(gone) else ""
    )
    if new.empty and found.description == run.description:
        return f"unchanged, {counted(wanted, 'point')}{kept}"
    tracker.add(run, new)
    if new.empty:
        return f"description updated, no new points{kept}"
    steps = [str(step) for step in new["step"].unique()]
    return f"{counted(new, 'new point')} at step{'s' if len(steps) > 1 else ''} {listed(steps)}{kept}"


def _first(changed: pd.DataFrame, wanted: pd.DataFrame) -> str:
    """Changed values in words: how many, and the first."""
    name, step, value = changed.iloc[0][POINT]
    now = wanted[(wanted["name"] == name) & (wanted["step"] == step)]["value"].iloc[0]
    return (
        f"{counted(changed, 'value')} published earlier changed, the first at step {step}: {name} was "
        f"{value:.6g}, now {now:.6g}"
    )


def rounded(points: pd.DataFrame, tracker: Tracker) -> pd.DataFrame:
    """Return points with the precision of a tracker."""
    values = points["value"].astype(tracker.real).astype(float)
    return points.assign(value=values).drop_duplicates(POINT, ignore_index=True)
