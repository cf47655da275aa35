"""Expected ratings of a cell, beside the true ones and the predictions of baselines."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ebbtide.metrics.choice import coverage
from ebbtide.metrics.measure import read_examples
from ebbtide.metrics.rating import expected_rating

BASELINE = "baseline_"
USER, ITEM = "user", "item"  # groups that a task must have


@dataclass(frozen=True)
class Predictions:
    """The n ratings of one task by one checkpoint.

    Attributes
    ----------
    place
        `model, checkpoint, step, tokens`.
    rating, target
        The expected and the true rating (n,).
    users, items
        Integers (n,), equal for ratings by one user and of one item.
    values
        The ratings that a model chooses from (K,).
    coverage
        Probability of all of them together (n,).
    baselines
        Name → its predictions (n,).
    parts
        The footer entry `parts` of the cell: how much of the histories was used; empty without.
    """

    place: Mapping[str, Any]
    task: str
    rating: np.ndarray
    target: np.ndarray
    users: np.ndarray
    items: np.ndarray
    values: np.ndarray
    coverage: np.ndarray
    baselines: Mapping[str, np.ndarray]
    parts: Mapping[str, Any]

    @property
    def squared(self) -> np.ndarray:
        """The squared error of each rating (n,)."""
        return np.asarray((self.rating - self.target) ** 2)


def read_predictions(
    expected: Iterable[Mapping[str, Any]], cells: Sequence[str | Path], requests: Mapping[str, str | Path]
) -> Iterator[Predictions]:
    """Yield the predictions of every cell of kind rating.

    Parameters
    ----------
    expected
        For each checkpoint, that of `measure_checkpoint`, with the tasks of kind rating only.
    cells
        The files of all their cells, in the same order.
    requests
        Task → file of the frozen task.

    Raises
    ------
    CellError
        A file is missing, damaged or not the one that is expected.
    """
    files = iter(cells)
    for place in expected:
        for of in place["cells"]:
            yield _of_cell(place, of, next(files), requests[of["task"]])


def _of_cell(
    place: Mapping[str, Any], expected: Mapping[str, Any], cell: str | Path, requests: str | Path
) -> Predictions:
    x, footer = read_examples(cell, requests, expected)
    names = [name for name in x.rows if name.startswith(BASELINE)]
    return Predictions(
        {name: place[name] for name in ("model", "checkpoint", "step", "tokens")},
        expected["task"],
        expected_rating(x),
        x.of_example("target"),
        x.group(USER)[0],
        x.group(ITEM)[0],
        np.unique(x.column("value")),
        coverage(x),
        {name.removeprefix(BASELINE): x.of_example(name) for name in names},
        footer.get("parts", {}),
    )
