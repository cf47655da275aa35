"""Scoring jobs of a run: the missing cells, the priorities of their jobs, and the hint file for workers."""

import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from ebbtide.cells import store
from ebbtide.checkpoints.findings import DROP
from ebbtide.errors import ConfigError
from ebbtide.grid import Checkpoint
from ebbtide.scoring.scorer import load_once_per
from ebbtide.study.load_proofs import all_proof_entries, proof_rules
from ebbtide.study.study import Study

# Priorities of the jobs of rule `score`. A follower occupies a core while it waits for its lead, so it goes
# last.
LEAD, COPY, FOLLOWER = 2, 1, 0

LISTED = 1000  # cells of a study from which on its store is listed, which may hold the cells of many others

COMMON = 1  # priority of all other rules: after leads, before followers


class MissingCells:
    """The cells of a study that must be scored; each is looked for once (see `missing`).

    Snakemake asks for every cell several times, and the store may be on a slow file system.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._tasks: dict[tuple[str, str], list[str]] = {}

    def of(self, checkpoint: Checkpoint) -> list[str]:
        """Return the tasks of a checkpoint that must be scored, in the order of the configuration."""
        place = checkpoint.model, checkpoint.name
        if place not in self._tasks:
            self._tasks[place] = missing(self._study, checkpoint, self._stored)
        return self._tasks[place]

    @cached_property
    def _stored(self) -> frozenset[str] | None:
        cells = sum(len(model.checkpoints) for model in self._study.models.values()) * len(self._study.tasks)
        return stored_names(self._study, cells)


class ScoreJobs:
    """The jobs of rule `score`: which cells are missing, and which job of a checkpoint or model leads.

    Each back end loads the weights for itself, so its cells have a lead of their own.
    """

    def __init__(self, study: Study, cells: MissingCells | None = None) -> None:
        self._study = study
        self._cells = cells or MissingCells(study)
        self._first_checkpoints: dict[tuple[str, str], str | None] = {}

    def priority(self, model: str, checkpoint: str, task: str) -> int:
        """Return the priority of the job of a cell."""
        missing_tasks = self._missing_tasks(model, checkpoint)
        if task not in missing_tasks:
            return COPY
        backend = self._study.backend(task)
        once_per = load_once_per(self._study.config["scoring"]["load_once_per"], backend)
        if once_per == "cell":
            return LEAD
        if task != self._of_backend(missing_tasks, backend)[0]:
            return FOLLOWER
        if once_per == "model" and checkpoint != self._first_checkpoint(model, backend):
            return FOLLOWER
        return LEAD

    def is_missing(self, model: str, checkpoint: str, task: str) -> bool:
        """Whether a cell must be scored, which needs weights. Otherwise it is copied from the store."""
        return task in self._missing_tasks(model, checkpoint)

    def _missing_tasks(self, model: str, checkpoint: str) -> list[str]:
        return self._cells.of(self._study.checkpoint(model, checkpoint))

    def _of_backend(self, tasks: Iterable[str], backend: str) -> list[str]:
        return [task for task in tasks if self._study.backend(task) == backend]

    def _first_checkpoint(self, model: str, backend: str) -> str | None:
        if (model, backend) not in self._first_checkpoints:
            checkpoints = self._study.models[model].checkpoints
            found = (c.name for c in checkpoints if self._of_backend(self._cells.of(c), backend))
            self._first_checkpoints[model, backend] = next(found, None)
        return self._first_checkpoints[model, backend]


def check_deleted_weights(study: Study) -> None:
    """Raise `ConfigError` if a cell must be scored with deleted weights, or with an average of them."""
    gone = deleted_weights(study)
    for (model, name), row in gone.items():
        if tasks := missing(study, study.checkpoint(model, name)):
            listed = ", ".join(tasks[:5]) + (" …" if len(tasks) > 5 else "")
            raise ConfigError(
                f"{row}: the weights of {model}/{name} have been deleted, but are needed to score "
                f"{listed}; restore them, or set audit.gone to drop."
            )
    for average in study.unmade_averages() if gone else ():
        for parent in average.parents:
            if (where := gone.get((parent.model, parent.name))) and missing(study, average):
                raise ConfigError(
                    f"{where}: the weights of {parent.model}/{parent.name} have been deleted, but are needed "
                    f"for the average {average.model}/{average.name}; restore them, or remove `average`."
                )


def deleted_weights(study: Study) -> dict[tuple[str, str], str]:
    """Return the checkpoints in the study whose weights have been deleted, with the file and key of the row.

    Their keys are model and name.
    """
    return {
        (finding.model, name): finding.where
        for finding in study.findings
        if finding.finding == "gone" and finding.action != DROP
        for name in finding.checkpoints
    }


def missing(study: Study, checkpoint: Checkpoint, stored: frozenset[str] | None = None) -> list[str]:
    """Return the tasks of a checkpoint that must be scored, in the order of the configuration.

    Their cells are neither in the store nor in the results. With `recompute: true`, all tasks. `stored` are
    the names in the store; cells with other names are not looked for there. None: all are.
    """
    if study.config["recompute"]:
        return list(study.tasks)
    directory = study.config["scoring"]["store"]
    published = names_in(Path(cell_path(checkpoint, "")).parent)
    found = []
    for task in study.tasks:
        identity = study.identity(checkpoint, task)
        in_store, in_results = store.path_of(directory, identity), Path(cell_path(checkpoint, task))
        if not (_is_cell(in_store, identity, stored) or _is_cell(in_results, identity, published)):
            found.append(task)
    return found


def _is_cell(path: Path, identity: store.Identity, names: frozenset[str] | None) -> bool:
    """Whether a file is the cell of this identity; `names` are those in its directory, if known."""
    return (names is None or path.name in names) and store.is_whole(path, identity)


def stored_names(study: Study, cells: int) -> frozenset[str] | None:
    """Return the names in the store if one listing is cheaper than looking for so many cells; else None."""
    return names_in(study.config["scoring"]["store"]) if cells >= LISTED else None


def names_in(directory: str | Path) -> frozenset[str] | None:
    """Return the names in a directory, none if it does not exist; None if it cannot be listed."""
    try:
        with os.scandir(directory) as entries:
            return frozenset(entry.name for entry in entries)
    except FileNotFoundError:
        return frozenset()
    except OSError:
        return None


def cell_path(checkpoint: Checkpoint, task: str) -> str:
    """Return the path of a cell in the results."""
    return f"results/scores/{checkpoint.model}/{checkpoint.name}/{task}.parquet"


def hint_path(model: str) -> str:
    """Return the path of the hint of a model."""
    return f"resources/ahead/{model}.json"


def hints(study: Study, wanted: Iterable[tuple[str, str, str]], started: float) -> dict[str, dict[str, Any]]:
    """Return the hint of each model (see `jobs.worker`): its cells in this run, and how old cells may be.

    Besides, where the load proofs of its checkpoints are, and what their findings do (`jobs.load_proof`).

    `wanted` lists the (model, checkpoint, task) that the run will score; `started` is the start as a Unix
    time.
    """
    result: dict[str, dict[str, Any]] = {}
    order = {task: i for i, task in enumerate(study.tasks)}
    by_model: dict[str, list[tuple[str, str]]] = {}
    for model, checkpoint, task in wanted:
        by_model.setdefault(model, []).append((checkpoint, task))
    for model, pairs in by_model.items():
        rank = {c.name: i for i, c in enumerate(study.models[model].checkpoints)}
        cells = []
        for name, task in sorted(pairs, key=lambda p: (rank[p[0]], order[p[1]])):
            found = study.checkpoint(model, name)
            cells.append(
                {
                    "name": f"{model}/{name}/{task}",
                    "checkpoint": found.marker,
                    "requests": study.tasks[task].frozen,
                    "identity": dict(study.identity(found, task)),
                }
            )
        result[model] = {
            "load_once_per": study.config["scoring"]["load_once_per"],
            "store": study.config["scoring"]["store"],
            "rescore_examples": study.config["scoring"]["rescore_examples"],
            "gpus": study.config["scoring"]["gpus"],
            "offload": study.config["scoring"]["offload"],
            "recompute_before": started if study.config["recompute"] else 0.0,
            "model": model,
            "proofs": all_proof_entries(study, study.models[model]),
            "proof_rules": proof_rules(study),
            "cells": cells,
        }
    return result
