"""The end of a run: clean up, print the results in words or what failed, and set the exit status.

A run with nothing to do prints the same summary.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path

from ebbtide.errors import StorageError
from ebbtide.jobs.weight_budget import WEIGHT_RULES, WeightBudget
from ebbtide.notices import Notice
from ebbtide.study.study import Study

# Rules that use weights from the hub. Runs without them, such as `snakemake lock`, remove no weights.
_WEIGHT_RULES = {"score", *WEIGHT_RULES}


def end_of_run(
    study: Study, budget: WeightBudget, rules: Collection[str], notices: Sequence[Notice] = ()
) -> int:
    """Clean up and print; returns the exit status, 0 unless `check_alarms` was asked for.

    Parameters
    ----------
    rules
        Names of the rules in the graph of the run.
    notices
        What is true of this run only, and not of its results.
    """
    if _WEIGHT_RULES & set(rules):
        budget.clean_up()
    results = Path("results") / study.name
    _print_summary(results, rules)
    if notices:
        from ebbtide.report.summary import notice_lines

        print(*notice_lines(notices), sep="\n")
    _print_scaling(results, rules)
    if "check_alarms" not in rules:
        return 0
    from ebbtide.report.gate.reports import directory, read_verdict

    found, reason = read_verdict(directory(results))
    print(reason)
    return found


def clear_gate(study: Study, rules: Collection[str]) -> None:
    """Remove the reports of an earlier `check_alarms` if the run makes new ones, so that none is stale."""
    if "check_alarms" in rules:
        from ebbtide.report.gate.reports import directory, remove_reports

        remove_reports(directory(Path("results") / study.name))


def gate_not_checked(study: Study, causes: Sequence[str]) -> str:
    """Write the reports of a `check_alarms` that failed; returns the reason for its exit status."""
    from ebbtide.report.gate.reports import directory, write_reports
    from ebbtide.report.gate.verdict import not_checked

    today = datetime.now().astimezone().date()
    gate = not_checked(study.name, study.config["alarms"], today, causes)
    try:
        write_reports(gate, directory(Path("results") / study.name))
    except StorageError as error:  # it may be the cause
        return f"{gate.reason} It has no reports: {error}"
    return gate.reason


def nothing_to_do(study: Study, rules: Collection[str], *, dry_run: bool = False) -> None:
    """Print the summary of a run without jobs, and how to make the report; in a dry run only the latter."""
    results = Path("results") / study.name
    if not dry_run:
        _print_summary(results, rules)
        _print_scaling(results, rules)
    if "summary" in rules:
        print(
            f"The results of {study.name} are up to date. Summary: {results}/summary.txt. "
            f"For the report, add --report {results}/report.zip to this command."
        )


def failed_run(study: Study, causes: Sequence[str], unfinished: Sequence[str]) -> list[str]:
    """Return what a run that failed says last: what is left, how to see more, and the causes."""
    file = "" if study.file in ("config.yaml", "--config") else f" {study.file}"
    return [*unfinished, f"To see what is there and what failed, run: ebbtide status{file}", *causes]


def _print_summary(results: Path, rules: Collection[str]) -> None:
    if "summary" in rules and (results / "summary.txt").exists():
        from ebbtide.report.summary import for_terminal

        text = (results / "summary.txt").read_text(encoding="utf-8")
        print(for_terminal(text, results / "summary.txt"))


def _print_scaling(results: Path, rules: Collection[str]) -> None:
    if "scaling_laws_summary" in rules and (results / "scaling.txt").exists():
        print((results / "scaling.txt").read_text(encoding="utf-8"))
