"""A study: its checked configuration and its grid of model × checkpoint × task."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebbtide.cells.store import Identity
from ebbtide.checkpoints.hub.audit import dropped
from ebbtide.checkpoints.hub.catalogue import HubModel
from ebbtide.checkpoints.hub.findings import Finding
from ebbtide.checkpoints.hub.lock import Lock, read_lock
from ebbtide.exchange.specification import source_of
from ebbtide.files import digest
from ebbtide.grid import Checkpoint, Model
from ebbtide.scoring.scorer import backend_identity
from ebbtide.scoring.version import SCORING_VERSION
from ebbtide.sources import Source
from ebbtide.tasks.definition import Task


@dataclass(frozen=True)
class Study:
    """The grid and its settings; everything in it is known before anything runs.

    Attributes
    ----------
    models
        Rows of the grid. Of the hub's, those checkpoints that are locked and that the audit leaves in.
    tasks
        Columns of the grid; none while the lock is incomplete, when nothing but locking can run.
    imported
        Rows of results that something else has scored, checked.
    hub
        What is asked of the hub.
    lock_file
        Where the lock lies, beside the study.
    findings
        What the audit of the lock says, worst first.
    unlocked
        What the lock lacks, as sentences' ends; with any, nothing but locking can run.
    file
        The last configuration file, for messages.
    """

    name: str
    config: Mapping[str, Any]
    models: Mapping[str, Model]
    tasks: Mapping[str, Task]
    imported: tuple[Mapping[str, Any], ...] = ()
    hub: tuple[HubModel, ...] = ()
    lock_file: str = ""
    findings: tuple[Finding, ...] = ()
    unlocked: tuple[str, ...] = ()
    file: str = "--config"

    def checkpoint(self, model: str, name: str) -> Checkpoint:
        """The checkpoint of these names. Raises `KeyError` for names outside the grid."""
        return next(c for c in self.models[model].checkpoints if c.name == name)

    def checkpoints(self) -> Iterator[Checkpoint]:
        """All checkpoints, in the order of the config and of training."""
        for model in self.models.values():
            yield from model.checkpoints

    def has_tokens(self) -> bool:
        """Whether training tokens are known of any checkpoint, scored or imported."""
        rows = self.imported
        stated = any(m.get("tokens_per_step") for row in rows for m in row.get("models", []))
        named = any("tokens" in row.get("columns", {}) for row in rows)
        return stated or named or any(c.tokens for c in self.checkpoints())

    def sources(self) -> dict[str, Source]:
        """Pinned files of imported results, by their sha256."""
        found = (source_of(row, f"imported[{i}]") for i, row in enumerate(self.imported))
        return {str(s.sha256): s for s in found if s is not None}

    def dropped(self) -> list[list[Any]]:
        """[model, checkpoint, training tokens] of what the audit leaves out of the grid."""
        out = dropped(self.findings)
        lock = read_lock(self.lock_file) if out else Lock()
        return [
            [model.name, wanted.name, wanted.stage.tokens(wanted.step)]
            for model in self.hub
            for wanted in (model.wanted(lock) if model.is_listed(lock) else ())
            if (model.name, wanted.name) in out
        ]

    def has_chance(self) -> bool:
        """Whether the level of chance is known of any task."""
        return bool(self.tasks) or any(row["chance"] for row in self.imported)

    def has_examples(self) -> bool:
        """Whether single examples can be followed: cells are scored; imported results are means."""
        return self.has_metrics() and any(True for _ in self.checkpoints())

    def part(self, table: str, checkpoint: Checkpoint) -> str:
        """Where `metrics` or `examples` of one checkpoint lie; the name says what its cells must be."""
        expected = digest(self.expected(checkpoint))
        return f"results/{self.name}/{table}/{checkpoint.model}/{checkpoint.name}-{expected}.parquet"

    def parts(self, table: str) -> list[str]:
        """`metrics` or `examples` of every checkpoint."""
        return [self.part(table, checkpoint) for checkpoint in self.checkpoints()]

    def task_of_data(self, sha256: str) -> Task:
        """A task that uses the data file of this hash. Raises `StopIteration` if there is none."""
        return next(t for t in self.tasks.values() if t.source and t.source.sha256 == sha256)

    def untrained_models(self) -> list[Model]:
        """Models of local ladders that lack a checkpoint on disk."""
        trained_here = (model for model in self.models.values() if model.training)
        return [m for m in trained_here if not all(Path(c.marker).exists() for c in m.checkpoints)]

    def has_metrics(self) -> bool:
        """Whether anything is scored or imported; a study of scaling laws alone has no table of metrics."""
        return bool((self.models and self.tasks) or self.imported)

    def identity(self, checkpoint: Checkpoint, task: str) -> Identity:
        """Identity of a cell: what determines its numbers, as a flat dictionary."""
        scoring = self.config["scoring"]
        own = scoring["dtype"] == "checkpoint"
        return {
            "weights": checkpoint.weights,
            "tokenizer": checkpoint.tokenizer,
            "task": self.tasks[task].identity,
            "recipe": SCORING_VERSION,
            "dtype": checkpoint.dtype if own else scoring["dtype"],
            "encoding": scoring["encoding"],
            "bos": scoring["bos"],
            "truncation": scoring["truncation"],
            "max_length": scoring["max_length"],
            **backend_identity(scoring["backend"]),
        }

    def expected(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """What `measure` must find: the place in training, and identities in the order of the tasks."""
        return {
            "model": checkpoint.model,
            "checkpoint": checkpoint.name,
            "step": checkpoint.step,
            "tokens": checkpoint.tokens,
            "parameters_nominal": checkpoint.nominal,
            "cells": [
                {"task": name, "identity": self.identity(checkpoint, name), "measuring": task.measuring}
                for name, task in self.tasks.items()
            ],
        }
