"""The reports of the gate on disk, below `results/{study}/gate/`."""

from collections.abc import Callable
from pathlib import Path

from ebbtide.errors import StorageError
from ebbtide.files import read_json, storage_errors, write_text
from ebbtide.report.gate.document import as_json
from ebbtide.report.gate.gate import WRONG, Gate
from ebbtide.report.gate.junit import as_junit
from ebbtide.report.gate.markdown import as_markdown
from ebbtide.report.gate.slack import as_slack

REPORTS: dict[str, Callable[[Gate], str]] = {
    "gate.md": as_markdown,
    "junit.xml": as_junit,
    "slack.json": as_slack,
    "gate.json": as_json,  # last: it has the exit status
}


def directory(results: str | Path) -> Path:
    """Return the directory of the reports of a study, by the directory of its results."""
    return Path(results) / "gate"


def write_reports(gate: Gate, to: Path) -> None:
    """Write every report, each atomically."""
    for name, report in REPORTS.items():
        write_text(report(gate), to / name)


def remove_reports(to: Path) -> None:
    """Remove the reports of an earlier run, so that nobody takes them for those of this one.

    Raises `StorageError` if one cannot be removed.
    """
    for path in (to / name for name in reversed(REPORTS)):
        with storage_errors(path, path):
            path.unlink(missing_ok=True)


def read_verdict(to: Path) -> tuple[int, str]:
    """Return the exit status and the reason that `gate.json` has; 2 and why if it cannot be read."""
    try:
        found = read_json(to / "gate.json", StorageError)
        return int(found["status"]), str(found["reason"])
    except (StorageError, KeyError, ValueError, TypeError) as error:
        reason = str(error.args[0]).rstrip(".")
        return WRONG, f"The verdict is not known, because {reason}: exit status {WRONG}."
