"""What a pass leaves out of the study: checkpoints that are not whole, or that are refused."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebbtide.errors import ConfigError
from ebbtide.files import digest, write_text
from ebbtide.grid import Checkpoint
from ebbtide.jobs.leads import deleted_weights, missing
from ebbtide.notices import counted, listed
from ebbtide.study.checks import check_checkpoints
from ebbtide.study.load import read_study
from ebbtide.study.study import Study
from ebbtide.watch.directories import Found, find_checkpoints
from ebbtide.watch.state import State

Place = tuple[str, str]  # model, checkpoint
NOT_WHOLE = "it is not whole yet"


@dataclass(frozen=True)
class Plan:
    """A study without what is left out.

    Attributes
    ----------
    files
        The configuration files that Snakemake gets: the overlay with `watch.only` and `watch.left_out`, then
        those of the study. Later files override earlier ones, and the lock of a study is beside the last.
    on_disk
        What was found of each model on disk.
    refused
        Checkpoints that are whole but cannot be used, with the reason.
    """

    study: Study
    files: tuple[str, ...]
    on_disk: Mapping[str, Found]
    refused: Mapping[Place, str]

    def without(self, failed: Mapping[Place, str]) -> "Plan":
        """Return the plan that also leaves out these checkpoints. Raises `ConfigError`."""
        refused = {**self.refused, **failed}
        return Plan(_load(self.files, self.on_disk, refused), self.files, self.on_disk, refused)


def plan_of(files: Sequence[str], settings: Mapping[str, Any], state: State) -> Plan:
    """Look at the checkpoints of a study and decide which of them a pass takes in.

    If the audit stops the study, the new checkpoints on disk (those without cells) that it stops for are
    refused. So are those that have failed as often as `watch.attempts` allows, and have not changed since.
    They are tried again once in `watch.patience_hours`: the cause may have been a machine or a full disk.
    Checkpoints whose weights were deleted before all their cells were made are refused until they are back.

    Raises `ConfigError` for a study that cannot be used even without them.
    """
    both = (overlay_path(settings["study"]), *files)
    on_disk = find_checkpoints(settings, files[-1])
    try:
        study, refused = _load(both, on_disk, {}), dict[Place, str]()
    except ConfigError as error:
        study, refused = _without_new(both, on_disk, error)
    if more := {**dict(_failed(study, state, settings["watch"])), **dict(_deleted(study))}:
        refused |= more
        study = _load(both, on_disk, refused)
    return Plan(study, both, on_disk, refused)


def key_of(study: Study, checkpoint: Checkpoint) -> str:
    """Return a digest of what the cells of a checkpoint must be: it changes with its files and the tasks."""
    return digest(study.expected(checkpoint))


def overlay_path(study: str) -> str:
    """Path of the configuration file with `watch.only` and `watch.left_out`."""
    return f"results/{study}/.watch.yaml"


def _load(files: Sequence[str], on_disk: Mapping[str, Found], refused: Mapping[Place, str]) -> Study:
    """Write the overlay and read the study. Raises `ConfigError`, also for what stops it before scoring."""
    # Reasons to wait change from pass to pass, which would make the audit and the report again.
    left_out = {model: dict.fromkeys(found.waiting, NOT_WHOLE) for model, found in on_disk.items()}
    for (model, name), reason in refused.items():
        left_out.setdefault(model, {})[name] = reason
    only = {
        model: [name for name in found.whole if (model, name) not in refused]
        for model, found in on_disk.items()
    }
    overlay = json.dumps({"watch": {"only": only, "left_out": left_out}})
    write_text(f"# Written by `ebbtide watch` before each run.\n{overlay}\n", files[0])
    study = read_study(*files)
    if not study.unlocked:  # the lock is made next
        check_checkpoints(study)
    return study


def _without_new(
    files: Sequence[str], on_disk: Mapping[str, Found], error: ConfigError
) -> tuple[Study, dict[Place, str]]:
    """Return the study with the new checkpoints that it can have, and why it cannot have the others.

    They are taken in one by one, in the order of the study and of training. Raises `error` if the study
    cannot be used without all of them either.
    """
    whole = [(model, name) for model, found in on_disk.items() for name in found.whole]
    new = [place for place in whole if not any(Path("results/scores", *place).glob("*.parquet"))]
    left = dict.fromkeys(new, "it is not taken in yet")
    try:
        study = _load(files, on_disk, left)
    except ConfigError:
        raise error from None
    refused: dict[Place, str] = {}
    for place in new:
        del left[place]
        try:
            study = _load(files, on_disk, {**left, **refused})
        except ConfigError as why:
            refused[place] = str(why.args[0])
    return (_load(files, on_disk, refused) if refused else study), refused


def _deleted(study: Study) -> Iterator[tuple[Place, str]]:
    """Yield the checkpoints that must be scored, but whose weights were deleted, with the reason."""
    for model, name in deleted_weights(study):
        if tasks := missing(study, study.checkpoint(model, name)):
            reason = f"its weights were deleted before it was scored on {listed(tasks)}; restore them"
            yield (model, name), reason


def _failed(study: Study, state: State, settings: Mapping[str, Any]) -> Iterator[tuple[Place, str]]:
    """Yield the checkpoints that have failed too often, with the reason; `settings` are those of `watch:`."""
    recent = time.time() - settings["patience_hours"] * 3600
    for checkpoint in study.checkpoints():
        known = state.failed.get(f"{checkpoint.model}/{checkpoint.name}")
        if known is None or known.attempts < settings["attempts"] or known.at < recent:
            continue
        if known.key == key_of(study, checkpoint):
            times = counted(known.attempts, "time")
            yield (checkpoint.model, checkpoint.name), f"it failed {times}: {known.cause}"
