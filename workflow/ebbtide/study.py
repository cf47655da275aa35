"""A study: the checked config, and its grid of model × checkpoint × task."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebbtide.baseline import baselines
from ebbtide.errors import ConfigError
from ebbtide.exchange.specification import check_row, source_of
from ebbtide.grid import Checkpoint, Model
from ebbtide.hub.audit import audit, dropped
from ebbtide.hub.catalogue import HubModel, allowances, checkpoint_of
from ebbtide.hub.findings import STOP, Finding
from ebbtide.hub.lock import Lock, lock_path, read_lock
from ebbtide.precision import DTYPES
from ebbtide.scaling.settings import check_scaling
from ebbtide.scoring.recipe import RECIPE_VERSION
from ebbtide.series import models_of
from ebbtide.sources import CHECKOUT, Source, mirrors
from ebbtide.store import Identity
from ebbtide.tasks import Task, load_task
from ebbtide.validation import check, load_schema, read_yaml, relative
from ebbtide.watching import check_watching


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

    def check_checkpoints(self) -> None:
        """Raise `ConfigError` for an incomplete lock, an audit that stops, or checkpoints that do not fit."""
        if self.unlocked:
            raise ConfigError(
                f"{self.lock_file} lacks {'; '.join(self.unlocked)}; run snakemake with the target lock, "
                "where there is a network."
            )
        stops = [f for f in self.findings if f.action == STOP]
        if stops:
            first = stops[0]
            steps = " ".join(map(str, first.steps[:5])) + (" …" if len(first.steps) > 5 else "")
            more = f"; and {len(stops) - 1} more" if len(stops) > 1 else ""
            raise ConfigError(
                f"{self.lock_file}: audit stops the study: {first.finding}, {first.model} step {steps}: "
                f"{first.detail}{more}. The target audit lists all; to go on, leave steps out, or set "
                f"audit.{first.finding}: drop or warn, or allow it with a reason under audit.allow."
            )
        if self.config["scoring"]["dtype"] == "checkpoint":
            _check_precision(self.models, self.file)
        if self.config["regression"]["parameters"] == "nominal":
            _check_nominal(self.models, self.file)
        self.baselines()

    def baselines(self) -> dict[str, Checkpoint]:
        """Model → the checkpoint that alarms compare with, if one is named. Raises `ConfigError`."""
        return baselines(self.models, self.config["alarms"]["baseline"], self.file)

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
            "parameters_nominal": checkpoint.nominal,
            "cells": [
                {"task": name, "identity": self.identity(checkpoint, name), "measuring": task.measuring}
                for name, task in self.tasks.items()
            ],
        }


def load_study(config: Mapping[str, Any], files: Sequence[str | Path], use: str | None = None) -> Study:
    """Check a config and resolve its grid.

    Parameters
    ----------
    config
        The merged configuration.
    files
        The files it came from; messages name the one that holds the key at fault.
    use
        `scored`, `imported` or `both`, over what the config says.

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
    _use(checked, use or checked["use"], place)
    check_watching(checked, place)
    _find_published(checked["regression"], place("regression"))
    imported = tuple(
        check_row(row, f"{place('imported')}: imported[{number}]")
        for number, row in enumerate(checked["imported"])
    )
    rows = _rows(checked["models"], place("models"))
    hub = tuple(row for row in rows.values() if isinstance(row, HubModel))
    lock_file = str(lock_path(list(raw)[-1])) if raw else ""
    lock = read_lock(lock_file) if hub else Lock()
    unlocked = tuple(_unlocked(hub, lock))
    locked = [model for model in hub if model.is_listed(lock)]
    findings = tuple(audit(locked, lock, checked["audit"], allowances(checked["audit"]["allow"])))
    out = dropped(findings)
    models = {n: _locked(row, lock, out) if isinstance(row, HubModel) else row for n, row in rows.items()}
    tasks = {} if unlocked else _tasks(checked["tasks"], place("tasks"))
    _check_worlds(models, tasks)
    if "scaling" in checked and not unlocked:
        check_scaling(checked["scaling"], models, tasks, f"{place('scaling')}: scaling")
    study = Study(
        checked["study"],
        checked,
        models,
        tasks,
        imported,
        hub,
        lock_file,
        findings,
        unlocked,
        place("scoring"),
    )
    if not hub:  # else after the audit: locking and auditing must be possible
        study.check_checkpoints()
    return study


def _use(checked: dict[str, Any], use: str, place: Callable[[str], str]) -> None:
    """Empty what `use` leaves out: models and tasks, or imported rows. Something must be left."""
    if use == "imported":
        checked |= {"models": [], "tasks": []}
        if not checked["imported"]:
            raise ConfigError(f"{place('imported')}: imported: found none with use: imported; give rows.")
        return
    if use == "scored":
        checked["imported"] = []
    for key in ("models", "tasks"):
        if not checked[key] and not checked["imported"] and "scaling" not in checked:
            other = "" if use == "scored" else ", or rows of imported, or scaling"
            raise ConfigError(f"{place(key)}: {key}: found none; allowed: at least one{other}.")


def _find_published(regression: dict[str, Any], file: str) -> None:
    """The path of the published values as a job finds it: from the working directory, or in the checkout."""
    if regression["published"] is None:
        return
    places = [base / regression["published"] for base in (Path.cwd(), CHECKOUT)]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        looked = " and ".join(str(place) for place in dict.fromkeys(places))
        raise ConfigError(f"{file}: regression.published: there is no such file (looked for {looked}).")
    regression["published"] = str(relative(found))


def _rows(rows: Sequence[Mapping[str, Any]], file: str) -> dict[str, Model | HubModel]:
    models: dict[str, Model | HubModel] = {}
    for number, row in enumerate(rows):
        where = f"{file}: models[{number}]"
        for model in models_of(row, where):
            if model.name in models:
                raise ConfigError(f"{where}: found a second model named {model.name!r}; names must differ.")
            models[model.name] = model
    return models


def _unlocked(hub: Sequence[HubModel], lock: Lock) -> Iterator[str]:
    """What the lock should hold and does not."""
    for model in hub:
        if not model.is_listed(lock):
            model.steps({})  # a step that the series does not have is said before anybody asks the hub
            yield model.name
            continue
        steps = [str(w.step) for w in model.wanted(lock) if w.locked is None and w.offered]
        if steps:
            yield f"{model.name} step {', '.join(steps[:5])}{' …' if len(steps) > 5 else ''}"


def _locked(model: HubModel, lock: Lock, out: set[tuple[str, str]]) -> Model:
    """The row of the grid: what is locked, can be loaded, and is not dropped."""
    checkpoints = [
        checkpoint_of(model, wanted, wanted.locked, lock)
        for wanted in (model.wanted(lock) if model.is_listed(lock) else ())
        if wanted.locked and (model.name, wanted.name) not in out
    ]
    return Model(model.name, tuple(checkpoints))


def _tasks(names: Sequence[str], file: str) -> dict[str, Task]:
    tasks: dict[str, Task] = {}
    for number, name in enumerate(names):
        task = load_task(name, f"{file}: tasks[{number}]")
        if task.name in tasks:
            raise ConfigError(f"{file}: tasks[{number}]: found a second task named {task.name!r}.")
        tasks[task.name] = task
    return tasks


def _check_worlds(models: Mapping[str, Model], tasks: Mapping[str, Task]) -> None:
    """A toy task must ask about the world, and hold out text of the mixture, that the ladder has read."""
    for model in models.values():
        corpus = (model.training or {}).get("corpus", {})
        for task in tasks.values():
            for key, asked in (("world", task.world), ("mixture", task.mixture)):
                if key in corpus and asked and dict(corpus[key]) != dict(asked):
                    raise ConfigError(
                        f"{task.file}: source.{key}: found {dict(asked)}; model {model.name} is trained on "
                        f"corpus.{key} {dict(corpus[key])}; the two must be equal."
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


def _check_nominal(models: Mapping[str, Model], file: str) -> None:
    """A regression on sizes by name needs a size for every model."""
    nameless = [name for name, model in models.items() if any(not c.nominal for c in model.checkpoints)]
    if nameless:
        raise ConfigError(
            f"{file}: regression.parameters: found 'nominal', but {', '.join(nameless[:5])} has no nominal "
            "size; allowed: non_embedding, total, active, or give the row one."
        )


def read_study(*files: str | Path, use: str | None = None) -> Study:
    """Load a study from its YAML files alone (outside Snakemake); later files have the last word."""
    config: dict[str, Any] = {}
    for file in files:
        config = _merged(config, read_yaml(file))
    return load_study(config, files, use)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`, key by key, as Snakemake merges several --configfile."""
    nested = {k: _merged(base[k], v) for k, v in over.items() if _both_are_mappings(base.get(k), v)}
    return {**base, **over, **nested}


def _both_are_mappings(one: Any, other: Any) -> bool:
    return isinstance(one, Mapping) and isinstance(other, Mapping)
