"""The end of a successful run: clean up, print the results in words, and set the exit status.

A run with nothing to do says where the results are.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path

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
    if "summary" in rules and (results / "summary.txt").exists():
        from ebbtide.report.summary import for_terminal

        text = (results / "summary.txt").read_text(encoding="utf-8")
        print(for_terminal(text, results / "summary.txt"))
    if notices:
        from ebbtide.report.summary import notice_lines

        print(*notice_lines(notices), sep="\n")
    if "scaling_laws_summary" in rules and (results / "scaling.txt").exists():
        print((results / "scaling.txt").read_text(encoding="utf-8"))
    if "check_alarms" not in rules:
        return 0
    from ebbtide.statistics.alarms.lines import status
    from ebbtide.tables import read_tsv

    alarms, missing = (read_tsv(results / f"{name}.tsv") for name in ("alarms", "not_compared"))
    found, reason = status(alarms, missing, study.config["alarms"], datetime.now().astimezone().date())
    print(reason)
    return found


def nothing_to_do(study: Study, rules: Collection[str]) -> None:
    """Print where the summary is and how to make the report, if they are targets of a run without jobs."""
    results = Path("results") / study.name
    if "summary" in rules:
        print(
            f"The results of {study.name} are up to date. Summary: {results}/summary.txt. "
            f"For the report, add --report {results}/report.zip to this command."
        )
