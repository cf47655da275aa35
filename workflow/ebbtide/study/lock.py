"""The lock of a study: its checkpoints on the hub, resolved to commits and digests."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ebbtide.checkpoints.hub.client import Hub
from ebbtide.checkpoints.hub.lock import read_lock
from ebbtide.checkpoints.hub.resolve import lock_study
from ebbtide.study.load import read_study


@dataclass(frozen=True)
class Locked:
    """A lockfile that was brought up to date: how much it holds, and what a user should know."""

    file: Path
    models: int
    checkpoints: int
    messages: Sequence[str]


def lock_checkpoints(files: Sequence[str | Path], follow: Iterable[str] = ()) -> Locked:
    """Resolve the checkpoints of the study in `files`; those that `follow` names (MODEL/CHECKPOINT), again.

    Imported models are locked as well, so that they can be scored later. Raises as `lock_study` does.
    """
    study = read_study(*files, results="both")
    messages = lock_study(study.hub, Hub(), study.lock_file, follow)
    lock = read_lock(study.lock_file)
    count = sum(bool(wanted.locked) for model in study.hub for wanted in model.wanted(lock))
    return Locked(Path(study.lock_file), len(study.hub), count, messages)
