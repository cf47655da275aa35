"""Learning and forgetting of each example of one model on one task.

An example is **held** once it is right at `streak` checkpoints in a row, and **lost** once it is then wrong
at `streak` in a row. It is **forgotten** if it was held and is wrong at the last `streak` checkpoints. With a
streak of 1, losing an example is a forgetting event of Toneva et al. (2019).

No checkpoint is selected by its result, so the counts have no selection bias. Their expectation for randomly
ordered answers is known (`flicker.forgotten_by_chance`). Untrained checkpoints (step 0) are left out.
"""

from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
import pandas as pd

from ebbtide.statistics.forgetting.flicker import forgotten_by_chance
from ebbtide.statistics.panel import Trajectory, is_binary

NO_BINARY = "the task has none"  # in the reason for no history
STATES = ("always", "learned", "wavering", "forgotten", "never")


def default_streak(T: int) -> int:
    """Default streak for T checkpoints: ⌈√T / 2⌉, at least 2 (7 for Pythia's 154), at most T / 2."""
    return max(1, min(max(2, ceil(sqrt(T) / 2)), T // 2))


@dataclass(frozen=True)
class History:
    """All examples of one model on one task through training.

    Attributes
    ----------
    checkpoints
        The T trained checkpoints, as in `Trajectory`.
    size
        Number of parameters of the model; 0 means unknown.
    streak
        Checkpoints in a row that an example must be right to be held, or wrong to be lost.
    right
        (T, n): whether the answer is right.
    right_run, wrong_run
        (T, n): length of the run of right (wrong) answers that ends at this checkpoint.
    notes
        What was not as asked, one sentence each.
    """

    model: str
    task: str
    metric: str
    size: int
    checkpoints: pd.DataFrame
    streak: int
    examples: np.ndarray
    clusters: np.ndarray
    right: np.ndarray
    right_run: np.ndarray
    wrong_run: np.ndarray
    notes: tuple[str, ...] = ()

    @property
    def held_by(self) -> np.ndarray:
        """(T, n): whether the example has been held at or before this checkpoint."""
        by: np.ndarray = np.logical_or.accumulate(self.right_run >= self.streak, axis=0)
        return by

    @property
    def forgotten(self) -> np.ndarray:
        """(n,): whether the example was held and is wrong at the last `streak` checkpoints."""
        mask: np.ndarray = self.held_by[-1] & (self.wrong_run[-1] >= self.streak)
        return mask

    @property
    def forgotten_by_chance(self) -> np.ndarray:
        """(n,): probability of being counted as forgotten if the order of the answers is random."""
        chances: np.ndarray = forgotten_by_chance(len(self.right), self.streak)[self.right.sum(axis=0)]
        return chances

    @property
    def states(self) -> np.ndarray:
        """(n,): one of `STATES` per example."""
        conditions = [
            self.right.all(axis=0),
            self.held_by[-1] & (self.right_run[-1] >= self.streak),
            self.forgotten,
            self.held_by[-1],
        ]
        named: np.ndarray = np.select(conditions, ["always", "learned", "forgotten", "wavering"], "never")
        return named

    def spans(self) -> tuple[np.ndarray, np.ndarray]:
        """Return checkpoint indices (n,) of first learning and of first loss after that; -1 if never.

        An example is learned at the first right answer of its first streak, and lost at the first wrong
        answer of the first wrong streak after that.
        """
        held = self.right_run >= self.streak
        learned = np.where(held.any(axis=0), held.argmax(axis=0) - self.streak + 1, -1)
        gone = self.held_by & (self.wrong_run >= self.streak)
        lost = np.where(gone.any(axis=0), gone.argmax(axis=0) - self.streak + 1, -1)
        return learned, lost


def history(trajectory: Trajectory, metric: str, *, streak: int | None, size: int) -> History | str:
    """Return the history of a 0/1 metric, or the reason why there is none.

    Parameters
    ----------
    streak
        Checkpoints in a row; `default_streak` if None, and at most half of the checkpoints.
    size
        Number of parameters of the model; 0 means unknown.
    """
    steps, tokens = trajectory.checkpoints["step"], trajectory.checkpoints["tokens"]
    trained = ((steps > 0) | (tokens > 0)).to_numpy()
    notes = []
    if not trained.any() and len(trained) > 1:
        trained = ~trained
        notes.append("neither steps nor tokens are known: checkpoints are in the order of their names")
    checkpoints = trajectory.checkpoints[trained].reset_index(drop=True)
    values, clusters = trajectory.counted(metric)
    if not is_binary(values):
        return f"no forgetting: {metric} is not a 0/1 metric; {_remedy(trajectory)}"
    right = values[trained] > 0
    T = len(right)
    if T < 2:
        return _too_few(T, len(trained))
    if not right.shape[1]:
        return f"no forgetting: {metric} has no value for any example"
    if streak is None and T < 4:
        notes.append(f"only {T} trained checkpoints, so one correct answer counts as learned")
    if streak is not None and streak > T // 2:
        notes.append(
            f"forgetting.streak is {streak}, more than half of {T} trained checkpoints: {T // 2} is used"
        )
    return History(
        trajectory.model,
        trajectory.task,
        metric,
        size,
        checkpoints,
        min(streak or default_streak(T), T // 2),
        trajectory.examples[~np.isnan(trajectory.values[metric]).any(axis=0)],
        pd.factorize(clusters)[0],
        right,
        _runs(right),
        _runs(~right),
        tuple(notes),
    )


def _remedy(trajectory: Trajectory) -> str:
    """Return which metrics of the task could be followed instead."""
    binary = [name for name in trajectory.values if is_binary(trajectory.counted(name)[0])]
    if binary:
        return f"add a 0/1 metric of the task to trajectories.metrics: {', '.join(binary)}"
    return f"{NO_BINARY}, only {', '.join(trajectory.values)}"


def _too_few(trained: int, checkpoints: int) -> str:
    untrained = checkpoints - trained
    found = f"{trained} trained checkpoint{'' if trained == 1 else 's'}"
    found += f" and {untrained} untrained" if untrained else ""
    return f"no forgetting: {found}, at least 2 trained ones needed; add steps of the model"


def _runs(true: np.ndarray) -> np.ndarray:
    """Length of the run of true values that ends at each element, along the first axis."""
    runs = np.zeros(true.shape, dtype=np.int16)
    for t in range(len(true)):
        runs[t] = (runs[t - 1] + 1 if t else 1) * true[t]
    return runs
