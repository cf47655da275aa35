"""The parts of Snakemake that its documentation does not promise. No other module or rule file touches them.

`tests/workflow/test_snakemake_internals.py` holds each against the installed version.
"""

from typing import Any


def limit_resource(workflow: Any, name: str, limit: int) -> None:
    """Set the limit of a global resource, unless the command line or a profile has set it."""
    workflow.global_resources.setdefault(name, limit)


def planned_rules(workflow: Any) -> set[str]:
    """Names of the rules in the graph of this run, whether their jobs run or not."""
    return {job.rule.name for job in workflow.dag.jobs}


def jobs_to_run(workflow: Any, rule: str) -> list[Any]:
    """Wildcards of the jobs of a rule that this run executes."""
    return [job.wildcards for job in workflow.dag.needrun_jobs() if job.rule.name == rule]
