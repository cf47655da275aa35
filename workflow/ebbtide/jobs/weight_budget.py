"""The disk budget of weights from the hub: they are fetched, scored and evicted within a number of bytes.

Snakemake removes temporary weights when their last cell exists. A Snakemake resource is held only while a job
runs, so it cannot limit the bytes on disk. Instead, the fetching jobs themselves keep the budget
(`checkpoints.hub.disk`): they take no core and wait for disk space. (Dependencies of fetches on scored
checkpoints would also work, but planning such a chain takes Snakemake minutes for a thousand checkpoints.)

All parents of an average are on disk at once. In a run that makes averages of fetched checkpoints, fetches
start and reserve their space in the order of training, and `WeightBudget.check` follows that order.
"""

import os
import socket
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

from ebbtide.cells.store import path_of
from ebbtide.checkpoints.average import AVERAGED
from ebbtide.checkpoints.hub.disk import remove
from ebbtide.checkpoints.hub.fetched import fetch_directory, is_fetched
from ebbtide.checkpoints.hub.lock import RECORD
from ebbtide.errors import ConfigError
from ebbtide.grid import Checkpoint
from ebbtide.jobs.fetch_plan import failed_mark_of
from ebbtide.jobs.leads import COMMON, MissingCells, cell_path
from ebbtide.jobs.snakemake_internals import FailedJob
from ebbtide.study.study import Study

GB = 10**9  # bytes
# The rules that fetch or average checkpoints, to keep them or for the cells of a run.
WEIGHT_RULES = ("fetch_to_keep", "fetch_to_pass", "average", "average_to_pass")


class WeightBudget:
    """The fetches of one run, within `weights.disk_gb`."""

    def __init__(self, study: Study, cells: MissingCells | None = None) -> None:
        self._study = study
        self._cells = cells or MissingCells(study)
        self._weights = study.config["weights"]
        self._hub = [c for model in study.hub for c in study.models[model.name].checkpoints]
        # Averages of fetched checkpoints; a job's study may lack the rows of their parents.
        self._averages = [c for c in study.checkpoints() if any(p.peak_disk_bytes for p in c.parents)]
        fetched = (*self._hub, *(parent for c in self._averages for parent in c.parents))
        # Marker → where the weights are or will be fetched to.
        self._directories = {c.marker: fetch_directory(c.marker) for c in fetched}
        self._positions = {(c.model, c.name): number for number, c in enumerate(self._hub)}
        names = dict.fromkeys([*(model.name for model in study.hub), *(c.model for c in self._averages)])
        self._kept = {c.marker for name in names for c in self._to_keep(name)}

    plan_file = "resources/ahead/weights.json"  # the result of `plan`, which the fetches of a run read

    @property
    def downloads(self) -> int:
        """Number of checkpoints fetched at the same time."""
        return int(self._weights["parallel_downloads"])

    def missing_directories(self, *, kept: bool) -> list[str]:
        """Return the directory names of weights that are not on disk, of those to keep or of the others."""
        wanted = (c.marker for c in self._hub if (c.marker in self._kept) == kept)
        return [Path(d).name for d in map(self.directory, wanted) if not is_fetched(d)]

    def directory(self, marker: str) -> str:
        """Return the directory of the weights of a checkpoint from the hub; for others, the marker."""
        return self._directories.get(marker, marker)

    def unmade_averages(self, *, kept: bool) -> list[str]:
        """Return the directory names of averages that are not on disk, of those to keep or of the others.

        Averages of checkpoints that are not fetched are kept.
        """
        passing = {c.marker for c in self._averages} - self._kept
        return [
            Path(c.marker).name for c in self._study.unmade_averages() if (c.marker not in passing) == kept
        ]

    def priority(self, model: str, checkpoint: str) -> float:
        """Return the priority of a fetch: that of other jobs and a fraction, highest for the first one."""
        return COMMON + 1 - self._positions[model, checkpoint] / len(self._positions)

    def unneeded(self) -> list[Path]:
        """Return the weights on disk that are not kept and that no cell and no average of the study needs."""
        now = MissingCells(self._study)  # after a run, other cells exist than when it was planned
        waiting = {c.marker for c in (*self._fetches(now), *(c for c in self._averages if now.of(c)))}
        unused = [c.marker for c in (*self._hub, *self._averages) if c.marker not in self._kept | waiting]
        return [Path(place) for place in map(self.directory, unused) if self._is_on_disk(place)]

    def note_failure(self, job: FailedJob) -> None:
        """Mark the weights that a job has failed to make, so that no fetch waits for them for ever."""
        known = {*self._directories.values(), *(c.marker for c in self._averages)}
        for output in known.intersection(job.outputs):
            failed_mark_of(Path(output)).touch()

    def clean_up(self) -> None:
        """Remove, at the end of a run, weights that no cell needs and leftovers of interrupted removals.

        Snakemake removes the temporary outputs of its own jobs, so these are from killed runs. Weights that
        were fetched beside such a leftover (see `hub.fetched.fetch_directory`) get its name.
        """
        for weights in self.unneeded():
            remove(weights)
        for place in (*self._directories.values(), *(c.marker for c in self._averages)):
            failed_mark_of(Path(place)).unlink(missing_ok=True)
        for marker, directory in self._directories.items():
            if directory != marker:
                remove(Path(marker))
                if is_fetched(directory):
                    Path(directory).rename(marker)

    def options(self, model: str) -> str:
        """Return the options of `fetch-checkpoint` for a model."""
        [row] = [row for row in self._study.hub if row.name == model]
        return f"--format {row.format}" + (" --remote-code" if row.remote_code else "")

    def plan(self, jobs: Collection[tuple[str, str]] = ()) -> dict[str, Any]:
        """Return the plan that fetches read (see `jobs.fetch_plan`): the budget, and the cells to score.

        Cells are listed with their requests, because a cell whose task could not be frozen is never scored.
        `jobs` are the (model, checkpoint) that this run fetches or averages.
        """
        budget = self._weights["disk_gb"]
        averages = [c for c in self._averages if (c.model, c.name) in jobs or Path(c.marker).exists()]
        scored = [c for c in self._needed if self._cells.of(c)]
        order = [c for c in self._hub if (c.model, c.name) in jobs]
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": time.time(),
            "budget_bytes": None if budget is None else round(budget * GB),
            "stay": sorted(map(self.directory, self._kept)),
            "wanted": {self.directory(c.marker): self._cells_of(c) for c in (*scored, *averages)},
            "averages": {
                c.marker: {
                    "bytes": _average_bytes(c),
                    "parents": [self.directory(parent.marker) for parent in c.parents],
                }
                for c in averages
            },
            "order": list(dict.fromkeys(self.directory(c.marker) for c in order)) if averages else [],
        }

    def check(self) -> None:
        """Raise `ConfigError` if the budget is too small for what is on disk at once, see `_most`."""
        if self._weights["disk_gb"] is None:
            return
        budget = round(self._weights["disk_gb"] * GB)
        if max((use.total for use in self._uses(self._hub, self._averages)), default=0) <= budget:
            return  # whichever cells are missing: looking for all of them takes long
        most = max(self._uses(self._needed, self._pending), key=lambda use: use.total, default=None)
        if most is None or most.total <= budget:
            return
        others = (
            f" and {most.averaging / GB:.3g} GB of averages and their checkpoints" if most.averaging else ""
        )
        remedies = [
            *(["keep fewer weights (weights.keep)"] if most.kept else []),
            *(["average fewer checkpoints"] if most.averaging else []),
        ]
        raise ConfigError(
            f"weights.disk_gb: found {self._weights['disk_gb']}, but {most.checkpoint.model}/"
            f"{most.checkpoint.name} needs {most.checkpoint.peak_disk_bytes / GB:.3g} GB in addition to "
            f"{most.kept / GB:.3g} GB of kept weights{others}; increase it"
            f"{''.join(f', or {remedy}' for remedy in remedies)}."
        )

    def _uses(self, fetches: Sequence[Checkpoint], averages: Iterable[Checkpoint]) -> "list[_Use]":
        """Return what is on disk when each of the `fetches`, in order, has its space, with these averages."""
        averages, all_of = list(averages), {c.marker for c in (*fetches, *averages)}
        kept = [c for c in (*self._hub, *self._averages) if c.marker in self._kept]
        held = [c for c in kept if c.marker in all_of or self._is_on_disk(self.directory(c.marker))]
        staying = sum(_average_bytes(c) if c.parents else c.peak_disk_bytes for c in held)
        place = {c.marker: number for number, c in enumerate(fetches)}
        ends: dict[str, int] = {}  # parent → the last fetch during which it is needed
        own = [0] * len(fetches)  # bytes of the averages that can be made after a fetch
        for average in averages:
            last = max(place[parent.marker] for parent in average.parents)
            own[last] += 0 if average.marker in self._kept else _average_bytes(average)
            ends |= {p.marker: max(last, ends.get(p.marker, 0)) for p in average.parents}
        changes = [0] * (len(fetches) + 1)
        for number, checkpoint in enumerate(fetches):
            if checkpoint.marker in ends and checkpoint.marker not in self._kept:
                there = self._is_on_disk(self.directory(checkpoint.marker))
                changes[0 if there else number] += checkpoint.peak_disk_bytes
                changes[ends[checkpoint.marker] + 1] -= checkpoint.peak_disk_bytes
        uses = []
        for checkpoint, parents, made in zip(fetches, accumulate(changes), own, strict=False):
            new = 0 if checkpoint.marker in self._kept else checkpoint.peak_disk_bytes
            shared = new if checkpoint.marker in ends else 0  # it is one of the parents
            uses.append(_Use(checkpoint, staying, parents + made - shared, new))
        return uses

    @cached_property
    def _needed(self) -> list[Checkpoint]:
        """Checkpoints to fetch unless they are on disk, in order, once per directory."""
        return self._fetches(self._cells)

    @cached_property
    def _pending(self) -> list[Checkpoint]:
        """Averages to make."""
        return self._to_make(self._cells)

    def _fetches(self, cells: MissingCells) -> list[Checkpoint]:
        parents = {parent.marker for c in self._to_make(cells) for parent in c.parents}
        found = {c.marker: c for c in self._hub if c.marker in parents or cells.of(c)}
        return list(found.values())

    def _to_make(self, cells: MissingCells) -> list[Checkpoint]:
        return [c for c in self._averages if not Path(c.marker).exists() and cells.of(c)]

    def _cells_of(self, checkpoint: Checkpoint) -> list[list[str]]:
        """Return the cell in the results, the cell in the store and the frozen task of each missing cell."""
        store = self._study.config["scoring"]["store"]
        return [
            [
                cell_path(checkpoint, task),
                str(path_of(store, self._study.identity(checkpoint, task))),
                self._study.tasks[task].frozen,
            ]
            for task in self._cells.of(checkpoint)
        ]

    def _is_on_disk(self, directory: str) -> bool:
        return is_fetched(directory) or (
            Path(directory).name.startswith(AVERAGED) and Path(directory).exists()
        )

    def _to_keep(self, model: str) -> tuple[Checkpoint, ...]:
        checkpoints = self._study.models[model].checkpoints
        keep = self._weights["keep"]
        if keep == "all":
            return checkpoints
        return () if keep == "none" else checkpoints[-keep:]


@dataclass(frozen=True)
class _Use:
    """Bytes on disk when a checkpoint has its space: its own, and those of other weights."""

    checkpoint: Checkpoint
    kept: int
    averaging: int  # averages and their parents, without the checkpoint itself
    own: int  # 0 if it is kept

    @property
    def total(self) -> int:
        return self.kept + self.averaging + self.own


def _average_bytes(average: Checkpoint) -> int:
    """Most bytes of an average on disk: it has the form of its newest parent, and a record."""
    return average.parents[-1].peak_disk_bytes + RECORD
