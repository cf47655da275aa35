"""The end of a run: what is printed, and the exit status."""

from collections.abc import Collection
from pathlib import Path

from ebbtide.study.study import Study


def end_of_run(study: Study, results: str, rules: Collection[str]) -> tuple[str, int]:
    """Text for the terminal, and the exit status: 1 where alarms were asked for and are grave enough.

    Parameters
    ----------
    results
        Directory of the study's results.
    rules
        Names of the rules in the graph of the run.
    """
    text, status = "", 0
    scaling = Path(results) / "scaling.txt"
    if "scaling_laws_summary" in rules and scaling.exists():
        text += scaling.read_text(encoding="utf-8") + "\n"
    if "check_alarms" in rules:
        from ebbtide.statistics.alarms.lines import fails
        from ebbtide.tables import read_tsv

        settings = study.config["alarms"]
        table = read_tsv(f"{results}/alarms.tsv")
        status = int(fails(table, settings["fail_on"], settings["checkpoints"]))
    return text, status
