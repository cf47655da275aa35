"""The lock of a study: its checkpoints on the hub, resolved to commits and digests."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ebbtide.checkpoints.findings import allowances, audit_lines
from ebbtide.checkpoints.hub.audit import audit
from ebbtide.checkpoints.hub.client import Hub
from ebbtide.checkpoints.hub.lock import read_lock
from ebbtide.checkpoints.hub.resolve import lock_study
from ebbtide.errors import ConfigError
from ebbtide.study.load import read_study


@dataclass(frozen=True)
class Locked:
    """An updated lockfile: its numbers of models and checkpoints, and messages for the user.

    The messages end with the findings of the audit.
    """

    file: Path
    models: int
    checkpoints: int
    messages: Sequence[str]


def lock_checkpoints(files: Sequence[str | Path], follow: Iterable[str] = ()) -> Locked:
    """Resolve the checkpoints of a study, and resolve those in `follow` (MODEL/CHECKPOINT) again.

    Imported models are also locked, so that they can be scored later. Raises the errors of `lock_study`, and
    `ConfigError` for a study without checkpoints from a hub.
    """
    study = read_study(*files, results="both", uses_results=False)
    if not study.hub:
        raise ConfigError(f"{study.file}: models: found none from a hub, so there is nothing to lock.")
    messages = lock_study(study.hub, Hub(), study.lock_file, follow, files)
    lock = read_lock(study.lock_file)
    settings = study.config["audit"]
    found = audit([m for m in study.hub if m.is_listed(lock)], lock, settings, allowances(settings["allow"]))
    messages += audit_lines([finding.row() for finding in found])
    count = sum(bool(wanted.locked) for model in study.hub for wanted in model.wanted(lock))
    return Locked(Path(study.lock_file), len(study.hub), count, messages)
