"""The worker of `ebbtide.jobs.score_cell`: load weights once, score one cell, then its siblings.

A cell that fails leaves the others: they are scored all the same. Siblings of another back end have a worker
of their own. Run as `python -m ebbtide.jobs.worker JOB`, where JOB is JSON: `checkpoint`, `requests`,
`identity`, `cells`, `hint` (or null), and `siblings_only` if an earlier worker died. The hint is a file
written at the start of the run. It is not an input of the rule, because adding a task must not rerun the
others:

    {"load_once_per": "cell" | "checkpoint" | "model", "store": DIR, "recompute_before": 0.0,
     "rescore_examples": 0, "gpus": null, "offload": false,
     "model": "m", "proofs": […], "proof_rules": {…},
     "cells": [{"name": "m/c/t", "checkpoint": FILE, "requests": FILE, "identity": {…}}, …]}

`checkpoint` exists when the weights can be loaded (see `checkpoints.directory.directory_of`);
`rescore_examples` is how many examples of each scored cell are scored once more, one by one in float64.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ebbtide.cells import store
from ebbtide.cells.cell import write_cell, written
from ebbtide.checkpoints.directory import directory_of, tokenizer_of
from ebbtide.errors import EbbtideError, ScoringError, StorageError, first_line
from ebbtide.jobs.checked import examples_to_rescore, write_checked_cell
from ebbtide.jobs.encoded_tasks import EncodedTasks
from ebbtide.jobs.load_proof import check_known_proof, prove_load
from ebbtide.jobs.loaded import Job, Loaded
from ebbtide.jobs.progress import CellProgress
from ebbtide.jobs.score_cell import mark_of, read_hint
from ebbtide.logs import Progress, log, log_to_stderr
from ebbtide.scoring.scorer import FAKE, backend_of, load_once_per

if TYPE_CHECKING:
    from ebbtide.scoring.scorer import Scorer

# Rules of encoding, precision and window, which a check of a cell shares with it.
RESCORED = ("encoding", "bos", "truncation", "max_length", "dtype")


@dataclass(frozen=True)
class Work:
    """The worker's own job, the hint, and what is kept from one cell to the next."""

    own: Job
    hint: Job
    loaded: Loaded
    tasks: EncodedTasks
    progress: CellProgress

    @property
    def cells(self) -> str:
        """Directory of the cell store."""
        return str(self.own["cells"])


def main() -> int:
    """Score the job's own cell, then its siblings. Only an error of the own cell sets the exit status."""
    log_to_stderr()
    job = json.loads(sys.argv[1])
    hint = _of_one_backend(read_hint(job["hint"]), backend_of(job["identity"]))
    loaded = Loaded(job["threads"], offload=bool(hint.get("offload")))
    progress = Progress()
    work = Work(job, hint, loaded, EncodedTasks(job["cells"]), CellProgress(progress))
    own, failed = not job.get("siblings_only"), False
    try:
        try:
            if own:
                _score_into_store(work, job)
        except StorageError:  # further cells could not be written either
            raise
        except EbbtideError as error:
            failed = True
            log.error("%s", error)
            # A file that cannot be read can be the fault of this machine.
            if job["hint"] and error.recurs and not isinstance(error.__context__, OSError):
                mark = store.failed_mark(store.path_of(work.cells, job["identity"]))
                mark.write_text(mark_of(job["hint"], error))
        if not work.loaded.device_lost:
            _score_siblings(work, progress, done=int(own and not failed))
    except (StorageError, OSError) as error:
        log.error("%s", error if isinstance(error, StorageError) else f"ScoringError: {error}.")
        return 1
    finally:
        work.progress.end()
    return int(failed)


def _of_one_backend(hint: Job, backend: str) -> Job:
    """The part of a hint that one process does: cells of another back end have jobs of their own."""
    if "cells" not in hint:  # of a job started by hand
        return hint
    cells = [cell for cell in hint["cells"] if backend_of(cell["identity"]) == backend]
    return {**hint, "load_once_per": load_once_per(hint["load_once_per"], backend), "cells": cells}


def _score_into_store(work: Work, job: Job) -> int:
    """Score one cell and write it to the store; return the number of tokens forwarded.

    Raises only `EbbtideError` (`StorageError` for a store that cannot be written) and `OSError`.
    """
    try:
        return _scored(work, job)
    except (EbbtideError, OSError):
        raise
    except Exception as error:  # whatever torch or transformers raise: it must not take the siblings along
        log.exception("scoring %s failed", job["requests"])
        work.loaded.device_lost = "CUDA error" in str(error)
        raise ScoringError(
            f"{job['requests']} with {job['checkpoint']}: {type(error).__name__}: {first_line(error)}.",
            recurs=False,
        ) from error


def _scored(work: Work, job: Job) -> int:
    identity, started = job["identity"], time.perf_counter()
    stored = work.tasks.are_probably_stored(job)
    loads = work.loaded.loads
    if not work.loaded.has(job):
        check_known_proof(job, work.hint, work.cells)
    scorer = work.loaded.get(job, work.cells, encoded=stored)
    if work.loaded.loads > loads:
        _prove(work, job, scorer)
    if work.loaded.loads > loads and (after := _next_checkpoint(work, job)) is not None:
        from ebbtide.jobs.read_ahead import read_ahead

        read_ahead(after)
    prepared = work.tasks.get(job, scorer)
    # A GPU must not wait for the next task; a CPU has no time to spare for it.
    if scorer.device == "cuda" and (following := _following(work, job)) is not None:
        work.tasks.prepare(following, scorer)
    work.progress.start(_name(work, job))
    result = prepared.answers.score(scorer, prepared, job, work.progress.report)
    footer = {
        **result.footer,
        "written": written(),
        # Of this cell, with loading the weights if they were not in memory: what the device was held for.
        "total_seconds": round(time.perf_counter() - started, 3),
        "threads": work.own["threads"],
    }
    if work.loaded.digests:
        footer["weights_sha256"] = work.loaded.digests
    path = store.path_of(work.cells, identity)
    wanted = int(work.hint.get("rescore_examples", 0))
    examples = examples_to_rescore(path, wanted) if prepared.answers.rescored else 0
    if examples:
        from ebbtide.scoring.rescore import largest_difference

        check = partial(
            largest_difference,
            directory_of(job["checkpoint"]),
            job["requests"],
            result.rows,
            examples=examples,
            tokenizer=tokenizer_of(job["checkpoint"]),
            **{name: identity[name] for name in RESCORED},
        )
        verified = write_checked_cell(result.rows, path, identity, footer, check)
        if "reason" in verified:
            log.error("ScoringError: %s could not be rescored: %s.", job["requests"], verified["reason"])
    else:
        write_cell(result.rows, path, identity, footer)
    return int(result.footer["forwarded_tokens"])


def _prove(work: Work, job: Job, scorer: "Scorer") -> None:
    """Prove the load. If a finding stops it, the other cells of the checkpoint are not scored either."""
    try:
        prove_load(job, work.hint, work.cells, scorer, work.progress.tell)
    except ScoringError:
        work.loaded.refuse(job)
        raise


def _name(work: Work, job: Job) -> str:
    """The name of a job's cell, which only the hint has."""
    cells: list[Job] = work.hint.get("cells", [])
    names = (str(cell["name"]) for cell in cells if cell["identity"] == job["identity"])
    return next(names, job["requests"])


def _score_siblings(work: Work, progress: Progress, done: int) -> None:
    """Score the missing siblings in the hint, including tasks that are frozen in the meantime.

    `done` is the number of cells scored before.
    """
    loaded, cells = work.loaded, work.cells
    started, tokens = time.perf_counter(), 0
    for sibling in _pending(work):
        if loaded.is_broken(sibling):
            continue
        mark = store.attempt_mark(cells, sibling["identity"])
        mark.touch()
        try:
            tokens += _score_into_store(work, sibling)
        except StorageError:
            mark.unlink(missing_ok=True)
            raise
        except EbbtideError as error:
            # The mark stays, so that the sibling's own job scores it again and reports the error.
            log.warning("%s is left to its own job: %s", sibling["name"], error)
            if loaded.device_lost:
                return
            continue
        mark.unlink(missing_ok=True)
        done += 1
        seconds = time.perf_counter() - started
        progress.show(f"{sibling['name']}: {done} cells, {tokens / seconds:,.0f} tokens/s")
    progress.done(f"scored {done} cells with {loaded.loads} loads of weights")


def _next_checkpoint(work: Work, job: Job) -> str | None:
    """The checkpoint that is loaded after that of a job; None if there is none or it has no weights."""
    if work.hint.get("load_once_per") != "model" or backend_of(job["identity"]) == FAKE:
        return None
    others = (sibling for sibling in work.hint["cells"] if sibling["checkpoint"] != job["checkpoint"])
    waiting = (s for s in others if _is_ready(s) and not store.path_of(work.cells, s["identity"]).exists())
    return next((str(sibling["checkpoint"]) for sibling in waiting), None)


def _following(work: Work, job: Job) -> Job | None:
    """The sibling with the same checkpoint that is probably scored after a job."""
    if work.hint.get("load_once_per", "cell") == "cell":
        return None
    siblings: list[Job] = work.hint["cells"]
    for sibling in siblings:
        if sibling["checkpoint"] == job["checkpoint"] and sibling["identity"] != job["identity"]:
            cell = store.path_of(work.cells, sibling["identity"])
            mark = store.attempt_mark(work.cells, sibling["identity"])
            if _is_ready(sibling) and not cell.exists() and not mark.exists():
                return sibling
    return None


def _pending(work: Work) -> Iterator[Job]:
    """Yield the siblings to score, each at most once, until a scan of the hint finds no more."""
    own, hint, cells = work.own, work.hint, work.cells
    after = float(hint.get("recompute_before", 0.0))
    wanted = [
        sibling
        for sibling in hint.get("cells", [])
        if hint["load_once_per"] == "model"
        or (hint["load_once_per"] == "checkpoint" and sibling["checkpoint"] == own["checkpoint"])
    ]
    # The checkpoint in memory first: the job that started first need not be the first in the hint.
    wanted.sort(key=lambda sibling: sibling["checkpoint"] != own["checkpoint"])
    offered = {store.key(own["identity"])}
    found = True
    while found:
        found = False
        for sibling in wanted:
            key = store.key(sibling["identity"])
            if key in offered or not _is_ready(sibling):
                continue
            path = store.path_of(cells, sibling["identity"])
            if store.is_whole(path, sibling["identity"], after=after):
                continue
            if store.recover(path, sibling["identity"], after=after):
                continue
            if store.attempt_mark(cells, sibling["identity"]).exists() or _has_failed(path, own["hint"]):
                continue
            offered.add(key)
            found = True
            yield sibling


def _has_failed(cell: Path, hint: str) -> bool:
    """Whether the job of a cell has failed in this run, whose start is the time of the hint."""
    try:
        return store.failed_mark(cell).stat().st_mtime >= Path(hint).stat().st_mtime
    except FileNotFoundError:
        return False


def _is_ready(sibling: Job) -> bool:
    return Path(sibling["requests"]).exists() and Path(sibling["checkpoint"]).exists()


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"  # compute jobs never use the network
    sys.exit(main())
