"""All uses of undocumented parts of Snakemake.

`tests/workflow/test_snakemake_internals.py` tests each with the installed version.
"""

import inspect
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from itertools import takewhile
from pathlib import PurePath
from typing import Any, TypeVar

from snakemake.common import NOTHING_TO_BE_DONE_MSG  # type: ignore[import-untyped]
from snakemake.settings.enums import Quietness  # type: ignore[import-untyped]
from snakemake.target_jobs import parse_target_jobs_cli_args  # type: ignore[import-untyped]
from snakemake_interface_logger_plugins.common import LogEvent

from ebbtide.texts import for_script

_LOGGER = "snakemake.logging"
TARGET_JOBS = "--target-jobs"
F = TypeVar("F", bound=Callable[..., Any])


def limit_resource(workflow: Any, name: str, limit: int) -> None:
    """Set the limit of a global resource unless the command line or a profile sets it."""
    workflow.global_resources.setdefault(name, limit)


def is_job(workflow: Any) -> bool:
    """Whether this process is a job that parses the workflow again, on this machine or another."""
    return not workflow.is_main_process


def jobs_run_here(workflow: Any) -> bool:
    """Whether the jobs of this run are started on this machine, not submitted. Unknown while parsing.

    A dry run has no executor of its own; one that would submit jobs limits their number.
    """
    if workflow.dryrun:
        return workflow.resource_settings.nodes is None
    return bool(workflow.local_exec)


def models_of_process(workflow: Any) -> set[str] | None:
    """Return the values of the wildcard `model` in the jobs that a process was started for, as on a cluster.

    None for a run itself, and if some job has no such wildcard. Snakemake knows its target jobs only after it
    has read the Snakefile, so they are read from its command line.
    """
    if not is_job(workflow) or TARGET_JOBS not in sys.argv:
        return None
    after = sys.argv[sys.argv.index(TARGET_JOBS) + 1 :]
    jobs = parse_target_jobs_cli_args(list(takewhile(lambda argument: not argument.startswith("-"), after)))
    models = [job.wildcards_dict.get("model") for job in jobs]
    return None if None in models else set(models)


def planned_rules(workflow: Any) -> set[str]:
    """Return the names of all rules in the job graph, including those whose jobs need not run."""
    return {job.rule.name for job in workflow.dag.jobs}


def jobs_to_run(workflow: Any, rule: str) -> list[Any]:
    """Return the wildcards of the jobs of a rule that this run executes."""
    return [job.wildcards for job in workflow.dag.needrun_jobs() if job.rule.name == rule]


def slurm_status_checks(workflow: Any) -> tuple[str, int] | None:
    """Return the command for the status of submissions and the seconds to its first use, if Slurm is used."""
    settings = workflow.executor_settings
    if not hasattr(settings, "status_command"):
        return None
    return settings.status_command, settings.init_seconds_before_status_checks


@dataclass(frozen=True)
class FailedJob:
    """A job or submission that failed: the outputs and logs of its rules, and the logs of the scheduler."""

    outputs: Sequence[str]
    logs: Sequence[str]
    scheduler_logs: Sequence[str] = ()


def on_failed_job(report: Callable[[FailedJob], None]) -> None:
    """Call `report` for each job or submission that fails, from the thread that notices it."""
    logging.getLogger(_LOGGER).addHandler(_FailedJobs(report))


def on_nothing_to_do(report: Callable[[], None]) -> None:
    """Call `report` if a run finds all its targets up to date: Snakemake then calls none of its hooks."""
    logging.getLogger(_LOGGER).addHandler(_NothingToDo(report))


# Messages about single jobs, and about what every run does.
_PER_JOB = {
    *(LogEvent.JOB_INFO, LogEvent.JOB_STARTED, LogEvent.JOB_FINISHED, LogEvent.GROUP_INFO),
    *(LogEvent.SHELLCMD, LogEvent.PROGRESS, LogEvent.RUN_INFO, LogEvent.WORKFLOW_STARTED),
}
_ROUTINE = (
    *("Building DAG of jobs", "Using shell:", "Provided cores:", "Rules claiming more threads"),
    *("Group jobs: inactive", "Conda environments: ignored", "Singularity containers: ignored"),
    *("Select jobs to execute", "Removing temporary output", "Touching output file"),
)
_STREAM = "DefaultStreamHandler"  # absent if a plugin of --logger prints instead


@dataclass(frozen=True)
class StageReporter:
    """What reports on a run by stage: the name, without suffix, of the file that defines a rule.

    `plan` gets the number of jobs by stage when the run starts, in the order of definition. `start` and
    `finish` get the stage of a job, also of one in a group.
    """

    plan: Callable[[dict[str, int]], None]
    start: Callable[[str], None]
    finish: Callable[[str], None]


def report_by_stage(workflow: Any, reporter: StageReporter) -> None:
    """Replace the terminal output about single jobs by that of a reporter.

    Nothing changes in a job, in a dry run, with --verbose, --printshellcmds or --debug-dag, and where a
    logger plugin prints. Errors, warnings, other messages and Snakemake's log file stay.
    """
    settings, logger = workflow.output_settings, logging.getLogger(_LOGGER)
    own = settings.verbose or settings.printshellcmds or settings.debug_dag or settings.dryrun
    streams = [handler for handler in logger.handlers if handler.name == _STREAM]
    if own or is_job(workflow) or not streams:
        return
    for handler in streams:
        handler.addFilter(_is_not_routine)
    logger.addHandler(_ByStage(workflow, reporter))


def log_progress(text: str) -> None:
    """Print `text` unless --quiet includes progress, and write it to the log of the run."""
    logging.getLogger(_LOGGER).info(text, extra={"quietness": Quietness.PROGRESS})


def _is_not_routine(record: logging.LogRecord) -> bool:
    if record.levelno > logging.INFO:
        return True
    return getattr(record, "event", None) not in _PER_JOB and not str(record.msg).startswith(_ROUTINE)


class _ByStage(logging.Handler):
    """Snakemake counts jobs by rule, and names a job that finishes by its number only."""

    def __init__(self, workflow: Any, reporter: StageReporter) -> None:
        super().__init__(logging.INFO)
        self._workflow, self._reporter = workflow, reporter
        self._stages: dict[str, str] = {}  # by rule
        self._rules: dict[int, str] = {}  # by job

    def emit(self, record: logging.LogRecord) -> None:
        event, found = getattr(record, "event", None), vars(record)
        if event == LogEvent.RUN_INFO:
            self._stages = {r.name: PurePath(str(r.snakefile)).stem for r in self._workflow.rules}
            counts = dict.fromkeys(self._stages.values(), 0)
            for rule, count in found["stats"].items():
                if rule in self._stages:  # not "total"
                    counts[self._stages[rule]] += count
            self._reporter.plan(counts)
        elif event == LogEvent.JOB_INFO:
            self._rules[found["jobid"]] = found["rule_name"]
            self._reporter.start(self._stages.get(found["rule_name"], ""))
        elif event == LogEvent.JOB_FINISHED:
            self._reporter.finish(self._stages.get(self._rules.get(found["job_id"], ""), ""))


def log_error(text: str) -> None:
    """Print `text` as Snakemake prints errors, and write it to Snakemake's log of the run."""
    logging.getLogger(_LOGGER).error(text)


def is_quiet_about_rules(workflow: Any) -> bool:
    """Whether Snakemake prints neither jobs nor their errors (`--quiet rules`)."""
    return any(choice.name == "RULES" for choice in workflow.output_settings.quiet or ())


class _FailedJobs(logging.Handler):
    """Snakemake logs one record for a failed group, and then one for each of its jobs, failed or not."""

    def __init__(self, report: Callable[[FailedJob], None]) -> None:
        super().__init__(logging.ERROR)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        event = getattr(record, "event", None)
        found = vars(record)
        if event == LogEvent.GROUP_ERROR:
            jobs = found["job_error_info"]
            outputs, logs = ([path for job in jobs for path in job[key]] for key in ("output", "log"))
            self._report(FailedJob(outputs, logs, found["aux_logs"]))
        elif event == LogEvent.JOB_ERROR and not found["indent"]:
            self._report(FailedJob(found["output"], found["log"]))


class _NothingToDo(logging.Handler):
    def __init__(self, report: Callable[[], None]) -> None:
        super().__init__(logging.INFO)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg == NOTHING_TO_BE_DONE_MSG:
            self._report()


def escape_report() -> None:
    """Escape the data in Snakemake's report, so that no title in a param or a caption ends its script.

    Snakemake writes them as JSON into elements `<script>`. It imports the module that does so as it starts.
    """
    data = sys.modules.get("snakemake.report.html_reporter.data")
    for name, function in list(vars(data).items()) if data else ():
        if name.startswith("render_") and not hasattr(function, "__wrapped__"):
            setattr(data, name, _escaped(function))


def _escaped(render: Callable[..., str]) -> Callable[..., str]:
    @wraps(render)
    def escaped(*arguments: Any, **options: Any) -> str:
        return for_script(render(*arguments, **options))

    return escaped


def with_signature(function: F) -> F:
    """Keep the signature of an input function with it: Snakemake inspects it again for every job.

    Inspecting takes longer than most input functions.
    """
    function.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return function
