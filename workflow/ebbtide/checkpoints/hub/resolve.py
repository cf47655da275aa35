"""Resolve the hub models of a study to commits and digests, and write the lock. Downloads no weights."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.checkpoints.hub.catalogue import PRETRAINING, HubModel, Stage
from ebbtide.checkpoints.hub.lock import (
    CONFIG,
    INDICES,
    MAIN,
    SHARD,
    TOKENIZER,
    Lock,
    Locked,
    LockedFile,
    LockedModel,
    read_lock,
    write_lock,
)
from ebbtide.errors import CheckpointError
from ebbtide.logs import Progress

if TYPE_CHECKING:
    from ebbtide.checkpoints.hub.client import Hub

GONE = "gone"  # marks a revision that existed when it was locked


def lock_study(
    models: Sequence[HubModel], hub: "Hub", path: str | Path, follow: Iterable[str] = ()
) -> list[str]:
    """Update the lock at `path` with the checkpoints that `models` request; return messages for the user.

    Locked checkpoints are kept: a branch that has moved is reported, and followed only if `follow` names it
    as MODEL/CHECKPOINT. The lock is written after every model and when the hub fails, so the next call
    resumes.

    Raises
    ------
    CheckpointError
        The hub does not answer, or a repository does not exist or is gated.
    ConfigError
        A requested step is not on the hub, for a series without its own list of steps.
    """
    file = _LockFile(Path(path))
    resolver = _Resolver(hub, read_lock(path), frozenset(follow))
    try:
        for model in models:
            resolver.add(model)
            file.write(resolver.lock())
    except BaseException:
        file.write(resolver.lock())
        raise
    unused = set(follow) - resolver.followed
    if unused:
        raise CheckpointError(
            f"--follow: found {', '.join(sorted(unused))}; allowed: MODEL/CHECKPOINT of {path} that this "
            "study requests."
        )
    named = {model.name for model in models}
    whole = resolver.lock()
    file.write(Lock({n: m for n, m in whole.models.items() if n in named}, whole.configs))
    return resolver.messages


class _LockFile:
    """The lock on disk. Changes by other processes are never overwritten."""

    def __init__(self, path: Path) -> None:
        self._path, self._known = path, self._bytes(path)

    def write(self, lock: Lock) -> None:
        """Write the lock if it has changed. Raises `CheckpointError` if another process changed the file."""
        if self._bytes(self._path) != self._known:
            raise CheckpointError(
                f"{self._path} was changed by another process and is left as it is; lock again."
            )
        if lock.models and lock != read_lock(self._path):
            write_lock(lock, self._path)
            self._known = self._bytes(self._path)

    @staticmethod
    def _bytes(path: Path) -> bytes | None:
        return path.read_bytes() if path.exists() else None


class _Resolver:
    """Builds the new lock, model by model."""

    def __init__(self, hub: "Hub", old: Lock, follow: frozenset[str]) -> None:
        self._hub, self._follow = hub, follow
        self._models = dict(old.models)
        self._configs = dict(old.configs)
        self._refs: dict[str, Mapping[str, str]] = {}
        self._progress = Progress()
        self.messages: list[str] = []
        self.followed: set[str] = set()

    def lock(self) -> Lock:
        """The models resolved so far, with the configurations that they refer to."""
        used = {
            c.files[CONFIG].digest
            for model in self._models.values()
            for c in model.checkpoints.values()
            if CONFIG in c.files
        }
        return Lock(self._models, {key: config for key, config in self._configs.items() if key in used})

    def add(self, model: HubModel) -> None:
        """Resolve one model."""
        old = self._models.get(model.name, LockedModel({}, {}))
        locations = {stage.name: self._locations(model, stage, old) for stage in model.stages}
        offered = {**old.offered, **{name: tuple(sorted(found)) for name, found in locations.items()}}
        targets = self._targets(model, locations, offered)
        kept = {n: c for n, c in old.checkpoints.items() if self._still_matches(model, n, c, targets)}
        self._models[model.name] = LockedModel(offered, kept)  # so that a failure below loses nothing
        for name, (step, repo, revision) in targets.items():
            known, label = kept.get(name), f"{model.name}/{name}"
            if known is None or label in self._follow or self._main_has_moved(model, name, known):
                self.followed.add(label)
                kept[name] = self._resolve(repo, revision, step)
                self._progress.show(f"{model.name}: {len(kept)} of {len(targets)} revisions resolved")
            else:
                kept[name] = self._recheck(known, model.name, name)
        ordered = sorted(kept, key=lambda name: (_stage_rank(model, name), kept[name].step or -1, name))
        self._models[model.name] = LockedModel(offered, {name: kept[name] for name in ordered})
        self._progress.done(f"{model.name}: {len(ordered)} revisions locked")

    def _targets(
        self,
        model: HubModel,
        locations: Mapping[str, Mapping[int, tuple[str, str]]],
        offered: Mapping[str, Sequence[int]],
    ) -> dict[str, tuple[int | None, str, str]]:
        """Map the requested checkpoints, `main` and the last step to (step, repository, revision)."""
        if model.fixed is not None:
            return {MAIN: (None, model.repo, model.fixed)}
        targets: dict[str, tuple[int | None, str, str]] = {}
        if model.repo and MAIN in self._refs_of(model.repo):
            targets[MAIN] = (None, model.repo, MAIN)
        for stage in model.stages:
            found = locations[stage.name]
            if not found and stage.steps is None:
                patterns = " or ".join(map(repr, stage.revisions))
                raise CheckpointError(
                    f"{model.where}: no branch or tag of {model.repo} matches {patterns}; "
                    "check the repository's list of revisions."
                )
        for stage, steps in model.steps(offered):
            found = locations[stage.name]
            for step in sorted({*steps, *offered[stage.name][-1:]}):
                if step in found:
                    targets[stage.checkpoint(step)] = (step, *found[step])
        return targets

    def _still_matches(
        self, model: HubModel, name: str, locked: Locked, targets: Mapping[str, tuple[int | None, str, str]]
    ) -> bool:
        """Whether a locked checkpoint is still the one that the study requests under this name."""
        if name == MAIN:
            return targets.get(MAIN, ())[1:] == (locked.repo, locked.revision)
        step = locked.step or 0
        stages = [stage for stage in model.stages if stage.checkpoint(step) == name]
        if any(model.holds_step(stage, step, locked.repo, locked.revision) for stage in stages):
            return True
        if name in targets:
            self.messages.append(
                f"{model.name} {name}: was {locked.revision} of {locked.repo}, but the study now requests "
                f"{targets[name][2]} of {targets[name][1]}; it is locked again."
            )
        return False

    def _main_has_moved(self, model: HubModel, name: str, known: Locked) -> bool:
        """Whether `main` of a model with steps has moved. It is only compared, so it is updated."""
        return (
            name == MAIN and model.fixed is None and known.commit != self._commit(known.repo, known.revision)
        )

    def _locations(self, model: HubModel, stage: Stage, old: LockedModel) -> dict[int, tuple[str, str]]:
        """Map each step of a stage that is, or was when locked, on the hub to (repository, revision)."""
        if model.fixed is not None:
            return {}
        if model.repos and stage.name == PRETRAINING:
            return {step: (repo, MAIN) for step, repo in model.repos.items()}
        found: dict[int, list[str]] = {}
        for revision in self._refs_of(model.repo):
            step = stage.step_of(revision)
            if step is not None:
                found.setdefault(step, []).append(revision)
        for step, revisions in found.items():
            if len(revisions) > 1:
                revisions.sort(key=stage.rank)
                taken, *others = revisions
                self.messages.append(
                    f"{model.name} step {step}: {taken} is used instead of {', '.join(others)}, "
                    "because they name the same step."
                )
        locations = {step: (model.repo, revisions[0]) for step, revisions in found.items()}
        for step in old.offered.get(stage.name, ()):
            known = old.checkpoints.get(stage.checkpoint(step))
            if known is not None and model.holds_step(stage, step, known.repo, known.revision):
                locations.setdefault(step, (known.repo, known.revision))
        return locations

    def _refs_of(self, repo: str) -> Mapping[str, str]:
        if repo not in self._refs:
            self._refs[repo] = self._hub.refs(repo)
        return self._refs[repo]

    def _commit(self, repo: str, revision: str) -> str:
        if revision not in self._refs_of(repo):
            raise CheckpointError(
                f"{repo} has no branch or tag {revision!r}; check the repository's list of revisions."
            )
        return self._refs_of(repo)[revision]

    def _resolve(self, repo: str, revision: str, step: int | None) -> Locked:
        commit = self._commit(repo, revision)
        listed = [f for f in self._hub.files(repo, commit) if _matters(f.name)]
        files = {f.name: LockedFile(f.digest, f.size, f.date) for f in listed}
        if CONFIG in files and files[CONFIG].digest not in self._configs:
            self._configs[files[CONFIG].digest] = self._config(repo, commit, files[CONFIG])
        return Locked(repo, revision, commit, step, files)

    def _config(self, repo: str, commit: str, file: LockedFile) -> Mapping[str, Any]:
        try:
            config = json.loads(self._hub.read(repo, commit, CONFIG, file))
        except ValueError:
            config = None
        if not isinstance(config, dict):
            raise CheckpointError(f"{repo} at {commit}: {CONFIG} is not the configuration of a model.")
        return config

    def _recheck(self, known: Locked, model: str, name: str) -> Locked:
        """The checkpoint as locked, with `moved` set to the commit to which its revision points now."""
        now = self._refs_of(known.repo).get(known.revision, GONE)
        if now == known.commit:
            return replace(known, moved=None)
        if now == GONE:
            what = "is no longer on the hub"
        else:
            same = self._resolve(known.repo, known.revision, known.step).files == known.files
            what = f"moved from {known.commit[:12]} to {now[:12]}" + (", with the same files" if same else "")
        self.messages.append(
            f"{model} {name}: {known.revision} {what}; the lock keeps the old commit. "
            f"To follow: python -m ebbtide lock --study FILE --follow {model}/{name}"
        )
        return replace(known, moved=now)


def _stage_rank(model: HubModel, checkpoint: str) -> int:
    """Index of a checkpoint's stage in the order of training."""
    for rank, stage in enumerate(model.stages):
        if stage.name != PRETRAINING and checkpoint.startswith(f"{stage.name}-"):
            return rank
    return 0


def _matters(name: str) -> bool:
    """Whether a file is weights, their index, tokenizer, configuration or code."""
    known = {CONFIG, *INDICES.values(), *TOKENIZER}
    return name in known or SHARD.fullmatch(name) is not None or name.endswith(".py")
