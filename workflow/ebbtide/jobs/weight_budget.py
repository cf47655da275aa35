"""How the hub's weights pass through the disk: fetched, scored, evicted, within a budget of bytes.

Snakemake removes temporary weights when their last cell is there. It holds a resource only while a job runs,
so a budget of what *lies* on disk is kept by the fetching jobs themselves (`checkpoints.hub.disk`): they take
no core and wait for room. (Edges from scored to fetched checkpoints would do too, but Snakemake walks such a
chain again and again: minutes for a thousand checkpoints.)
"""

import os
import socket
import time
from functools import cached_property
from pathlib import Path
from typing import Any

from ebbtide.cells.store import path_of
from ebbtide.checkpoints.hub.disk import remove
from ebbtide.checkpoints.hub.fetched import first_place, is_fetched
from ebbtide.errors import ConfigError
from ebbtide.grid import Checkpoint
from ebbtide.jobs.leads import cell_path, missing
from ebbtide.study.study import Study

GB = 10**9  # bytes


class WeightBudget:
    """The fetches of one run, within `weights.disk_gb`."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._weights = study.config["weights"]
        self._hub = [c for model in study.hub for c in study.models[model.name].checkpoints]
        self._stay = {c.marker for model in study.hub for c in self._staying(model.name)}

    plan_file = "resources/ahead/weights.json"  # what `plan` returns, for the fetches of a run

    @property
    def downloads(self) -> int:
        """How many checkpoints are fetched at the same time."""
        return int(self._weights["parallel_downloads"])

    def absent(self, *, kept: bool) -> list[str]:
        """What is not on disk, of the weights that stay (`kept`) or of those that go: ends of paths."""
        return [Path(c.marker).name for c in self._hub if (c.marker in self._stay) == kept and not _lies(c)]

    def passed(self) -> list[Path]:
        """Weights on disk that do not stay, and that no cell of the study waits for."""
        waiting = {c.marker for c in self._hub if missing(self._study, c)}
        return [Path(c.marker) for c in self._hub if c.marker not in self._stay | waiting and _lies(c)]

    def settle(self) -> None:
        """At the end of a run, remove weights that no cell waits for, and leftovers of earlier removals.

        Snakemake removes temporary outputs of its own jobs; what remains here is from killed runs. Weights
        that were fetched beside such a leftover (see `hub.fetched.place_for`) get its name.
        """
        for weights in self.passed():
            remove(weights)
        for checkpoint in self._hub:
            directory = first_place(checkpoint.marker)
            if directory.exists() and not is_fetched(directory):
                remove(directory)
                if is_fetched(checkpoint.marker):
                    Path(checkpoint.marker).rename(directory)

    def options(self, model: str) -> str:
        """What `fetch-checkpoint` must know about a model, as options."""
        [row] = [row for row in self._study.hub if row.name == model]
        return f"--format {row.format}" + (" --remote-code" if row.remote_code else "")

    def plan(self) -> dict[str, Any]:
        """What guards the budget while fetching, see `jobs.fetch_plan`: bytes on disk, and what is wanted.

        Cells are named with the requests they answer: a cell whose task could not be frozen is never scored.
        """
        budget, store = self._weights["disk_gb"], self._study.config["scoring"]["store"]
        wanted = {
            c.marker: [
                [
                    cell_path(c, task),
                    str(path_of(store, self._study.identity(c, task))),
                    self._study.tasks[task].frozen,
                ]
                for task in missing(self._study, c)
            ]
            for c in self._needed
        }
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": time.time(),
            "budget_bytes": None if budget is None else round(budget * GB),
            "stay": sorted(self._stay),
            "wanted": wanted,
        }

    def check(self) -> None:
        """Raise `ConfigError` if the budget cannot hold some weights beside those that stay."""
        if self._weights["disk_gb"] is None:
            return
        needed = {c.marker for c in self._needed}
        staying = {c.marker: c.peak_disk_bytes for c in self._hub if c.marker in self._stay}
        held = sum(size for marker, size in staying.items() if marker in needed or is_fetched(marker))
        passing = {c.marker: c.peak_disk_bytes for c in self._hub if c.marker not in self._stay}
        largest = max(self._needed, key=lambda c: passing.get(c.marker, 0), default=None)
        if largest is None:
            return
        own = 0 if largest.marker in self._stay else largest.peak_disk_bytes
        if held + own > round(self._weights["disk_gb"] * GB):
            raise ConfigError(
                f"weights.disk_gb: found {self._weights['disk_gb']}, but {largest.model}/{largest.name} "
                f"needs {largest.peak_disk_bytes / GB:.3g} GB beside {held / GB:.3g} GB that stay; allow more"
                f"{', or keep less (weights.keep)' if held else ''}."
            )

    @cached_property
    def _needed(self) -> list[Checkpoint]:
        """Checkpoints with a cell to score, in order; each directory once."""
        found = {c.marker: c for c in self._hub if missing(self._study, c)}
        return list(found.values())

    def _staying(self, model: str) -> tuple[Checkpoint, ...]:
        checkpoints = self._study.models[model].checkpoints
        keep = self._weights["keep"]
        if keep == "all":
            return checkpoints
        return () if keep == "none" else checkpoints[-keep:]


def _lies(checkpoint: Checkpoint) -> bool:
    """Whether the weights are there as a whole: their record is written last and read first."""
    return is_fetched(checkpoint.marker)
