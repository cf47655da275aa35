"""Flips of all alarms of a study, from its tables and cells."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ebbtide.statistics.example_tables import Part
from ebbtide.statistics.flips.answers import Answers, answers_of, answers_of_table
from ebbtide.statistics.flips.cells import Cells
from ebbtide.statistics.flips.others import with_other_models
from ebbtide.statistics.flips.tables import PLACES, FlipTables, flip_tables, pairs_of_alarms
from ebbtide.statistics.flips.texts import read_texts
from ebbtide.statistics.panel import Trajectory, read_trajectories
from ebbtide.tables import REQUESTS, read_footer


def flips_of_alarms(
    alarms: pd.DataFrame,
    scored: Sequence[Part],
    imported: Sequence[Part],
    cells: Cells,
    requests: Mapping[str, Sequence[str | Path]],
    *,
    most: int | None,
    averaged: Mapping[str, str],
    tolerance: float = 0.0,
) -> FlipTables:
    """Return the examples that changed in the pairs of checkpoints that have an alarm.

    Parameters
    ----------
    alarms
        Rows of alarms.tsv.
    scored, imported
        Tables of examples of scored and of imported checkpoints. Of the latter, choices are not known.
    cells
        The cells of scored checkpoints.
    requests
        Task → its frozen requests, and the texts of imported samples (`by_task`).
    most
        See `flip_tables`.
    averaged
        Model of averages → model whose checkpoints it averages.
    tolerance
        See `with_other_models`.

    Raises `CellError` for a file that is missing, damaged, or of another state than the alarms.
    """
    places = pd.DataFrame(
        [{name: part.place[name] for name in PLACES} for part in (*scored, *imported)], columns=list(PLACES)
    )
    pairs = pairs_of_alarms(alarms, places)
    source = _Source(scored, imported, cells)
    tables = flip_tables(pairs, source, texts_by_task(requests), most)
    examples = with_other_models(
        tables.examples, read_trajectories([*scored, *imported]), averaged, tolerance
    )
    return tables._replace(examples=examples)


def by_task(
    frozen: Mapping[str, str | Path], imported: Iterable[str | Path] = ()
) -> dict[str, list[str | Path]]:
    """Return the files of each task: its frozen requests, then the texts of imported samples."""
    paths: dict[str, list[str | Path]] = {task: [path] for task, path in frozen.items()}
    for path in imported:
        paths.setdefault(str(read_footer(path, REQUESTS)["task"]), []).append(path)
    return paths


class _Source:
    """The answers of scored and of imported checkpoints."""

    def __init__(self, scored: Iterable[Part], imported: Sequence[Part], cells: Cells) -> None:
        self._cells, self._imported = cells, imported
        self._scored = {
            (part.place["model"], part.place["checkpoint"], task) for part in scored for task in part.requests
        }
        self._trajectories: dict[tuple[str, str], Trajectory] = {}

    def __call__(self, model: str, checkpoint: str, task: str, metric: str) -> Answers:
        if (model, checkpoint, task) in self._scored:
            return answers_of(self._cells.examples(model, checkpoint, task), metric)
        if not self._trajectories:
            found = read_trajectories(self._imported)
            self._trajectories = {(of.model, of.task): of for of in found}
        return answers_of_table(self._trajectories[model, task], checkpoint, metric)


def texts_by_task(requests: Mapping[str, Sequence[str | Path]]) -> Callable[[str], pd.DataFrame]:
    """Return a function from a task to its texts, which reads those of each task once."""
    known: dict[str, pd.DataFrame] = {}

    def texts(task: str) -> pd.DataFrame:
        if task not in known:
            known[task] = read_texts(requests.get(task, ()))
        return known[task]

    return texts


def cell_in_results(model: str, checkpoint: str, task: str) -> tuple[Path, Mapping[str, Any] | None]:
    """Return the path of a cell in the results, and any identity: its mean is compared with the alarm's."""
    return Path("results/scores", model, checkpoint, f"{task}.parquet"), None
