"""Curves of an outcome and a signal, over the sizes of a series or the training of one model."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ebbtide.metrics.direction import sign_of
from ebbtide.metrics.errors_of_means import estimate
from ebbtide.statistics.abrupt.verdicts import CANNOT_TELL, COLUMNS, FORMS, LEAST_POINTS, Curve
from ebbtide.statistics.panel import Trajectory
from ebbtide.statistics.replicates import Place

SIZE, TOKENS = "size", "tokens"
NO_FORMS = "it has no right answers with a log-probability"
NO_SIZE = "size unknown, so not among sizes"
OTHER_EXAMPLES = "scored on other examples than most, so not among sizes"
POINTS = ("over", "arm", "model", "task", "form", "metric", "label", "x", "value", "stderr", "n")


def forms_of(trajectory: Trajectory) -> tuple[str, str] | None:
    """Return the metrics of outcome and signal of a task, the first pair that it has; None if it has none."""
    return next((pair for pair in FORMS if set(pair) <= set(trajectory.values)), None)


class Curves:
    """Collects the curves of a study, trajectory by trajectory, and keeps only the last checkpoints."""

    def __init__(self, places: Mapping[str, Place], tasks: Sequence[str] | None) -> None:
        self._places, self._tasks = places, tasks
        self._ends: dict[tuple[str, str], list[_End]] = {}  # arm and task → models
        self._left_out: dict[tuple[str, str], list[str]] = {}  # task and reason → models

    def add(self, trajectory: Trajectory) -> Curve | None:
        """Take a model on a task; return its curve over training if that has enough checkpoints."""
        metrics = forms_of(trajectory)
        if self._tasks is not None and trajectory.task not in self._tasks:
            return None
        if metrics is None:
            self._left_out.setdefault((trajectory.task, NO_FORMS), [])
            return None
        trained = trajectory.trained()
        outcome, signal = (_better(trained, metric) for metric in metrics)
        counts = ~(np.isnan(outcome) | np.isnan(signal)).any(axis=0)
        outcome, signal = outcome[:, counts], signal[:, counts]
        clusters = np.unique(trained.clusters[counts], return_inverse=True)[1]
        names = trained.examples[counts]
        place = self._places.get(trained.model)
        size = trained.parameters["non_embedding"]
        if size <= 0:
            self._left_out.setdefault((trained.task, NO_SIZE), []).append(trained.model)
        elif len(names):
            end = _End(trained.model, size, metrics, names, clusters, outcome[-1], signal[-1])
            self._ends.setdefault((place.stated_arm if place else "", trained.task), []).append(end)
        tokens = trained.checkpoints["tokens"].to_numpy(dtype=float)
        if len(tokens) < LEAST_POINTS or not len(names) or (np.diff(tokens, prepend=0) <= 0).any():
            return None
        labels = tuple(trained.checkpoints["checkpoint"].astype(str))
        x = np.log10(tokens)
        return Curve(TOKENS, "", trained.model, trained.task, metrics, x, labels, outcome, signal, clusters)

    @property
    def left_out(self) -> Mapping[tuple[str, str], Sequence[str]]:
        """Task and reason → the models that are not compared, or none if the whole task is not."""
        return self._left_out

    def over_size(self) -> Iterable[Curve]:
        """Yield the curve of each arm and task with several sizes, at the last checkpoint of each model.

        Models of one size are averaged. Models that were scored on other examples than most are left out.
        """
        for (arm, task), ends in self._ends.items():
            same = _most_common(ends)
            if others := [end.model for end in ends if end not in same]:
                self._left_out.setdefault((task, OTHER_EXAMPLES), []).extend(others)
            sizes = sorted({end.size for end in same})
            if len(sizes) < 2:
                continue
            of_size = [[end for end in same if end.size == size] for size in sizes]
            outcome = np.array([np.mean([end.outcome for end in of], axis=0) for of in of_size])
            signal = np.array([np.mean([end.signal for end in of], axis=0) for of in of_size])
            labels = tuple(of[0].model if len(of) == 1 else f"{len(of)} models" for of in of_size)
            x = np.log10(np.array(sizes, dtype=float))
            first = same[0]
            yield Curve(SIZE, arm, "", task, first.metrics, x, labels, outcome, signal, first.clusters)


@dataclass(frozen=True, eq=False)
class _End:
    """A model at its last checkpoint; arrays (n,)."""

    model: str
    size: int
    metrics: tuple[str, str]
    names: np.ndarray
    clusters: np.ndarray
    outcome: np.ndarray
    signal: np.ndarray


def _most_common(ends: Sequence[_End]) -> list[_End]:
    """Return the models that share their examples and metrics with most others."""
    keys = [(end.metrics, tuple(end.names.tolist())) for end in ends]
    best = max(keys, key=keys.count)
    return [end for end, key in zip(ends, keys, strict=True) if key == best]


def _better(trajectory: Trajectory, metric: str) -> np.ndarray:
    """Values (T, n) of a metric, with the sign that makes higher better."""
    return sign_of(metric) * trajectory.values[metric]


def left_out_table(left_out: Mapping[tuple[str, str], Sequence[str]]) -> pd.DataFrame:
    """Return rows of abrupt.tsv, one per task, that only say what is not compared, and why."""
    notes: dict[str, list[str]] = {}
    for (task, reason), models in left_out.items():
        notes.setdefault(task, []).append(f"{reason}: {', '.join(models)}" if models else reason)
    texts = dict.fromkeys(("arm", "model", "metric", "form", "smallest", "largest", "shape"), "")
    rows = [
        {
            **texts,
            "over": SIZE,
            "task": task,
            "points": 0,
            "n": 0,
            "verdict": CANNOT_TELL,
            "note": "; ".join(of),
        }
        for task, of in notes.items()
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def points_table(curves: Iterable[Curve]) -> pd.DataFrame:
    """Return the points of curves, for both forms: abrupt_points.tsv, columns `POINTS`."""
    rows = []
    for curve in curves:
        for form, values, metric in zip(
            ("outcome", "signal"), (curve.outcome, curve.signal), curve.metrics, strict=True
        ):
            for i, label in enumerate(curve.labels):
                found = estimate(values[i], clusters=curve.clusters)
                rows.append(
                    {
                        **{"over": curve.over, "arm": curve.arm, "model": curve.model, "task": curve.task},
                        **{"form": form, "metric": metric, "label": label},
                        "x": round(10 ** float(curve.x[i])),
                        **{"value": found.value, "stderr": found.stderr, "n": found.n},
                    }
                )
    return pd.DataFrame(rows, columns=list(POINTS))
