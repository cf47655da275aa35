"""The disk budget of copies of weights: they are made, scored and evicted within a number of bytes.

Copies are fetched from the hub, or converted from another format on disk. Snakemake removes fetched ones when
their last cell exists; conversions go when space is needed, and at the end of a run. A Snakemake resource is
held only while a job runs, so it cannot limit the bytes on disk. Instead, the jobs that make copies keep the
budget themselves (`checkpoints.disk`): they take no core and wait for disk space. (Dependencies of copies on
scored checkpoints would also work, but planning such a chain takes Snakemake minutes for a thousand
checkpoints.)

All parents of an average are on disk at once. In a run that makes averages of copies, these start and reserve
their space in the order of training, and `WeightBudget.check` follows that order.
"""

import os
import socket
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

from ebbtide.cells.store import path_of
from ebbtide.checkpoints.average import AVERAGED
from ebbtide.checkpoints.disk import directory_bytes, remove
from ebbtide.checkpoints.formats.record import CONVERTED, can_be_made_again
from ebbtide.checkpoints.hub.fetched import fetch_directory, is_fetched
from ebbtide.checkpoints.hub.lock import RECORD
from ebbtide.errors import ConfigError
from ebbtide.grid import CHECKPOINTS, Checkpoint
from ebbtide.jobs.leads import COMMON, MissingCells, cell_path
from ebbtide.jobs.snakemake_internals import FailedJob
from ebbtide.jobs.weight_plan import failed_mark_of
from ebbtide.study.study import Study

GB = 10**9  # bytes
# The rules that fetch, convert or average checkpoints, to keep them or for the cells of a run.
WEIGHT_RULES = ("fetch_to_keep", "fetch_to_pass", "convert", "average", "average_to_pass")
HUB = "hub"  # the beginning of the name of fetched weights


class WeightBudget:
    """The copies of one run, within `weights.disk_gb`."""

    def __init__(self, study: Study, cells: MissingCells | None = None) -> None:
        self._study = study
        self._cells = cells or MissingCells(study)
        self._weights = study.config["weights"]
        self._copies = [c for c in study.checkpoints() if c.peak_disk_bytes]
        # Averages of copies; a job's study may lack the rows of their parents.
        self._averages = [c for c in study.checkpoints() if any(p.peak_disk_bytes for p in c.parents)]
        made = (*self._copies, *(parent for c in self._averages for parent in c.parents))
        # Marker → where the weights are or will be fetched to.
        self._directories = {c.marker: fetch_directory(c.marker) for c in made if _kind(c) == HUB}
        self._places = {self.directory(c.marker) for c in (*made, *self._averages)}
        self._positions = {(c.model, c.name): number for number, c in enumerate(self._copies)}
        names = {c.model for c in (*self._copies, *self._averages)}
        self._kept = {c.marker for name in names for c in self._to_keep(name)}
        self._kept |= {c.marker for c in self._copies if c.marker not in self._kept and _is_only_copy(c)}

    @property
    def plan_file(self) -> str:
        """The result of `plan`, which the copies of a run read; runs of other studies have their own."""
        return f"resources/ahead/weights-{self._study.name}.json"

    @property
    def downloads(self) -> int:
        """Number of checkpoints fetched at the same time."""
        return int(self._weights["parallel_downloads"])

    @property
    def is_limited(self) -> bool:
        """Whether there is a budget, so that copies may wait for disk space."""
        return self._weights["disk_gb"] is not None

    def missing_directories(self, *, kept: bool) -> list[str]:
        """Return the directory names of weights to fetch that are not on disk, to keep or the others."""
        wanted = (c.marker for c in self._copies if _kind(c) == HUB and (c.marker in self._kept) == kept)
        return [Path(d).name for d in map(self.directory, wanted) if not is_fetched(d)]

    def directory(self, marker: str) -> str:
        """Return the directory of the weights of a checkpoint from the hub; for others, the marker."""
        return self._directories.get(marker, marker)

    def unmade_averages(self, *, kept: bool) -> list[str]:
        """Return the directory names of averages that are not on disk, of those to keep or of the others.

        Averages of checkpoints that are not copied are kept.
        """
        passing = {c.marker for c in self._averages} - self._kept
        return [
            Path(c.marker).name for c in self._study.unmade_averages() if (c.marker not in passing) == kept
        ]

    def priority(self, model: str, checkpoint: str) -> float:
        """Return the priority of a copy: that of other jobs and a fraction, highest for the first one."""
        return COMMON + 1 - self._positions[model, checkpoint] / len(self._positions)

    def unneeded(self) -> list[Path]:
        """Return the weights on disk that are not kept and that no cell and no average of the study needs."""
        now = MissingCells(self._study)  # after a run, other cells exist than when it was planned
        waiting = {c.marker for c in (*self._to_copy(now), *(c for c in self._averages if now.of(c)))}
        unused = [c for c in (*self._copies, *self._averages) if c.marker not in self._kept | waiting]
        places = (self.directory(c.marker) for c in unused if not _is_only_copy(c))
        return [Path(place) for place in places if _is_on_disk(place)]

    def note_failure(self, job: FailedJob) -> None:
        """Mark the weights that a job has failed to make, so that no copy waits for them for ever."""
        for output in self._places.intersection(job.outputs):
            failed_mark_of(Path(output)).touch()

    def clean_up(self) -> None:
        """Remove, at the end of a run, weights that no cell needs and leftovers of interrupted removals.

        Snakemake removes the temporary outputs of its own jobs, so these are from killed runs. Weights that
        were fetched beside such a leftover (see `hub.fetched.fetch_directory`) get its name.
        """
        for weights in self.unneeded():
            remove(weights)
        for place in self._places:
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
        """Return the plan that copies read (see `jobs.weight_plan`): the budget, and the cells to score.

        Cells are listed with their requests, because a cell whose task could not be frozen is never scored.
        `jobs` are the (model, checkpoint) that this run copies or averages.
        """
        budget = self._weights["disk_gb"]
        averages = [c for c in self._averages if (c.model, c.name) in jobs or Path(c.marker).exists()]
        scored = [c for c in self._needed if self._cells.of(c)]
        order = [c for c in self._copies if (c.model, c.name) in jobs]
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": time.time(),
            "budget_bytes": None if budget is None else round(budget * GB),
            "stay": sorted(map(self.directory, self._kept)),
            "wanted": {self.directory(c.marker): self._cells_of(c) for c in (*scored, *averages)},
            "averages": {
                c.marker: {
                    "bytes": _bytes_on_disk(c),
                    "parents": [self.directory(parent.marker) for parent in c.parents],
                }
                for c in averages
            },
            "order": list(dict.fromkeys(self.directory(c.marker) for c in order)) if averages else [],
        }

    def check(self) -> None:
        """Raise `ConfigError` if the budget is too small for what is on disk at once, see `_uses`."""
        if not self.is_limited:
            return
        budget, only_copies = round(self._weights["disk_gb"] * GB), self._only_copies_of_others()
        others = sum(map(directory_bytes, only_copies))
        budget -= others
        if max((use.total for use in self._uses(self._copies, self._averages)), default=0) <= budget:
            return  # whichever cells are missing: looking for all of them takes long
        most = max(self._uses(self._needed, self._pending), key=lambda use: use.total, default=None)
        if most is None or most.total <= budget:
            return
        largest, own, shared = most.checkpoint, most.checkpoint.peak_disk_bytes, ""
        keeps = largest.marker in self._kept
        kept, averaging = (most.kept - own, most.passing) if keeps else (most.kept, most.passing - own)
        remedies = ["increase it", *(["keep fewer weights (weights.keep)"] if most.kept else [])]
        if averaging:
            shared = f" and {averaging / GB:.3g} GB of averages and their checkpoints"
            remedies.append("average fewer checkpoints")
        if others:
            shared += f" and {others / GB:.3g} GB of conversions whose sources are gone ({only_copies[0]})"
            remedies.append("delete those that you do not need")
        raise ConfigError(
            f"weights.disk_gb: found {self._weights['disk_gb']}, but {largest.model}/{largest.name} "
            f"needs {own / GB:.3g} GB in addition to {kept / GB:.3g} GB of kept weights{shared}; "
            f"{', or '.join(remedies)}."
        )

    def _only_copies_of_others(self) -> list[Path]:
        """The conversions on disk that are not of this study and could not be made again, so they stay."""
        own = {c.marker for c in self._copies}
        found = sorted(Path(CHECKPOINTS).glob(f"*/*/{CONVERTED}-*"))
        return [path for path in found if str(path) not in own and not can_be_made_again(path)]

    def _uses(self, copies: Sequence[Checkpoint], averages: Sequence[Checkpoint]) -> "list[_Use]":
        """Return what is on disk when each of the `copies` has its space, with these averages.

        With averages, they get it in this order; without, weights to keep may be there before all others.
        """
        place, end = {c.marker: number for number, c in enumerate(copies)}, len(copies) - 1
        made = {c.marker: max(place[parent.marker] for parent in c.parents) for c in averages}
        until: dict[str, int] = {}  # parent → the last copy during which it is needed
        for average in averages:
            until |= {p.marker: max(made[average.marker], until.get(p.marker, 0)) for p in average.parents}
        spans = []  # weights, the first copy during which they are on disk, and the last one
        for number, c in enumerate(copies):
            stays = c.marker in self._kept or c.marker in until
            early = stays and (not averages or _is_on_disk(self.directory(c.marker)))
            last = end if c.marker in self._kept else until.get(c.marker, number)
            spans.append((c, 0 if early else number, last))
        for c in averages:
            spans.append((c, made[c.marker], end if c.marker in self._kept else made[c.marker]))
        for c in (*self._copies, *self._averages):
            if c.marker in self._kept - place.keys() - made.keys() and _is_on_disk(self.directory(c.marker)):
                spans.append((c, 0, end))
        kept, passing = [0] * (len(copies) + 1), [0] * (len(copies) + 1)  # changes, bytes
        for c, first, last in spans:
            changes = kept if c.marker in self._kept else passing
            changes[first] += _bytes_on_disk(c)
            changes[last + 1] -= _bytes_on_disk(c)
        return list(map(_Use, copies, accumulate(kept), accumulate(passing)))

    @cached_property
    def _needed(self) -> list[Checkpoint]:
        """Checkpoints to copy unless they are on disk, in order, once per directory."""
        return self._to_copy(self._cells)

    @cached_property
    def _pending(self) -> list[Checkpoint]:
        """Averages to make."""
        return self._to_make(self._cells)

    def _to_copy(self, cells: MissingCells) -> list[Checkpoint]:
        parents = {parent.marker for c in self._to_make(cells) for parent in c.parents}
        found = {c.marker: c for c in self._copies if c.marker in parents or cells.of(c)}
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

    def _to_keep(self, model: str) -> tuple[Checkpoint, ...]:
        checkpoints = self._study.models[model].checkpoints
        keep = self._weights["keep"]
        if keep == "all":
            return checkpoints
        return () if keep == "none" else checkpoints[-keep:]


@dataclass(frozen=True)
class _Use:
    """Bytes on disk when a checkpoint has its space, with its own: of weights to keep, and of others."""

    checkpoint: Checkpoint
    kept: int
    passing: int

    @property
    def total(self) -> int:
        return self.kept + self.passing


def _kind(checkpoint: Checkpoint) -> str:
    """The beginning of the name of a checkpoint's directory."""
    return Path(checkpoint.marker).name.partition("-")[0]


def _is_on_disk(directory: str) -> bool:
    """Whether a copy or an average is complete."""
    made_here = Path(directory).name.startswith((AVERAGED, CONVERTED))
    return Path(directory).exists() if made_here else is_fetched(directory)


def _is_only_copy(checkpoint: Checkpoint) -> bool:
    """Whether it is converted on disk, and could not be converted again."""
    place = Path(checkpoint.marker)
    return _kind(checkpoint) == CONVERTED and place.exists() and not can_be_made_again(place)


def _bytes_on_disk(checkpoint: Checkpoint) -> int:
    """Most bytes of a checkpoint on disk. An average has the form of its newest parent, and a record."""
    if checkpoint.parents:
        return checkpoint.parents[-1].peak_disk_bytes + RECORD
    return checkpoint.peak_disk_bytes
