"""What a run has done for each checkpoint: cells scored, copied or still missing, and why."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ebbtide.cells import store
from ebbtide.grid import Checkpoint
from ebbtide.jobs.failures import SILENT
from ebbtide.jobs.leads import cell_path, missing
from ebbtide.logs import INTERRUPTED_LINE, cause_in
from ebbtide.study.study import Study


@dataclass(frozen=True)
class Lacking:
    """The tasks of a checkpoint without a cell in the results, and those of them that must be scored.

    `logs` are the logs of its jobs, with the times at which earlier runs have written them (ns).
    """

    tasks: frozenset[str]
    unscored: frozenset[str]
    logs: Mapping[Path, int]


@dataclass(frozen=True)
class Done:
    """Numbers of cells that a run has made or not, and why it failed; no cause: it has not failed."""

    scored: int
    copied: int
    missing: int
    cause: str


def lacking(study: Study) -> dict[tuple[str, str], Lacking]:
    """Return what each checkpoint lacks, by model and name; checkpoints that lack nothing are left out."""
    found = {}
    for checkpoint in study.checkpoints():
        tasks = frozenset(task for task in study.tasks if not _is_there(study, checkpoint, task))
        if tasks:
            unscored = tasks.intersection(missing(study, checkpoint))
            logs = {log: log.stat().st_mtime_ns for log in _logs(checkpoint, tasks)}
            found[checkpoint.model, checkpoint.name] = Lacking(tasks, unscored, logs)
    return found


def done(study: Study, checkpoint: Checkpoint, before: Lacking) -> Done:
    """Return what a run has done for a checkpoint that lacked cells before."""
    left = frozenset(task for task in before.tasks if not _is_there(study, checkpoint, task))
    made = before.tasks - left
    scored = len(made & before.unscored)
    cause = next(_causes(checkpoint, left, before.logs), "") if left else ""
    return Done(scored, len(made) - scored, len(left), cause)


def _is_there(study: Study, checkpoint: Checkpoint, task: str) -> bool:
    return store.is_whole(Path(cell_path(checkpoint, task)), study.identity(checkpoint, task))


def _causes(checkpoint: Checkpoint, tasks: frozenset[str], before: Mapping[Path, int]) -> Iterator[str]:
    """Yield why cells are missing, by the logs that this run has written; nothing if no job has begun."""
    written = [log for log in _logs(checkpoint, tasks) if log.stat().st_mtime_ns != before.get(log)]
    yield from (cause for log in written if (cause := cause_in(log)) and cause != INTERRUPTED_LINE)
    if written:
        yield f"{written[0]}: {SILENT}"


def _logs(checkpoint: Checkpoint, tasks: frozenset[str]) -> list[Path]:
    """The logs of jobs that score these tasks, or that bring the weights."""
    place = f"{checkpoint.model}/{checkpoint.name}"
    logs = [Path(f"logs/score/{place}/{task}.log") for task in sorted(tasks)]
    for rule in ("fetch_checkpoint", "convert", "average"):
        logs += sorted(Path(f"logs/{rule}/{checkpoint.model}").glob(f"{checkpoint.name}-*.log"))
    return [log for log in logs if log.exists()]
