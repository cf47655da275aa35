"""All uses of undocumented parts of Snakemake.

`tests/workflow/test_snakemake_internals.py` tests each with the installed version.
"""

from typing import Any


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


def planned_rules(workflow: Any) -> set[str]:
    """Return the names of all rules in the job graph, including those whose jobs need not run."""
    return {job.rule.name for job in workflow.dag.jobs}


def jobs_to_run(workflow: Any, rule: str) -> list[Any]:
    """Return the wildcards of the jobs of a rule that this run executes."""
    return [job.wildcards for job in workflow.dag.needrun_jobs() if job.rule.name == rule]
