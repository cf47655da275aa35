"""Tell others about a pass: publish its results to trackers, and run the command for new alarms."""

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from ebbtide.errors import first_line
from ebbtide.statistics.alarms.alarms import SEVERITIES
from ebbtide.statistics.alarms.allow import is_allowed
from ebbtide.study.columns import read_described
from ebbtide.study.study import Study
from ebbtide.watch.snakemake import Ended, run
from ebbtide.watch.state import State

_KEY = ["model", "checkpoint", "task", "metric", "group", "against"]  # of an alarm


def publish(tracker: str, files: Sequence[str], log: Path) -> str:
    """Send the results of a study to a tracker; return why that failed, or the empty string.

    `files` are those of the run: the study alone may have a checkpoint that is still being written.
    """
    command = [sys.executable, "-m", "ebbtide", "publish", *files, "--to", tracker]
    return _why(run(command, log))


def report_alarms(study: Study, message: str, state: State, log: Path) -> str | None:
    """Run `watch.on_alarm` if there are alarms that were not reported yet.

    Returns None if it was not run, the empty string if it was, and otherwise why that failed.

    The command is run without a shell. Its environment has EBBTIDE_STUDY (the name), EBBTIDE_MESSAGE (the
    verdict of the gate), EBBTIDE_ALARMS (alarms.tsv), EBBTIDE_GATE (the directory of the gate's reports) and
    EBBTIDE_REPORT (the report page). If it fails, the alarms count as not reported.
    """
    results = Path("results", study.name).resolve()
    alarms = _alarms(study, results / "alarms.tsv")
    command = study.config["watch"]["on_alarm"]
    if not command or set(alarms) <= set(state.alarms):
        state.alarms = alarms
        return None
    environment = {
        "EBBTIDE_STUDY": study.name,
        "EBBTIDE_MESSAGE": message,
        "EBBTIDE_ALARMS": str(results / "alarms.tsv"),
        "EBBTIDE_GATE": str(results / "gate"),
        "EBBTIDE_REPORT": str(results / "report/index.html"),
    }
    try:
        failure = _why(run(command, log, environment=environment))
    except OSError as error:
        return f"{command[0]}: {error.strerror or first_line(error)}"
    if not failure:
        state.alarms = alarms
    return failure


def _alarms(study: Study, table: Path) -> list[str]:
    """The alarms at or above `alarms.fail_on` that are not allowed, as text."""
    rows = read_described(table)
    grave = rows["severity"].isin(SEVERITIES[SEVERITIES.index(study.config["alarms"]["fail_on"]) :])
    open_ones = rows[grave & ~is_allowed(rows, datetime.now().astimezone().date())]
    return sorted("/".join(map(str, row)) for row in open_ones[_KEY].itertuples(index=False))


def _why(ended: Ended) -> str:
    if ended.status == 0:
        return ""
    return f"status {ended.status}, {ended.last_words()}"
