"""What became of each example of one model on one task: held, forgotten, never learned.

An example is **held** from the first time on that it is right at `hold` checkpoints in a row, and **lost**
where it is then wrong at `hold` in a row. It is **forgotten** if it was held and is wrong at the last `hold`
checkpoints. No checkpoint is chosen for its result, so the definition has no winner's curse; what it
counts of mere flicker is known (`flicker.looks_forgotten`).

Untrained checkpoints (step 0) are left out: nothing is learned yet.
"""

from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
import pandas as pd

from ebbtide.statistics.forgetting.flicker import looks_forgotten
from ebbtide.statistics.panel import Trajectory

STATES = ("always", "learned", "wavering", "forgotten", "never")


def default_hold(T: int) -> int:
    """Checkpoints in a row that make knowledge: ⌈√T / 2⌉, at least 2 (7 of Pythia's 154), at most T / 2."""
    return max(1, min(max(2, ceil(sqrt(T) / 2)), T // 2))


@dataclass(frozen=True)
class History:
    """All examples of one model on one task through training.

    Attributes
    ----------
    places
        The T trained checkpoints, as in `Trajectory`.
    size
        Parameters of the model; 0 is unknown.
    right
        (T, n): whether the answer is right.
    right_run, wrong_run
        (T, n): right (wrong) answers in a row that end here.
    """

    model: str
    task: str
    metric: str
    size: int
    places: pd.DataFrame
    hold: int
    examples: np.ndarray
    clusters: np.ndarray
    right: np.ndarray
    right_run: np.ndarray
    wrong_run: np.ndarray

    @property
    def held_by(self) -> np.ndarray:
        """(T, n): whether the example has been held by now."""
        by: np.ndarray = np.logical_or.accumulate(self.right_run >= self.hold, axis=0)
        return by

    @property
    def forgotten(self) -> np.ndarray:
        """(n,): held once, wrong at the last `hold` checkpoints."""
        mask: np.ndarray = self.held_by[-1] & (self.wrong_run[-1] >= self.hold)
        return mask

    @property
    def flicker(self) -> np.ndarray:
        """(n,): how likely each example looks forgotten if the order of its answers is chance."""
        chances: np.ndarray = looks_forgotten(len(self.right), self.hold)[self.right.sum(axis=0)]
        return chances

    @property
    def states(self) -> np.ndarray:
        """(n,) one of `STATES`: always right, held and right at the end, forgotten, …"""
        conditions = [
            self.right.all(axis=0),
            self.held_by[-1] & (self.right_run[-1] >= self.hold),
            self.forgotten,
            self.held_by[-1],
        ]
        named: np.ndarray = np.select(conditions, ["always", "learned", "forgotten", "wavering"], "never")
        return named

    def spans(self) -> tuple[np.ndarray, np.ndarray]:
        """(n,) where each example was first learned, then first lost: indices of checkpoints, -1 for never.

        Learned: the first right answer of the first `hold` in a row. Lost: the first wrong answer of the
        first `hold` in a row after that.
        """
        held = self.right_run >= self.hold
        learned = np.where(held.any(axis=0), held.argmax(axis=0) - self.hold + 1, -1)
        gone = self.held_by & (self.wrong_run >= self.hold)
        lost = np.where(gone.any(axis=0), gone.argmax(axis=0) - self.hold + 1, -1)
        return learned, lost


def history(trajectory: Trajectory, metric: str, *, hold: int | None, size: int) -> History | str:
    """The history of a metric of zeros and ones; a sentence's end where there is none.

    Parameters
    ----------
    hold
        Checkpoints in a row; `default_hold` when None, and never more than half of the checkpoints.
    """
    trained = (trajectory.places["step"] > 0).to_numpy() | (trajectory.places["tokens"] > 0).to_numpy()
    if not trained.any() and len(trained) > 1:
        trained[:] = True  # neither steps nor tokens are known: the order is all there is
    places = trajectory.places[trained].reset_index(drop=True)
    values, clusters = trajectory.counted(metric)
    if not np.isin(values, (0.0, 1.0)).all():
        return f"no forgetting: {metric} is not right or wrong, example by example"
    right = values[trained] > 0
    T = len(right)
    if T < 2:
        return f"no forgetting: {T} trained checkpoints, at least 2 needed"
    if not right.shape[1]:
        return f"no forgetting: no example counts for {metric}"
    return History(
        trajectory.model,
        trajectory.task,
        metric,
        size,
        places,
        min(hold or default_hold(T), T // 2),
        trajectory.examples[~np.isnan(trajectory.values[metric]).any(axis=0)],
        pd.factorize(clusters)[0],
        right,
        _runs(right),
        _runs(~right),
    )


def _runs(true: np.ndarray) -> np.ndarray:
    """How many in a row are true, up to and with each place, along the first axis."""
    runs = np.zeros(true.shape, dtype=np.int16)
    for t in range(len(true)):
        runs[t] = (runs[t - 1] + 1 if t else 1) * true[t]
    return runs
