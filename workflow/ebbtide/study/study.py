"""A study: its checked configuration and its grid of model × checkpoint × task."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ebbtide.cells.store import Identity
from ebbtide.checkpoints.findings import Finding, dropped
from ebbtide.checkpoints.hub.catalogue import HubModel
from ebbtide.checkpoints.hub.lock import Lock
from ebbtide.checkpoints.on_disk import DiskModel
from ebbtide.exchange.specification import source_of
from ebbtide.files import digest
from ebbtide.grid import Checkpoint, Model
from ebbtide.scoring.scorer import SAME, backend_identity
from ebbtide.scoring.version import SCORING_VERSION
from ebbtide.sources import Source
from ebbtide.study.published_points import read_points
from ebbtide.tasks.definition import Task
from ebbtide.tasks.generation.classifiers import name_of


@dataclass(frozen=True)
class Study:
    """The grid and its settings, all known before anything runs.

    Attributes
    ----------
    models
        Rows of the grid. Checkpoints from a hub are included if they are locked and not dropped by the audit.
    tasks
        Columns of the grid; empty while the lock is incomplete, because only locking can run then.
    imported
        Checked rows of results that were scored elsewhere.
    on_disk
        Rows whose checkpoints are directories on disk.
    hub
        Rows whose checkpoints come from a hub.
    lock_file, lock
        Path of the lockfile, beside the study, and its content; empty without rows from a hub.
    findings
        Findings of the audit of the lock, worst first.
    unlocked
        Models and steps that the lock lacks, as text for a message; if there are any, only locking can run.
    file
        The configuration file that messages name.
    claim
        Whose results `results/{study}/` contains, see `study.claim`.
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
    on_disk: tuple[DiskModel, ...] = ()
    claim: Mapping[str, Any] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    def checkpoint(self, model: str, name: str) -> Checkpoint:
        """Return a checkpoint by its model and name. Raises `KeyError` for an unknown one."""
        return self._by_name[model, name]

    def checkpoints(self) -> Iterator[Checkpoint]:
        """Yield all checkpoints, in the order of the configuration and of training."""
        for model in self.models.values():
            yield from model.checkpoints

    def last_checkpoints(self, count: int) -> list[Checkpoint]:
        """Return the last trained checkpoints of every model, without models of averages."""
        own = [model.checkpoints for model in self.models.values() if model.name not in self.averaged()]
        trained = [[c for c in of if c.step > 0 or c.tokens > 0] or of for of in own]
        return [checkpoint for of in trained for checkpoint in of[-count:]]

    def imported_sources(self) -> dict[str, Source]:
        """Return the pinned files of imported results, by sha256."""
        found = (source_of(row, f"imported[{i}]") for i, row in enumerate(self.imported))
        return {str(s.sha256): s for s in found if s is not None}

    def published_points(self) -> list[dict[str, Any]]:
        """Return the published values that figure `abrupt` shows beside the measured ones."""
        return read_points(self.config.get("abrupt", {}).get("published"))

    def classifier_of(self, task: str) -> str:
        """Return the classifier that ranks the texts of a task: that of `toxicity:`, or its first; or ""."""
        section = self.config.get("toxicity") or {"tasks": ()}
        if task in section["tasks"]:
            return str(section["classifier"])
        specs = self.tasks[task].definition.get("texts", {}).get("classifiers", ())
        return name_of(specs[0]) if specs else ""

    def offensive_tasks(self) -> list[str]:
        """Return the tasks of `toxicity:`, of which the page blurs prompts and continuations."""
        section = self.config.get("toxicity") or {"tasks": ()}
        return [*section["tasks"], *(section.get("continuations") or {"tasks": ()})["tasks"]]

    def table_of_models(self) -> Source | None:
        """Return the pinned table of `compute_trends`, if the study has one."""
        if "compute_trends" not in self.config:
            return None
        table = self.config["compute_trends"]
        return Source.parse(table["source"], table["sha256"], "compute_trends.source")

    def sources(self) -> dict[str, Source]:
        """Return all pinned files but those of tasks, by sha256."""
        table = self.table_of_models()
        return self.imported_sources() | ({str(table.sha256): table} if table else {})

    def dropped(self) -> list[list[Any]]:
        """Return [model, checkpoint, training tokens] of each checkpoint that the audit drops."""
        out = dropped(self.findings)
        asked = [
            [model.name, wanted.name, wanted.stage.tokens(wanted.step)]
            for model in (self.hub if out else ())
            for wanted in (model.wanted(self.lock) if model.is_listed(self.lock) else ())
        ]
        asked += [[m.name, d.name, d.step * m.tokens_per_step] for m in self.on_disk for d in m.directories]
        return [row for row in asked if (row[0], row[1]) in out]

    def has_examples(self) -> bool:
        """Whether results per example exist: of scored cells, or of imported samples."""
        return self.has_metrics() and (self.has_samples() or any(True for _ in self.checkpoints()))

    def lacks(
        self,
        *,
        models: int = 1,
        trained: int = 1,
        tokens: bool = False,
        answers: bool = False,
        averages: bool = True,
    ) -> str:
        """Return why a table cannot have rows to draw, in words; empty if it may have some.

        Of imported results, nothing is known before they are read, so they may have everything.

        Parameters
        ----------
        models
            The least number of models.
        trained, tokens
            The least number of trained checkpoints that some model has; with `tokens`, of checkpoints with
            different numbers of training tokens.
        answers
            Whether a task must have answers that are right or wrong.
        averages
            Whether models whose checkpoints are averages count.
        """
        if self.imported:
            return ""
        rows = list(self.models.values()) if averages else self._own_models()
        if len(rows) < models:
            return f"there is only one model{'' if len(rows) == len(self.models) else ' apart from averages'}"
        if answers and self.tasks and all(task.kind.needs == "losses" for task in self.tasks.values()):
            return "all tasks are documents, which have losses but no right or wrong answers"
        if max(map(_trained, rows), default=0) < trained:
            return f"no model has {_WORDS[trained]} trained checkpoint{'s' if trained > 1 else ''}"
        if tokens and max(len(_tokens(model)) for model in rows) < trained:
            found = "checkpoints with different" if trained > 1 else "checkpoint with"
            return f"no model has {_WORDS[trained]} {found} known training tokens (set tokens_per_step)"
        return ""

    def lacks_regression(self) -> str:
        """Return why no task can have a regression over sizes and training tokens, in words; see `lacks`."""
        if few := self.lacks(models=2, tokens=True, averages=False):
            return few
        if self.imported:
            return ""
        rows = self._own_models()
        known = [c for model in rows for c in model.checkpoints if c.tokens > 0]
        sizes = {(model.parameters, c.nominal) for model in rows for c in model.checkpoints}
        if len(sizes) == 1 and min(sizes)[0] > 0:
            return f"all models have {min(sizes)[0]:,} parameters, but the regression is over sizes"
        if len({c.tokens for c in known}) < 2:
            return "all checkpoints have the same training tokens, but the regression is over them"
        if len(known) < LEAST_CELLS:
            return f"there are {len(known)} trained checkpoints, but a regression needs {LEAST_CELLS}"
        return ""

    def has_samples(self) -> bool:
        """Whether samples of another tool are imported; other imported results are means."""
        return any(row["format"] == "lm_eval_samples" for row in self.imported)

    def imports(self, table: str) -> str:
        """Return the path of imported `metrics.parquet`, or of the directory `examples` or `requests`."""
        return f"results/{self.name}/imported/{table}"

    def part(self, table: str, checkpoint: Checkpoint) -> str:
        """Return the path of `metrics` or `examples` of a checkpoint; its name has a digest of `expected`."""
        place = checkpoint.model, checkpoint.name
        if place not in self._expected_digests:
            self._expected_digests[place] = digest(self.expected(checkpoint))
        name = f"{checkpoint.name}-{self._expected_digests[place]}.parquet"
        return f"results/{self.name}/{table}/{checkpoint.model}/{name}"

    def parts(self, table: str, without: Collection[str] = ()) -> list[str]:
        """Return the paths of `metrics` or `examples` of all checkpoints, but of the models `without`.

        The last of `examples` may be the directory of imported ones, whose checkpoints are not known before.
        """
        imported = [self.imports("examples")] if table == "examples" and self.has_samples() else []
        own = (self.part(table, c) for c in self.checkpoints() if c.model not in without)
        return [*own, *imported]

    def task_of_data(self, digest: str) -> Task:
        """Return a task that uses the data file with this digest. Raises `StopIteration` if there is none."""
        return next(t for t in self.tasks.values() if t.source and t.source.digest == digest)

    def rating_tasks(self) -> list[str]:
        """Return the tasks of kind rating whose ratings have a user and an item."""
        groups = {name: task.definition.get("groups", {}) for name, task in self.tasks.items()}
        rated = [name for name, task in self.tasks.items() if task.kind.name == "rating"]
        return [name for name in rated if {"user", "item"} <= groups[name].keys()]

    def untrained_models(self) -> list[Model]:
        """Return the models of local ladders that lack a checkpoint on disk."""
        trained_here = (model for model in self.models.values() if model.training)
        return [m for m in trained_here if not all(Path(c.marker).exists() for c in m.checkpoints)]

    def unmade_averages(self) -> list[Checkpoint]:
        """Return the averaged checkpoints that are not on disk."""
        return [c for c in self.checkpoints() if c.parents and not Path(c.marker).exists()]

    def unconverted(self) -> dict[str, dict[str, Any]]:
        """Return the specs of the conversions that are not on disk, by the directory to make."""
        return {
            checkpoint.marker: spec
            for model in self.on_disk
            for checkpoint, spec in model.conversions()
            if not Path(checkpoint.marker).exists()
        }

    def averaged(self) -> dict[str, str]:
        """Return the models whose checkpoints are averages, with the model whose checkpoints they average."""
        return {c.model: c.parents[-1].model for c in self.checkpoints() if c.parents}

    def has_metrics(self) -> bool:
        """Whether anything is scored or imported; a study of a testbed alone has no table of metrics."""
        return bool((self.models and self.tasks) or self.imported)

    def has_page(self) -> bool:
        """Whether there is something to summarise and to show on a page: metrics, or a table of models."""
        return self.has_metrics() or "compute_trends" in self.config

    def identity(self, checkpoint: Checkpoint, task: str) -> Identity:
        """Return the identity of a cell: a flat dictionary of everything that determines its numbers."""
        dtype, asked = self.config["scoring"]["dtype"], self.tasks[task]
        generates = asked.kind.name == "generation"
        return {
            "weights": checkpoint.weights,
            "tokenizer": checkpoint.tokenizer,
            **({"generation": checkpoint.generation} if generates and checkpoint.generation else {}),
            "task": asked.identity,
            "dtype": checkpoint.dtype if dtype == "checkpoint" else dtype,
            **self._scoring_identity,
            **backend_identity(self.backend(task)),
        }

    def backend(self, task: str) -> str:
        """Return the back end that scores the cells of a task."""
        scoring = self.config["scoring"]
        generation: str = scoring["generation_backend"]
        own = self.tasks[task].kind.name != "generation" or generation == SAME
        return scoring["backend"] if own else generation

    def backends(self) -> dict[str, str]:
        """Return the back ends of the study, `scoring.backend` first, each with a task that it scores."""
        first, found = self.config["scoring"]["backend"], dict[str, str]()
        for task in self.tasks:
            found.setdefault(self.backend(task), task)
        return dict(sorted(found.items(), key=lambda entry: entry[0] != first))

    def expected(self, checkpoint: Checkpoint, tasks: Collection[str] | None = None) -> dict[str, Any]:
        """Return what rule `measure` must find: the checkpoint, and the identities of its cells by task.

        `tasks` are some tasks of the study; None: all.
        """
        return {
            "model": checkpoint.model,
            "checkpoint": checkpoint.name,
            "step": checkpoint.step,
            "tokens": checkpoint.tokens,
            "parameters_nominal": checkpoint.nominal,
            "cells": [
                {"task": name, "identity": self.identity(checkpoint, name), "measuring": task.measuring}
                for name, task in self.tasks.items()
                if tasks is None or name in tasks
            ],
        }

    def _own_models(self) -> list[Model]:
        """Return the models without those whose checkpoints are averages."""
        averaged = self.averaged()
        return [model for name, model in self.models.items() if name not in averaged]

    @cached_property
    def _scoring_identity(self) -> dict[str, Any]:
        """The part of the identity that all cells share."""
        scoring = self.config["scoring"]
        return {
            "recipe": SCORING_VERSION,
            "encoding": scoring["encoding"],
            "bos": scoring["bos"],
            "truncation": scoring["truncation"],
            "max_length": scoring["max_length"],
        }

    @cached_property
    def _by_name(self) -> dict[tuple[str, str], Checkpoint]:
        return {(c.model, c.name): c for c in self.checkpoints()}

    @cached_property
    def _expected_digests(self) -> dict[tuple[str, str], str]:
        """Digests of `expected` by model and name of the checkpoint, as far as they were asked for."""
        return {}


LEAST_CELLS = 5  # of a task, for a regression: more than its coefficients
_WORDS = {1: "a", 2: "two", 3: "three"}


def _tokens(model: Model) -> set[int]:
    """Return the known numbers of training tokens."""
    return {c.tokens for c in model.checkpoints} - {0}


def _trained(model: Model) -> int:
    """Return the number of checkpoints that statistics compare: the trained ones, or all if none is known."""
    trained = sum(c.step > 0 or c.tokens > 0 for c in model.checkpoints)
    return trained or len(model.checkpoints)
