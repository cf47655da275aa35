"""The disk budget of weights from the hub: they are fetched, scored and evicted within a number of bytes.

Snakemake removes temporary weights when their last cell exists. A Snakemake resource is held only while a job
runs, so it cannot limit the bytes on disk. Instead, the fetching jobs themselves keep the budget
(`checkpoints.hub.disk`): they take no core and wait for disk space. (Dependencies of fetches on scored
checkpoints would also work, but planning such a chain takes Snakemake minutes for a thousand checkpoints.)
"""

import os
import socket
import time
from functools import cached_property
from pathlib import Path
from typing import Any

from ebbtide.cells.store import path_of
from ebbtide.checkpoints.hub.disk import remove
from ebbtide.checkpoints.hub.fetched import fetch_directory, is_fetched
from ebbtide.errors import ConfigError
from ebbtide.grid import Checkpoint
from ebbtide.jobs.leads import MissingCells, cell_path
from ebbtide.study.study import Study

GB = 10**9  # bytes


class WeightBudget:
    """The fetches of one run, within `weights.disk_gb`."""

    def __init__(self, study: Study, cells: MissingCells | None = None) -> None:
        self._study = study
        self._cells = cells or MissingCells(study)
        self._weights = study.config["weights"]
        self._hub = [c for model in study.hub for c in study.models[model.name].checkpoints]
        # Marker → where the weights are or will be fetched to.
        self._directories = {c.marker: fetch_directory(c.marker) for c in self._hub}
        self._kept = {c.marker for model in study.hub for c in self._to_keep(model.name)}

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

    def unneeded(self) -> list[Path]:
        """Return the weights on disk that are not kept and that no cell of the study needs."""
        now = MissingCells(self._study)  # after a run, other cells exist than when it was planned
        waiting = {c.marker for c in self._hub if now.of(c)}
        unused = (self.directory(c.marker) for c in self._hub if c.marker not in self._kept | waiting)
        return [Path(directory) for directory in unused if is_fetched(directory)]

    def clean_up(self) -> None:
        """Remove, at the end of a run, weights that no cell needs and leftovers of interrupted removals.

        Snakemake removes the temporary outputs of its own jobs, so these are from killed runs. Weights that
        were fetched beside such a leftover (see `hub.fetched.fetch_directory`) get its name.
        """
        for weights in self.unneeded():
            remove(weights)
        for marker, directory in self._directories.items():
            if directory != marker:
                remove(Path(marker))
                if is_fetched(directory):
                    Path(directory).rename(marker)

    def options(self, model: str) -> str:
        """Return the options of `fetch-checkpoint` for a model."""
        [row] = [row for row in self._study.hub if row.name == model]
        return f"--format {row.format}" + (" --remote-code" if row.remote_code else "")

    def plan(self) -> dict[str, Any]:
        """Return the plan that fetches read (see `jobs.fetch_plan`): the budget, and the cells to score.

        Cells are listed with their requests, because a cell whose task could not be frozen is never scored.
        """
        budget, store = self._weights["disk_gb"], self._study.config["scoring"]["store"]
        wanted = {
            self.directory(c.marker): [
                [
                    cell_path(c, task),
                    str(path_of(store, self._study.identity(c, task))),
                    self._study.tasks[task].frozen,
                ]
                for task in self._cells.of(c)
            ]
            for c in self._needed
        }
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": time.time(),
            "budget_bytes": None if budget is None else round(budget * GB),
            "stay": sorted(map(self.directory, self._kept)),
            "wanted": wanted,
        }

    def check(self) -> None:
        """Raise `ConfigError` if the budget is too small for some weights together with those to keep."""
        if self._weights["disk_gb"] is None:
            return
        staying = {c.marker: c.peak_disk_bytes for c in self._hub if c.marker in self._kept}
        passing = {c.marker: c.peak_disk_bytes for c in self._hub if c.marker not in self._kept}
        if sum(staying.values()) + max(passing.values(), default=0) <= round(self._weights["disk_gb"] * GB):
            return  # whichever cells are missing: looking for all of them takes long
        needed = {c.marker for c in self._needed}
        there = {marker for marker in staying if is_fetched(self.directory(marker))}
        held = sum(size for marker, size in staying.items() if marker in needed | there)
        largest = max(self._needed, key=lambda c: passing.get(c.marker, 0), default=None)
        if largest is None:
            return
        own = 0 if largest.marker in self._kept else largest.peak_disk_bytes
        if held + own > round(self._weights["disk_gb"] * GB):
            raise ConfigError(
                f"weights.disk_gb: found {self._weights['disk_gb']}, but {largest.model}/{largest.name} "
                f"needs {largest.peak_disk_bytes / GB:.3g} GB in addition to {held / GB:.3g} GB of kept "
                f"weights; increase it{', or keep fewer weights (weights.keep)' if held else ''}."
            )

    @cached_property
    def _needed(self) -> list[Checkpoint]:
        """Checkpoints with a cell to score, in order, once per directory."""
        found = {c.marker: c for c in self._hub if self._cells.of(c)}
        return list(found.values())

    def _to_keep(self, model: str) -> tuple[Checkpoint, ...]:
        checkpoints = self._study.models[model].checkpoints
        keep = self._weights["keep"]
        if keep == "all":
            return checkpoints
        return () if keep == "none" else checkpoints[-keep:]
