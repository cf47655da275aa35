"""The hub models that a study requests: from a published series, or from a repository named in the study.

This module reads only the catalogue and the config. The lock contains the commits and files.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ebbtide.checkpoints.findings import Allowance, allowances
from ebbtide.checkpoints.hub.lock import MAIN, Lock, Locked
from ebbtide.checkpoints.precision import dtype_of
from ebbtide.checkpoints.schedule import Schedule, pick
from ebbtide.errors import ConfigError, nearest
from ebbtide.files import digest
from ebbtide.grid import CHECKPOINTS, Checkpoint

PRETRAINING = "pretraining"  # the stage that every series has


@dataclass(frozen=True)
class Stage:
    """A stage of training with its own branches."""

    name: str
    revisions: tuple[str, ...]  # patterns; see the schema of series files
    steps: tuple[int, ...] | None = None  # from the catalogue; None: those that the hub lists
    tokens_per_step: int | Mapping[int, int] | None = None
    tokens_before: int = 0
    unit: int = 1

    def step_of(self, revision: str) -> int | None:
        """The step of a branch or tag; None if it does not belong to this stage."""
        for pattern in self.revisions:
            text = (
                re.escape(pattern).replace(r"\{step\}", r"(?P<step>[0-9]{1,18})").replace(r"\{any\}", r".*")
            )
            if match := re.fullmatch(text, revision):
                return int(match["step"])
        return None

    def rank(self, revision: str) -> tuple[int, str]:
        """Order of preference among revisions of one step: earlier patterns first."""
        alone = (Stage(self.name, (pattern,)) for pattern in self.revisions)
        return next((i for i, stage in enumerate(alone) if stage.step_of(revision) is not None), 0), revision

    def tokens(self, step: int) -> int:
        """Training tokens seen at a step; 0 if unknown. They are never parsed from the name of a branch."""
        if isinstance(self.tokens_per_step, Mapping):
            return self.tokens_per_step.get(step, 0)
        if self.tokens_per_step is None:
            return 0
        return self.tokens_before + step * self.tokens_per_step

    def checkpoint(self, step: int) -> str:
        """Name of a checkpoint; a path component."""
        return f"step{step}" if self.name == PRETRAINING else f"{self.name}-step{step}"


@dataclass(frozen=True)
class Defect:
    """A known defect of a series, and the thread that reports it."""

    note: str
    thread: str
    steps: frozenset[int] | None  # None is all, or unknown


@dataclass(frozen=True)
class HubModel:
    """A model on the hub and its settings in the study.

    Attributes
    ----------
    repo
        Repository; empty if every step has its own (`repos`).
    fixed
        The only revision of a model without steps.
    architecture
        Shapes under the keys of `config.json`, from the catalogue; None if it has none.
    where
        File and key of the row, for messages.
    source
        The series file; empty for a repository named in the study.
    """

    name: str
    repo: str
    stages: tuple[Stage, ...]
    schedule: Schedule
    format: str
    where: str
    source: str = ""
    repos: Mapping[int, str] | None = None
    fixed: str | None = None
    remote_code: bool = False
    needs_code: bool = False
    nominal: int = 0
    arm: str = ""
    seed: int | None = None
    architecture: Mapping[str, Any] | None = None
    gaps: frozenset[int] = frozenset()
    allowances: tuple[Allowance, ...] = ()
    defects: tuple[Defect, ...] = ()

    def steps(self, offered: Mapping[str, Sequence[int]]) -> list[tuple[Stage, list[int]]]:
        """The requested steps of each stage; `offered` are the steps that the hub lists, by stage.

        If the catalogue lists the steps, its list is used, so that steps missing on the hub are noticed. Of
        steps listed in the study, each stage uses those that it has.
        """
        known = {s.name: s.steps if s.steps is not None else offered.get(s.name, ()) for s in self.stages}
        if self.fixed is not None or not all(known.values()):  # not listed yet
            return [(stage, []) for stage in self.stages]
        if isinstance(self.schedule, str | Mapping):
            return [(s, self._pick(self.schedule, known[s.name], s)) for s in self.stages]
        everywhere = sorted({step for steps in known.values() for step in steps})
        listed = self._pick(self.schedule, everywhere, self.stages[0])
        return [(s, [step for step in listed if step in set(known[s.name])]) for s in self.stages]

    def _pick(self, schedule: Schedule, known: Sequence[int], stage: Stage) -> list[int]:
        source = self.source if stage.steps is not None else f"{self.repo} on the hub"
        return pick(schedule, known, f"{self.where}.steps", source, unit=stage.unit)

    def wanted(self, lock: Lock) -> "Iterator[Wanted]":
        """Yield every requested checkpoint with its entry in the lock.

        Yields nothing if neither the catalogue nor the lock lists the steps; see `is_listed`.
        """
        model = lock.models.get(self.name)
        found = model.checkpoints if model else {}
        if self.fixed is not None:
            yield Wanted(MAIN, self.stages[0], 0, found.get(MAIN), offered=True)
            return
        offered = model.offered if model else {}
        for stage, steps in self.steps(offered):
            for step in steps:
                name = stage.checkpoint(step)
                locked = found.get(name)
                if locked and not self.holds_step(stage, step, locked.repo, locked.revision):
                    locked = None
                yield Wanted(name, stage, step, locked, offered=step in set(offered.get(stage.name, ())))

    def is_listed(self, lock: Lock) -> bool:
        """Whether the lock lists the steps of this model on the hub, from the same repositories."""
        model = lock.models.get(self.name)
        if model is None:
            return False
        if self.fixed is not None:
            main = model.checkpoints.get(MAIN)
            return main is not None and (main.repo, main.revision) == (self.repo, self.fixed)
        if any(not model.offered.get(stage.name) for stage in self.stages):
            return False
        return self.repos is not None or all(c.repo == self.repo for c in model.checkpoints.values())

    def holds_step(self, stage: Stage, step: int, repo: str, revision: str) -> bool:
        """Whether a revision of a repository contains this step."""
        if self.repos is not None and stage.name == PRETRAINING:
            return (repo, revision) == (self.repos.get(step), MAIN)
        return repo == self.repo and stage.step_of(revision) == step


@dataclass(frozen=True)
class Wanted:
    """A requested checkpoint. `locked` is None if it is not on the hub or the lock is too old."""

    name: str
    stage: Stage
    step: int
    locked: Locked | None
    offered: bool


def checkpoint_of(model: HubModel, wanted: Wanted, locked: Locked, lock: Lock) -> Checkpoint:
    """The row of the grid for a locked checkpoint."""
    weights = locked.weights_identity(model.format, remote_code=model.remote_code)
    tokenizer = locked.tokenizer_identity()
    return Checkpoint(
        model=model.name,
        name=wanted.name,
        step=wanted.step,
        tokens=wanted.stage.tokens(wanted.step),
        weights=weights,
        tokenizer=tokenizer,
        marker=f"{CHECKPOINTS}/{model.name}/{wanted.name}/hub-{digest([weights, tokenizer])}",
        size_bytes=locked.size(model.format),
        dtype=dtype_of(lock.config(locked)) or "unknown",
        peak_disk_bytes=locked.peak_disk_bytes(model.format, remote_code=model.remote_code),
        nominal=model.nominal,
        generation=locked.generation_identity(),
    )


def series_models(
    series: Mapping[str, Any], names: list[str], row: Mapping[str, Any], file: str, where: str
) -> list[HubModel]:
    """Return the models `names` of a checked hub series with the settings of a row of `models:`.

    Raises `ConfigError` for a stage or format that the series does not have.
    """
    return [_series_model(series, name, row, file, where) for name in names]


def repository_model(row: Mapping[str, Any], where: str) -> HubModel:
    """Return the model of a row with a `repo`. Raises `ConfigError` for an invalid `revision`."""
    pattern = row["revision"]
    if pattern.count("{step}") > 1:
        raise ConfigError(f"{where}.revision: found {pattern!r}; allowed: {{step}} once.")
    if "{step}" not in pattern and row.get("steps") is not None:
        raise ConfigError(f"{where}.revision: found {pattern!r} with steps; it must contain {{step}}.")
    stage = Stage(PRETRAINING, (pattern,), tokens_per_step=row["tokens_per_step"] or None, unit=row["unit"])
    return HubModel(
        name=row["name"],
        repo=row["repo"],
        stages=(stage,),
        schedule=row.get("steps") or "all",
        format=row["format"],
        where=where,
        fixed=None if "{step}" in pattern else pattern,
        remote_code=row["remote_code"],
        nominal=row["nominal"],
        arm=row.get("arm", ""),
        seed=row.get("seed"),
    )


def _series_model(
    series: Mapping[str, Any], name: str, row: Mapping[str, Any], file: str, where: str
) -> HubModel:
    own = series["models"][name]

    def fact(key: str, default: Any = None) -> Any:
        return own.get(key, series.get(key, default))

    formats = fact("formats")
    if row["format"] not in formats:
        raise ConfigError(
            f"{where}.format: found {row['format']!r}; {name} has only {' and '.join(formats)} ({file}). "
            f"Set format: {formats[0]}."
        )
    return HubModel(
        name=name,
        repo=own.get("repo", ""),
        stages=tuple(_stages(fact, own, row, name, f"{where}.stages")),
        schedule=row["steps"],
        format=row["format"],
        where=where,
        source=file,
        repos=own.get("repos"),
        remote_code=row["remote_code"],
        needs_code=series["remote_code"],
        nominal=own["nominal"],
        arm=row.get("arm", own.get("arm", own.get("data", ""))),
        seed=own.get("seed"),
        architecture=own.get("architecture"),
        gaps=frozenset(own["gaps"]),
        allowances=allowances(series["allow"]),
        defects=tuple(
            Defect(d["note"], d["thread"], frozenset(d["steps"]) if "steps" in d else None)
            for d in series["defects"]
            if any(fnmatchcase(name, pattern) for pattern in d["models"])
        ),
    )


def _stages(
    fact: Any, own: Mapping[str, Any], row: Mapping[str, Any], name: str, where: str
) -> Iterator[Stage]:
    later = {**fact("stages", {}), **own.get("stages", {})}
    for stage in row["stages"]:
        if stage == PRETRAINING:
            steps = sorted(own["repos"]) if "repos" in own else _steps(fact("steps"))
            revisions = tuple(fact("revisions", ()))
            yield Stage(
                stage,
                revisions,
                None if steps is None else tuple(steps),
                fact("tokens_per_step"),
                own["tokens_before"],
                unit=fact("unit", 1),
            )
        elif stage in later:
            entry = later[stage]
            steps = _steps(entry.get("steps"))
            yield Stage(
                stage,
                tuple(entry["revisions"]),
                None if steps is None else tuple(steps),
                entry.get("tokens_per_step", fact("tokens_per_step")),
                entry["tokens_before"],
                entry.get("unit", fact("unit", 1)),
            )
        else:
            allowed = [PRETRAINING, *later]
            raise ConfigError(
                f"{where}: found {stage!r}; {name} has {', '.join(allowed)}{nearest(stage, allowed) or '.'}"
            )


def _steps(entries: Sequence[int | Mapping[str, int]] | None) -> list[int] | None:
    """Expand the numbers and ranges of a series file into a sorted list of steps."""
    if entries is None:
        return None
    steps: set[int] = set()
    for entry in entries:
        if isinstance(entry, Mapping):
            steps.update(range(entry["from"], entry["to"] + 1, entry["every"]))
        else:
            steps.add(entry)
    return sorted(steps)
