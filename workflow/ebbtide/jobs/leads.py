"""Scoring jobs of a run: the missing cells, the priorities of their jobs, and the hint file for workers."""

from collections.abc import Iterable
from typing import Any

from ebbtide.cells import store
from ebbtide.checkpoints.findings import DROP
from ebbtide.errors import ConfigError
from ebbtide.grid import Checkpoint
from ebbtide.study.study import Study

# Priorities of the jobs of rule `score`. A follower occupies a core while it waits for its lead, so it goes
# last.
LEAD, COPY, FOLLOWER = 2, 1, 0

COMMON = 1  # priority of all other rules: after leads, before followers


class ScoreJobs:
    """The jobs of rule `score`: which cells are missing, and which job of a checkpoint or model leads."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._missing: dict[tuple[str, str], list[str]] = {}

    def priority(self, model: str, checkpoint: str, task: str) -> int:
        """Return the priority of the job of a cell."""
        if task not in self._missing_tasks(model, checkpoint):
            return COPY
        load_once_per = self._study.config["scoring"]["load_once_per"]
        if load_once_per == "cell":
            return LEAD
        if task != self._missing_tasks(model, checkpoint)[0]:
            return FOLLOWER
        if load_once_per == "model" and checkpoint != self._first_checkpoint(model):
            return FOLLOWER
        return LEAD

    def is_missing(self, model: str, checkpoint: str, task: str) -> bool:
        """Whether a cell must be scored, which needs weights. Otherwise it is copied from the store."""
        return task in self._missing_tasks(model, checkpoint)

    def _missing_tasks(self, model: str, checkpoint: str) -> list[str]:
        if (model, checkpoint) not in self._missing:
            found = self._study.checkpoint(model, checkpoint)
            self._missing[model, checkpoint] = missing(self._study, found)
        return self._missing[model, checkpoint]

    def _first_checkpoint(self, model: str) -> str | None:
        for checkpoint in self._study.models[model].checkpoints:
            if self._missing_tasks(model, checkpoint.name):
                return checkpoint.name
        return None


def check_deleted_weights(study: Study) -> None:
    """Raise `ConfigError` if a cell must be scored with weights that have been deleted."""
    for finding in study.findings:
        if finding.finding != "gone" or finding.action == DROP:
            continue
        for name in finding.checkpoints:
            if tasks := missing(study, study.checkpoint(finding.model, name)):
                listed = ", ".join(tasks[:5]) + (" …" if len(tasks) > 5 else "")
                raise ConfigError(
                    f"{finding.where}: the weights of {finding.model}/{name} have been deleted, but are "
                    f"needed to score {listed}; restore them, or set audit.gone to drop."
                )


def missing(study: Study, checkpoint: Checkpoint) -> list[str]:
    """Return the tasks of a checkpoint that must be scored, in the order of the configuration.

    Their cells are neither in the store nor in the results. With `recompute: true`, all tasks.
    """
    if study.config["recompute"]:
        return list(study.tasks)
    directory = study.config["scoring"]["store"]
    identities = {task: study.identity(checkpoint, task) for task in study.tasks}
    places = {t: (store.path_of(directory, i), cell_path(checkpoint, t)) for t, i in identities.items()}
    return [t for t, i in identities.items() if not any(store.is_whole(p, i) for p in places[t])]


def cell_path(checkpoint: Checkpoint, task: str) -> str:
    """Return the path of a cell in the results."""
    return f"results/scores/{checkpoint.model}/{checkpoint.name}/{task}.parquet"


def hint_path(model: str) -> str:
    """Return the path of the hint of a model."""
    return f"resources/ahead/{model}.json"


def hints(study: Study, wanted: Iterable[tuple[str, str, str]], started: float) -> dict[str, dict[str, Any]]:
    """Return the hint of each model (see `jobs.worker`): its cells in this run, and how old cells may be.

    `wanted` lists the (model, checkpoint, task) that the run will score; `started` is the start as a Unix
    time.
    """
    load_once_per = study.config["scoring"]["load_once_per"]
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
            "load_once_per": load_once_per,
            "store": study.config["scoring"]["store"],
            "rescore_examples": study.config["scoring"]["rescore_examples"],
            "gpus": study.config["scoring"]["gpus"],
            "offload": study.config["scoring"]["offload"],
            "recompute_before": started if study.config["recompute"] else 0.0,
            "cells": cells,
        }
    return result
