"""The causes of failed jobs, in few lines.

For a failed submission, Snakemake itself prints all its cells as errors, and its log with hundreds of lines.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ebbtide.jobs.snakemake_internals import FailedJob, is_quiet_about_rules, log_error, on_failed_job
from ebbtide.logs import cause_in

# A signal ends a job before it can write anything; Snakemake does not pass on the status of the process.
SILENT = "failed without an error message; it may have been killed (SIGKILL: out of memory?)."
MOST = 5  # causes listed at the end of a run; with Snakemake's own last lines, they fit in ten


class Failures:
    """The jobs and submissions of this run that failed."""

    def __init__(self, workflow: Any) -> None:
        self._jobs: list[FailedJob] = []
        self._workflow = workflow
        on_failed_job(self._note)

    def lines(self) -> list[str]:
        """Return the causes of jobs whose outputs are missing, at most `MOST`, the most frequent first."""
        # A job that succeeded when it was retried has its outputs.
        failed = [job for job in self._jobs if not all(map(_exists, job.outputs))]
        return by_cause(place for job in failed for place in causes_of(job))

    def _note(self, job: FailedJob) -> None:
        self._jobs.append(job)
        if is_quiet_about_rules(self._workflow):  # otherwise Snakemake reports the failure
            for log, cause in causes_of(job):
                log_error(f"Failed: {log}: {cause}")


def by_cause(places: Iterable[tuple[str, str]]) -> list[str]:
    """Return a line for each cause of (log, cause), at most `MOST`, the most frequent first."""
    logs: dict[str, dict[str, None]] = {}  # cause → its logs, in order
    for log, cause in places:
        logs.setdefault(cause, {})[log] = None
    lines = [_line(cause, list(found)) for cause, found in sorted(logs.items(), key=lambda p: -len(p[1]))]
    if len(lines) <= MOST:
        return lines
    return [*lines[: MOST - 1], f"{len(lines) - MOST + 1} other errors, the first: {lines[MOST - 1]}"]


def causes_of(job: FailedJob) -> list[tuple[str, str]]:
    """Return the logs of a failed job that end with an error, and the errors.

    Jobs of a submission that succeeded, or that never ran, are not listed. If no rule reported an error, what
    the scheduler wrote is the cause, such as a time limit.
    """
    found = list(_errors(job.logs)) or list(_errors(job.scheduler_logs))
    if found:
        return found
    logs = [*job.scheduler_logs, *job.logs]
    written = [log for log in logs if Path(log).exists()]
    return [((written or logs or list(job.outputs))[0], SILENT)]


def _errors(logs: Iterable[str]) -> Iterable[tuple[str, str]]:
    return ((log, cause) for log in logs if (cause := cause_in(log)))


def _exists(output: str) -> bool:
    return Path(output).exists()


def _line(cause: str, logs: list[str]) -> str:
    return f"{logs[0]}{f' and {len(logs) - 1} more' if len(logs) > 1 else ''}: {cause}"
