"""A study: the checked config, and its grid of model × checkpoint × task."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebbtide.errors import ConfigError
from ebbtide.precision import DTYPES
from ebbtide.scoring.recipe import RECIPE_VERSION
from ebbtide.series import Checkpoint, Model, from_series, on_disk
from ebbtide.sources import mirrors
from ebbtide.store import Identity
from ebbtide.tasks import Task, load_task
from ebbtide.validation import check, load_schema, read_yaml, relative


@dataclass(frozen=True)
class Study:
    """The grid and its settings; everything in it is known before anything runs."""

    name: str
    config: Mapping[str, Any]
    models: Mapping[str, Model]
    tasks: Mapping[str, Task]

    def checkpoint(self, model: str, name: str) -> Checkpoint:
        """The checkpoint of these names. Raises `KeyError` for names outside the grid."""
        return next(c for c in self.models[model].checkpoints if c.name == name)

    def checkpoints(self) -> Iterator[Checkpoint]:
        """All checkpoints, in the order of the config and of training."""
        for model in self.models.values():
            yield from model.checkpoints

    def identity(self, checkpoint: Checkpoint, task: str) -> Identity:
        """Identity of a cell: what determines its numbers, as a flat dictionary."""
        scoring = self.config["scoring"]
        own = scoring["dtype"] == "checkpoint"
        return {
            "weights": checkpoint.weights,
            "tokenizer": checkpoint.tokenizer,
            "task": self.tasks[task].identity,
            "recipe": RECIPE_VERSION,
            "dtype": checkpoint.dtype if own else scoring["dtype"],
            "encoding": scoring["encoding"],
            "bos": scoring["bos"],
            "truncation": scoring["truncation"],
            "max_length": scoring["max_length"],
        }

    def expected(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """What `measure` must find: the place in training, and identities in the order of the tasks."""
        return {
            "model": checkpoint.model,
            "checkpoint": checkpoint.name,
            "step": checkpoint.step,
            "tokens": checkpoint.tokens,
            "cells": [{"task": task, "identity": self.identity(checkpoint, task)} for task in self.tasks],
        }


def load_study(config: Mapping[str, Any], files: Sequence[str | Path]) -> Study:
    """Check a config and resolve its grid.

    Parameters
    ----------
    config
        The merged configuration.
    files
        The files it came from; messages name the one that holds the key at fault.

    Raises
    ------
    ConfigError
        One sentence: file, key, found, allowed.
    """
    raw = {str(relative(file)): read_yaml(file) for file in files}

    def place(key: str) -> str:
        """The file that has the last word on a top-level key; the command line if no file says so."""
        holders = [file for file, content in raw.items() if key in content]
        if holders and raw[holders[-1]][key] == config.get(key):
            return holders[-1]
        return "--config" if key in config or not raw else list(raw)[-1]

    checked = check(config, load_schema("config"), place)
    checked["recompute"] = checked["recompute"] in (True, "true")  # `--config recompute=true` gives text
    checked["scoring"]["store"] = str(Path(checked["scoring"]["store"]).expanduser())

    mirrors(checked["mirrors"])
    models = _models(checked["models"], place("models"))
    tasks = _tasks(checked["tasks"], place("tasks"))
    _check_worlds(models, tasks)
    if checked["scoring"]["dtype"] == "checkpoint":
        _check_precision(models, place("scoring"))
    return Study(checked["study"], checked, models, tasks)


def _models(rows: Sequence[Mapping[str, Any]], file: str) -> dict[str, Model]:
    models: dict[str, Model] = {}
    for number, row in enumerate(rows):
        where = f"{file}: models[{number}]"
        for model in from_series(row, where) if "series" in row else [on_disk(row, where)]:
            if model.name in models:
                raise ConfigError(f"{where}: found a second model named {model.name!r}; names must differ.")
            models[model.name] = model
    return models


def _tasks(names: Sequence[str], file: str) -> dict[str, Task]:
    tasks: dict[str, Task] = {}
    for number, name in enumerate(names):
        task = load_task(name, f"{file}: tasks[{number}]")
        if task.name in tasks:
            raise ConfigError(f"{file}: tasks[{number}]: found a second task named {task.name!r}.")
        tasks[task.name] = task
    return tasks


def _check_worlds(models: Mapping[str, Model], tasks: Mapping[str, Task]) -> None:
    """A toy task must ask about the world that the ladder has read about."""
    for model in models.values():
        for task in tasks.values():
            if model.world and task.world and dict(model.world) != dict(task.world):
                raise ConfigError(
                    f"{task.file}: source.world: found {dict(task.world)}; model {model.name} is trained on "
                    f"corpus.world {dict(model.world)}; the two must be equal."
                )


def _check_precision(models: Mapping[str, Model], file: str) -> None:
    """A checkpoint can be scored in its own precision if that is one of those to score in."""
    for model in models.values():
        for checkpoint in model.checkpoints:
            if checkpoint.dtype not in DTYPES:
                raise ConfigError(
                    f"{file}: scoring.dtype: found 'checkpoint', but {model.name}/{checkpoint.name} has the "
                    f"precision {checkpoint.dtype!r}; name one to score in: {', '.join(DTYPES)}."
                )


def read_study(file: str | Path) -> Study:
    """Load a study from its YAML file alone (outside Snakemake)."""
    return load_study(read_yaml(file), [file])
