"""TensorBoard: one event file per run, always complete and in the order of training.

    {directory}/{study}/{model}/events.out.tfevents.{number}.{description}.ebbtide

TensorBoard takes a step that is not greater than the last for a restart of the training, and drops what it
has from there on. So an earlier checkpoint cannot be appended: every publication writes a whole file with
the next number, for which a running TensorBoard drops the old points, and then removes the earlier file.
The name has the digest of what is not a point. Values have 32 bits. The time of an event is its step, in
seconds since 1970, so that equal points make equal files.
"""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from google.protobuf.message import DecodeError
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.text.metadata import create_summary_metadata
from tensorboard.summary.writer.record_writer import RecordWriter

from ebbtide.errors import TrackerError, first_line
from ebbtide.exchange.trackers.points import COLUMNS
from ebbtide.exchange.trackers.tracked_run import Published, TrackedRun, escaped, no_points, points_from
from ebbtide.files import atomic
from ebbtide.notices import listed

_OURS = re.compile(r"events\.out\.tfevents\.(\d{10})\.([0-9a-f]{20})\.ebbtide")
_FRAME = 16  # bytes of a record around its data: length and checksums


class TensorBoard:
    """Event files below a directory; see `tracked_run.Tracker`."""

    real: type[np.floating[Any]] = np.float32
    errors: tuple[type[Exception], ...] = ()

    def __init__(self, directory: Path) -> None:
        self.directory, self.place, self.notes = directory, str(directory), list[str]()

    def published(self, run: TrackedRun) -> Published:
        """Return the points of the newest complete file, and remove those that it replaced."""
        for file in self._files(run):
            try:
                points = points_from(list(_scalars(file)))
            except (ValueError, OSError, DecodeError) as error:
                self.notes.append(f"{file} is damaged ({first_line(error)}); it is written again")
                continue
            _remove([other for other in self._files(run) if _number(other) < _number(file)])
            return Published(points, _description(file))
        return Published(no_points())

    def add(self, run: TrackedRun, new: pd.DataFrame) -> None:
        """Write a file with the points of the newest one and the new ones, and remove the others."""
        known = self.published(run).points
        points = pd.concat([known, new[["name", "step", "value"]]]).sort_values("step", kind="stable")
        earlier = self._files(run)
        number = max((_number(file) for file in earlier), default=0) + 1
        name = f"events.out.tfevents.{number:010}.{run.description}.ebbtide"
        with atomic(self._of(run) / name) as temporary:
            temporary.write_bytes(_content(run, points))
        _remove(earlier)

    def remove(self, run: TrackedRun) -> None:
        """Remove the files of the run."""
        _remove(self._files(run))

    def _of(self, run: TrackedRun) -> Path:
        return self.directory / run.study / run.model

    def _files(self, run: TrackedRun) -> list[Path]:
        """Our files of a run, the newest first. Raises `TrackerError` if there are others."""
        found = [path for path in self._of(run).glob("*tfevents*") if not path.name.startswith(".")]
        if foreign := sorted(path.name for path in found if not _OURS.fullmatch(path.name)):
            raise TrackerError(
                f"{self._of(run)}: found {listed(foreign)}, which `ebbtide publish` has not written; "
                "TensorBoard would mix both. Publish with another --dir."
            )
        return sorted(found, key=_number, reverse=True)


def _content(run: TrackedRun, points: pd.DataFrame) -> bytes:
    """The bytes of an event file."""
    buffer = io.BytesIO()
    writer = RecordWriter(buffer)
    writer.write(Event(wall_time=0, file_version="brain.Event:2").SerializeToString())
    texts: dict[int, list[Any]] = {}
    first = int(points["step"].min()) if len(points) else 0
    texts.setdefault(first, []).append(_text("run", _table(run)))
    by_step: dict[int, list[str]] = {}
    for alarm in run.alarms:
        by_step.setdefault(alarm.step, []).append(f"* {escaped(alarm.text)}")
    for step, lines in by_step.items():
        texts.setdefault(step, []).append(_text("alarms", "\n".join(lines)))
    values: dict[int, list[Any]] = {}
    for name, step, value in points[list(COLUMNS[:3])].itertuples(index=False):
        values.setdefault(int(step), []).append(Summary.Value(tag=name, simple_value=value))
    for step in sorted({*values, *texts}):
        event = Event(wall_time=step, step=step)
        event.summary.value.extend([*values.get(step, []), *texts.get(step, [])])
        writer.write(event.SerializeToString())
    return buffer.getvalue()


def _text(tag: str, markdown: str) -> Any:
    tensor = TensorProto(
        dtype=DT_STRING,
        string_val=[markdown.encode()],
        tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
    )
    return Summary.Value(tag=tag, tensor=tensor, metadata=create_summary_metadata(tag, ""))


def _table(run: TrackedRun) -> str:
    """Configuration and identities as a table."""
    rows = {**run.config, **{f"identity of {name}": digest for name, digest in run.identities.items()}}
    lines = [f"| {escaped(str(key))} | {escaped(str(value))} |" for key, value in rows.items()]
    return "\n".join(["| key | value |", "|---|---|", *lines])


def _scalars(file: Path) -> Iterator[tuple[str, int, float]]:
    """The points of a file. Raises `ValueError` for a damaged one, of which the reader returns a part."""
    size = 0
    for record in RawEventFileLoader(str(file)).Load():
        size += len(record) + _FRAME
        event = Event.FromString(record)
        for value in event.summary.value:
            if value.HasField("simple_value"):
                yield value.tag, event.step, value.simple_value
    if size != file.stat().st_size:
        raise ValueError(f"a record is incomplete or has a wrong checksum after {size:,} bytes")


def _number(file: Path) -> int:
    found = _OURS.fullmatch(file.name)
    return int(found[1]) if found else 0


def _description(file: Path) -> str:
    found = _OURS.fullmatch(file.name)
    return found[2] if found else ""


def _remove(files: list[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)
