"""The results of a whole study, for other tools: from files on disk to a directory of exports."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa

from ebbtide.arrow import metrics_on_disk
from ebbtide.cells.cell import read_cell
from ebbtide.cells.samples import per_row, with_choices
from ebbtide.cells.validity import check_rows
from ebbtide.exchange.every_eval_ever import export_every_eval_ever
from ebbtide.exchange.export import export_lm_eval
from ebbtide.exchange.exported import Exported
from ebbtide.exchange.formats import DEFAULT
from ebbtide.exchange.inspect_log import export_inspect
from ebbtide.exchange.specification import PARAMETERS, CheckpointRow
from ebbtide.exchange.tidy import read_examples, write_examples, write_metrics_csv
from ebbtide.metrics import reliability
from ebbtide.scoring.fitting import PARTS, with_kept
from ebbtide.tables import METRICS, REQUESTS, read_footer, read_frame, read_parquet
from ebbtide.tasks.definition import METRIC_KEYS


@dataclass(frozen=True)
class CellFiles:
    """A scored cell on disk.

    Attributes
    ----------
    cell, requests
        The files.
    identity
        What the cell must have.
    version
        The identity of the task's requests.
    measuring
        The keys of the task's definition that change metrics but not requests, as the study has them now.
    """

    model: str
    checkpoint: str
    step: int
    tokens: int
    task: str
    cell: str
    requests: str
    identity: Mapping[str, Any]
    version: str
    measuring: Mapping[str, Any]


class Written(NamedTuple):
    """What was written in one format: numbers of rows or cells by their names, and what was left out."""

    counts: Mapping[str, int]
    left: Mapping[str, int]


Write = Callable[[Sequence[Exported], CheckpointRow, Path, str], Counter[str]]

# Formats that are written checkpoint by checkpoint. Each writer takes the cells of one checkpoint, its
# place, the directory and the name of the study, and returns what it leaves out.
OF_CHECKPOINTS: Mapping[str, Write] = {
    "lm-eval": export_lm_eval,
    "every-eval-ever": export_every_eval_ever,
    "inspect": export_inspect,
}
TABLES, CSV = "tables", "csv"


def export_results(
    metrics: str | Path,
    cells: Sequence[CellFiles],
    to: Path,
    study: str,
    formats: Collection[str] = DEFAULT,
) -> dict[str, Written]:
    """Write all results of a study below `to`, in each of `formats`; returns what was written, by format.

    `metrics` is the study's table (`tables.METRICS`), `cells` are sorted by checkpoint. `formats` are names
    of `formats.FORMATS`. Both `tables` and `csv` have `reliability.csv`, the bins of the calibration errors,
    only if a task has choices.

    Raises `CellError` for a table or cell that is missing, damaged, or not the one expected.
    """
    table = read_frame(metrics, METRICS)
    found: dict[str, Written] = {}
    for name in (one for one in (TABLES, CSV) if one in formats):
        found[name] = _write_tables(table, cells, to, "parquet" if name == TABLES else "csv")
    writers = {name: write for name, write in OF_CHECKPOINTS.items() if name in formats}
    left: dict[str, Counter[str]] = {name: Counter() for name in writers}
    bins = []
    for (model, checkpoint), of_checkpoint in groupby(cells, key=lambda cell: (cell.model, cell.checkpoint)):
        own = table[(table["model"] == model) & (table["checkpoint"] == checkpoint)]
        files = list(of_checkpoint)
        sizes = {name: int(own[f"parameters_{name}"].iloc[0]) for name in PARAMETERS}
        exported = list(_exported(files, own))
        row = CheckpointRow(model, checkpoint, files[0].step, files[0].tokens, sizes)
        for name, write in writers.items():
            left[name] += write(exported, row, to, study)
        where = {"model": model, "checkpoint": checkpoint}
        bins += [_bins(cell, where) for cell in exported if cell.kind in ("choice", "binary")]
    if bins and (TABLES in found or CSV in found):
        write_metrics_csv(pd.concat(bins, ignore_index=True), to / "reliability.csv")
    return found | {name: Written({"cells": len(cells)}, left[name]) for name in writers}


def _write_tables(table: pd.DataFrame, cells: Sequence[CellFiles], to: Path, suffix: str) -> Written:
    stored = metrics_on_disk(pa.Table.from_pandas(table, preserve_index=False))
    write_metrics_csv(stored.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get), to / "metrics.csv")
    tasks = list(dict.fromkeys(cell.task for cell in cells))
    by_task = sorted(cells, key=lambda cell: tasks.index(cell.task))  # requests are read once for each task
    file = f"examples.{suffix}"
    rows = write_examples(read_examples([vars(cell) for cell in by_task]), to / file)
    return Written({"rows of metrics.csv": len(table), f"rows of {file}": rows}, {})


def _exported(cells: Sequence[CellFiles], metrics: pd.DataFrame) -> Iterator[Exported]:
    for cell in cells:
        frozen: dict[str, Any] = read_footer(cell.requests, REQUESTS)
        rows, footer = read_cell(cell.cell, cell.identity, frozen["content_sha256"])
        # The footer keeps the definition as of freezing; how a task is measured may have changed since.
        definition = {k: v for k, v in frozen["definition"].items() if k == "kind" or k not in METRIC_KEYS}
        own = metrics[metrics["task"] == cell.task]
        rows = with_choices(rows, footer)
        requests = per_row(read_parquet(cell.requests, REQUESTS), footer).to_pandas()
        check_rows(rows, requests, cell.cell)
        if PARTS in requests:  # the prompts that the model read
            kept = zip(requests["context"], requests.pop(PARTS), rows[PARTS].to_pylist(), strict=True)
            requests = requests.assign(context=[with_kept(*of_row) for of_row in kept])
        definition |= cell.measuring
        yield Exported(cell.task, rows.to_pandas(), requests, own, definition, footer, cell.version)


def _bins(cell: Exported, checkpoint: Mapping[str, str]) -> pd.DataFrame:
    """The bins behind the calibration error of one cell."""
    where = {**checkpoint, "task": cell.task}
    table = reliability(cell.rows, cell.requests, cell.definition).assign(**where)
    return table[[*where, *(column for column in table if column not in where)]]
