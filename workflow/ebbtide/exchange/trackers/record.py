"""What was published to a tracker that cannot be read back: a table per run, replaced atomically."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ebbtide.errors import CellError, TrackerError
from ebbtide.exchange.trackers.points import COLUMNS
from ebbtide.exchange.trackers.tracked_run import no_points
from ebbtide.tables import INTEGER, REAL, TEXT, Schema, read_footer, read_frame, write_parquet

RECORD = Schema(
    kind="published",
    columns={"name": TEXT, "step": INTEGER, "value": REAL},
    key=(),
    remedy="delete the file and publish again",
)
_POINT = list(COLUMNS[:3])


@dataclass(frozen=True)
class Record:
    """Points of a run that were published.

    Attributes
    ----------
    run
        Key of the run in the tracker.
    rows
        Rows of its history so far; the next row has this number.
    directories
        Names of the directories with its files.
    description
        `TrackedRun.description` as of the last publication.
    """

    points: pd.DataFrame
    run: str = ""
    rows: int = 0
    directories: tuple[str, ...] = ()
    description: str = ""


def read_record(path: Path, owner: dict[str, str]) -> Record:
    """Return the record of a run; an empty one if there is none.

    `owner` names tracker, project, study and model. Raises `TrackerError` for a record that is damaged, or of
    another owner.
    """
    if not path.exists():
        return Record(no_points())
    try:
        footer, points = read_footer(path, RECORD), read_frame(path, RECORD)
    except CellError as error:
        raise TrackerError(str(error).removeprefix("CellError: ")) from None
    found: dict[str, Any] = footer.get("owner", {})
    for key, value in owner.items():
        if found.get(key) != value:
            raise TrackerError(
                f"{path}: found a record of {key} {found.get(key)!r}, expected {value!r}; {RECORD.remedy}."
            )
    own = footer["record"]
    return Record(points, own["run"], own["rows"], tuple(own["directories"]), own["description"])


def write_record(record: Record, path: Path, owner: dict[str, str]) -> None:
    """Write a record, atomically."""
    own = {
        "run": record.run,
        "rows": record.rows,
        "directories": list(record.directories),
        "description": record.description,
    }
    points = record.points[_POINT].astype({"name": "str"})
    points = points.sort_values(_POINT, kind="stable", ignore_index=True)
    write_parquet(points, path, RECORD, {"owner": owner, "record": own})
