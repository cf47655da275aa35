"""Resolve the hub models of a study to commits and digests, and write the lock. Downloads no weights."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ebbtide.checkpoints.hub.catalogue import PRETRAINING, HubModel, Stage
from ebbtide.checkpoints.hub.contents import Contents
from ebbtide.checkpoints.hub.generation import GENERATION
from ebbtide.checkpoints.hub.lock import (
    CONFIG,
    GONE,
    INDICES,
    MAIN,
    SHARD,
    TOKENIZER,
    Lock,
    Locked,
    LockedFile,
    LockedModel,
    is_commit,
    read_lock,
    write_lock,
)
from ebbtide.errors import CheckpointError, nearest
from ebbtide.logs import Progress

if TYPE_CHECKING:
    from ebbtide.checkpoints.hub.client import Hub


def lock_study(
    models: Sequence[HubModel],
    hub: "Hub",
    path: str | Path,
    follow: Iterable[str] = (),
    studies: Sequence[str | Path] = ("FILE",),
) -> list[str]:
    """Update the lock at `path` with the checkpoints that `models` request; return messages for the user.

    Locked checkpoints are kept: a branch that has moved is reported, and followed only if `follow` names it
    as MODEL/CHECKPOINT. The lock is written after every model and when the hub fails, so the next call
    resumes. `studies` are the files of the study, for the commands in messages.

    Raises
    ------
    CheckpointError
        The hub does not answer, a repository does not exist or is gated, or a branch to follow is gone.
    ConfigError
        A requested step is not on the hub, for a series without its own list of steps.
    """
    file = _LockFile(Path(path))
    command = f"ebbtide lock --study {' '.join(map(str, studies))} --follow"
    resolver = _Resolver(hub, read_lock(path), frozenset(follow), command)
    try:
        for model in models:
            resolver.add(model)
            file.write(resolver.lock())
    except BaseException:
        file.write(resolver.lock())
        raise
    unused = set(follow) - resolver.followed
    if unused:
        first = sorted(unused)[0]
        raise CheckpointError(
            f"--follow: found {', '.join(sorted(unused))}; allowed: MODEL/CHECKPOINT of {path} that this "
            f"study requests{nearest(first, sorted(resolver.labels))}."
        )
    named = {model.name for model in models}
    whole = resolver.lock()
    file.write(whole.used({n: m for n, m in whole.models.items() if n in named}))
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

    def __init__(self, hub: "Hub", old: Lock, follow: frozenset[str], command: str) -> None:
        self._hub, self._follow, self._command = hub, follow, command
        self._models = dict(old.models)
        self._contents = Contents(hub, old)
        self._refs: dict[str, Mapping[str, str]] = {}
        self._progress = Progress()
        self.messages: list[str] = []
        self.followed: set[str] = set()
        self.labels: set[str] = set()  # MODEL/CHECKPOINT of all that is requested

    def lock(self) -> Lock:
        """The models resolved so far, with the contents of their small files."""
        known = self._contents
        return Lock({}, known.configs, known.indices, known.pointers).used(self._models)

    def add(self, model: HubModel) -> None:
        """Resolve one model."""
        old = self._models.get(model.name, LockedModel({}, {}))
        locations = {stage.name: self._locations(model, stage, old) for stage in model.stages}
        offered = {**old.offered, **{name: tuple(sorted(found)) for name, found in locations.items()}}
        targets = self._targets(model, locations, offered)
        kept = {n: c for n, c in old.checkpoints.items() if self._still_matches(model, n, c, targets)}
        self._models[model.name] = LockedModel(offered, kept)  # so that a failure below loses nothing
        if MAIN in old.checkpoints and MAIN not in targets:
            self.messages.append(f"{model.name}: {model.repo} has no branch main any more to compare with.")
        for name, (step, repo, revision) in targets.items():
            known, label = kept.get(name), f"{model.name}/{name}"
            self.labels.add(label)
            if known is None or label in self._follow or self._main_has_moved(model, name, known):
                self.followed.add(label)
                if known is not None:
                    self._check_following(label, known, revision)
                kept[name] = self._resolve(repo, revision, step)
                self._progress.show(f"{model.name}: {len(kept)} of {len(targets)} revisions resolved")
            else:
                kept[name] = self._recheck(known, label, revision)
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
        return name == MAIN and model.fixed is None and known.commit != self._now(known.repo, known.revision)

    def _check_following(self, label: str, known: Locked, revision: str) -> None:
        """Raise `CheckpointError` if the branch or tag to follow is gone."""
        if self._now(known.repo, revision) is None:
            raise CheckpointError(
                f"--follow: found {label}, but {known.repo} no longer has the branch or tag {revision!r}, so "
                f"there is no other commit to take; the lock keeps {known.commit[:12]}. Lock without "
                f"--follow {label}, or leave this step out."
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
            if name := self._hub.renamed(repo):
                self.messages.append(
                    f"{repo} is now called {name}; the old name works while the hub redirects it. "
                    f"Write {name} in the study or series to be independent of that."
                )
        return self._refs[repo]

    def _now(self, repo: str, revision: str) -> str | None:
        """The commit of a branch, tag or commit at present; None for a branch or tag that does not exist."""
        commit = self._refs_of(repo).get(revision)
        return revision if commit is None and is_commit(revision) else commit

    def _commit(self, repo: str, revision: str) -> str:
        commit = self._now(repo, revision)
        if commit is None:
            raise CheckpointError(
                f"{repo} has no branch or tag {revision!r}; check the repository's list of revisions"
                f"{nearest(revision, list(self._refs_of(repo)))}."
            )
        return commit

    def _resolve(self, repo: str, revision: str, step: int | None) -> Locked:
        commit = self._commit(repo, revision)
        listed = [f for f in self._hub.files(repo, commit) if _matters(f.name)]
        locked = Locked(
            repo, revision, commit, step, {f.name: LockedFile(f.digest, f.size, f.date) for f in listed}
        )
        self._contents.add(locked)
        return locked

    def _recheck(self, known: Locked, label: str, revision: str) -> Locked:
        """The checkpoint as locked, with `moved` set to the commit to which its revision points now.

        `revision` is the one that the study requests now.
        """
        now = self._now(known.repo, known.revision)
        if now == known.commit:
            self._contents.add(known)  # a lock of an earlier version may lack some
            return replace(known, moved=None)
        there = self._hub.has(known.repo, known.commit)
        if there:
            self._contents.add(known)
        if now is not None:
            same = self._resolve(known.repo, known.revision, known.step).files == known.files
            what = f"moved from {known.commit[:12]} to {now[:12]}" + (", with the same files" if same else "")
            keeps = "the old commit" + ("" if there else ", which the hub no longer has")
            remedy = f"To follow: {self._command} {label}"
        else:
            what = "is no longer on the hub"
            keeps = f"commit {known.commit[:12]}, which the hub {'still has' if there else 'no longer has'}"
            if self._now(known.repo, revision) is not None:
                remedy = f"To use {revision} instead: {self._command} {label}"
            elif there:
                remedy = "Nothing needs to be done while it does."
            else:
                remedy = "Only weights and cells on disk can be used; to fetch nothing, leave this step out."
        self.messages.append(
            f"{label.replace('/', ' ', 1)}: {known.revision} {what}; the lock keeps {keeps}. {remedy}"
        )
        return replace(known, moved=now or GONE)


def _stage_rank(model: HubModel, checkpoint: str) -> int:
    """Index of a checkpoint's stage in the order of training."""
    for rank, stage in enumerate(model.stages):
        if stage.name != PRETRAINING and checkpoint.startswith(f"{stage.name}-"):
            return rank
    return 0


def _matters(name: str) -> bool:
    """Whether a file is weights, their index, tokenizer, configuration, for generation, or code."""
    known = {CONFIG, *INDICES.values(), *TOKENIZER, *GENERATION}
    return name in known or SHARD.fullmatch(name) is not None or name.endswith(".py")
