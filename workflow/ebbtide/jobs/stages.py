"""What a run prints by default: a line for each stage, in place of several for each job."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from ebbtide.jobs.snakemake_internals import StageReporter, log_progress, report_by_stage
from ebbtide.logs import duration
from ebbtide.notices import counted

ENTRY = "Snakefile"  # the stage of rules outside the rule files, such as `all`, which make nothing


class Stages:
    """Counts the jobs of a run by stage, and prints a line when it starts and when a stage is done."""

    def __init__(self, show: Callable[[str], None] = log_progress) -> None:
        self._show = show
        self._planned: dict[str, int] = {}
        self._done: Counter[str] = Counter()
        self._started: dict[str, float] = {}

    def plan(self, jobs: Mapping[str, int]) -> None:
        """Print what will run, from the number of jobs by stage, in the order of the stages."""
        self._planned = {stage: count for stage, count in jobs.items() if count and stage != ENTRY}
        if self._planned:
            stages = ", ".join(f"{stage} {count}" for stage, count in self._planned.items())
            total = counted(sum(self._planned.values()), "job")
            self._show(f"{total} to run: {stages}. (--verbose prints each.)")

    def start(self, stage: str) -> None:
        """Note that a job of a stage starts."""
        self._started.setdefault(stage, time.monotonic())

    def finish(self, stage: str) -> None:
        """Note that a job of a stage is done; print a line if it was the last."""
        self._done[stage] += 1
        if self._done[stage] == self._planned.get(stage):
            seconds = time.monotonic() - self._started.get(stage, time.monotonic())
            jobs = counted(self._done[stage], "job")
            self._show(f"{time.strftime('%H:%M:%S')} {stage}: {jobs} done in {duration(seconds)}")

    def unfinished(self) -> list[str]:
        """Return a line about the stages that are not done, for the end of a run that failed."""
        left = {stage: count for stage, count in self._planned.items() if self._done[stage] < count}
        if not left:
            return []
        parts = ", ".join(f"{stage} {self._done[stage]} of {count}" for stage, count in left.items())
        return [f"Jobs done: {parts}. The same command continues."]


def show_stages(workflow: Any) -> Stages:
    """Print a line for each stage of a run, unless Snakemake's own output was asked for."""
    stages = Stages()
    report_by_stage(workflow, StageReporter(stages.plan, stages.start, stages.finish))
    return stages
