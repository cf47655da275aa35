"""What a study asks of the hub: models of a published series, or of a repository that the study names.

Everything here is known from the catalogue and the config; which commits and files it is stands in the lock.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ebbtide.checkpoints.hub.fetched import place_for
from ebbtide.checkpoints.hub.lock import MAIN, Lock, Locked
from ebbtide.checkpoints.precision import dtype_of
from ebbtide.checkpoints.schedule import Schedule, pick
from ebbtide.errors import ConfigError, nearest
from ebbtide.files import digest
from ebbtide.grid import CHECKPOINTS, Checkpoint

PRETRAINING = "pretraining"  # the stage that every series has


@dataclass(frozen=True)
class Stage:
    """A part of training with its own branches."""

    name: str
    revisions: tuple[str, ...]  # patterns, see the schema of series
    steps: tuple[int, ...] | None = None  # by the catalogue; None if the hub's list is taken
    tokens_per_step: int | Mapping[int, int] | None = None
    tokens_before: int = 0
    unit: int = 1

    def step_of(self, revision: str) -> int | None:
        """The step that a branch or tag stands for, or None if it is none of this stage."""
        for pattern in self.revisions:
            text = re.escape(pattern).replace(r"\{step\}", r"(?P<step>\d+)").replace(r"\{any\}", r".*")
            if match := re.fullmatch(text, revision):
                return int(match["step"])
        return None

    def rank(self, revision: str) -> tuple[int, str]:
        """Order of preference among revisions of one step: earlier patterns first."""
        alone = (Stage(self.name, (pattern,)) for pattern in self.revisions)
        return next((i for i, stage in enumerate(alone) if stage.step_of(revision) is not None), 0), revision

    def tokens(self, step: int) -> int:
        """Training tokens seen at a step; 0 if they cannot be stated. Never read from a branch's label."""
        if isinstance(self.tokens_per_step, Mapping):
            return self.tokens_per_step.get(step, 0)
        if self.tokens_per_step is None:
            return 0
        return self.tokens_before + step * self.tokens_per_step

    def checkpoint(self, step: int) -> str:
        """Name of a checkpoint, a path component."""
        return f"step{step}" if self.name == PRETRAINING else f"{self.name}-step{step}"


@dataclass(frozen=True)
class Allowance:
    """A finding of the audit that is known to be harmless, and why."""

    finding: str
    models: tuple[str, ...]
    steps: frozenset[int] | None  # None is all
    reason: str

    def covers(self, finding: str, model: str, steps: Sequence[int]) -> bool:
        """Whether a finding about these steps of a model is allowed."""
        named = any(fnmatchcase(model, pattern) for pattern in self.models)
        return finding == self.finding and named and (self.steps is None or self.steps.issuperset(steps))


@dataclass(frozen=True)
class Defect:
    """A known defect of a series, and the thread that reports it."""

    note: str
    thread: str
    steps: frozenset[int] | None  # None is all, or unknown


@dataclass(frozen=True)
class HubModel:
    """A model on the hub, and what the study asks of it.

    Attributes
    ----------
    repo
        Repository; empty where every step has one of its own (`repos`).
    fixed
        The one revision of a model without steps.
    architecture
        Shapes in the words of `config.json`, as the catalogue states them; empty if it does not.
    where
        File and key of the row, for messages.
    source
        The series file; empty for a repository that the study names.
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
    architecture: Mapping[str, Any] | None = None
    gaps: frozenset[int] = frozenset()
    allowances: tuple[Allowance, ...] = ()
    defects: tuple[Defect, ...] = ()

    def steps(self, offered: Mapping[str, Sequence[int]]) -> list[tuple[Stage, list[int]]]:
        """The steps of each stage that the study asks for; `offered` is what the hub lists by stage.

        The catalogue's list decides where there is one, so that what is missing on the hub is noticed. Of
        steps that the study lists itself, each stage takes those that it has.
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
        """Every checkpoint that the study asks for, with what the lock says of it.

        Where neither catalogue nor lock knows the steps, nothing is yielded: see `is_listed`.
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
                if locked and not self.is_place(stage, step, locked.repo, locked.revision):
                    locked = None
                yield Wanted(name, stage, step, locked, offered=step in set(offered.get(stage.name, ())))

    def is_listed(self, lock: Lock) -> bool:
        """Whether the lock knows what the hub offers of this model, from these repositories."""
        model = lock.models.get(self.name)
        if model is None:
            return False
        if self.fixed is not None:
            main = model.checkpoints.get(MAIN)
            return main is not None and (main.repo, main.revision) == (self.repo, self.fixed)
        if any(not model.offered.get(stage.name) for stage in self.stages):
            return False
        return self.repos is not None or all(c.repo == self.repo for c in model.checkpoints.values())

    def is_place(self, stage: Stage, step: int, repo: str, revision: str) -> bool:
        """Whether a revision of a repository is where this step is looked for."""
        if self.repos is not None and stage.name == PRETRAINING:
            return (repo, revision) == (self.repos.get(step), MAIN)
        return repo == self.repo and stage.step_of(revision) == step


@dataclass(frozen=True)
class Wanted:
    """A checkpoint that a study asks for. `locked` is None if the hub lacks it, or the lock is too old."""

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
        marker=place_for(f"{CHECKPOINTS}/{model.name}/{wanted.name}/hub-{digest([weights, tokenizer])}"),
        size_bytes=locked.size(model.format),
        dtype=dtype_of(lock.config(locked)) or "unknown",
        peak_disk_bytes=locked.room(model.format, remote_code=model.remote_code),
        nominal=model.nominal,
    )


def series_models(
    series: Mapping[str, Any], names: list[str], row: Mapping[str, Any], file: str, where: str
) -> list[HubModel]:
    """The models `names` of a checked series of the hub, as a row of the config asks for them.

    Raises `ConfigError` for a stage, format or permission that does not fit the series.
    """
    return [_series_model(series, name, row, file, where) for name in names]


def repository_model(row: Mapping[str, Any], where: str) -> HubModel:
    """The model of a row with a `repo`."""
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
    )


def allowances(entries: Sequence[Mapping[str, Any]]) -> tuple[Allowance, ...]:
    """Checked entries of `allow:`, in a series or a study."""
    return tuple(
        Allowance(
            entry["finding"],
            tuple(entry["models"]),
            frozenset(entry["steps"]) if "steps" in entry else None,
            entry["reason"] + (f" ({entry['thread']})" if "thread" in entry else ""),
        )
        for entry in entries
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
            f"{where}.format: found {row['format']!r}, {name} offers {' and '.join(formats)} ({file}); "
            f"to take it, write format: {formats[0]}."
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
    """Numbers and ranges of a series file as a list of steps."""
    if entries is None:
        return None
    steps: set[int] = set()
    for entry in entries:
        if isinstance(entry, Mapping):
            steps.update(range(entry["from"], entry["to"] + 1, entry["every"]))
        else:
            steps.add(entry)
    return sorted(steps)
