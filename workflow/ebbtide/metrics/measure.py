"""Measure the cells of one checkpoint: a table of metrics, and a table of metrics per example."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from ebbtide.arrow import Columns, arrow_of, columns_of
from ebbtide.cells.cell import read_cell
from ebbtide.cells.provenance import provenance_of
from ebbtide.cells.samples import columns_per_row, is_sampled, with_choices
from ebbtide.cells.validity import check_rows
from ebbtide.errors import CellError, ConfigError
from ebbtide.metrics.examples import TEXTS, Examples, key_order, without_texts
from ebbtide.metrics.notices import cell_notices
from ebbtide.metrics.of_cell import (
    example_rows,
    examples_of,
    loglikelihoods_sha256,
    metrics_of,
    metrics_rows,
    texts_needed,
)
from ebbtide.metrics.registry import Metric
from ebbtide.notices import Notice
from ebbtide.tables import EXAMPLES, METRICS, REQUESTS, read_footer, read_parquet, write_parquet
from ebbtide.tasks.texts import text_digests, texts_record

BOOTSTRAP_DRAWS = 1000  # for standard errors that lm-eval bootstraps
CHECKPOINT = ("model", "checkpoint", "step", "tokens", "parameters_nominal")


class Measured(NamedTuple):
    """The results of one cell."""

    metrics: Columns  # tables.METRICS
    examples: Columns | None  # tables.EXAMPLES; None for a task measured by lm-eval's own code
    loglikelihoods: str  # digest
    notices: list[Notice]
    texts: Mapping[str, Any]  # digest and number of examples
    footer: Mapping[str, Any]  # of the cell


def measure_checkpoint(
    cells: Sequence[str | Path],
    requests: Sequence[str | Path],
    expected: Mapping[str, Any],
    to: str | Path,
    examples: str | Path,
) -> None:
    """Measure the cells of one checkpoint and write both tables.

    Parameters
    ----------
    cells, requests
        Files of the cells and of the frozen tasks, in the same order.
    expected
        `model, checkpoint, step, tokens, parameters_nominal` of the checkpoint, and `cells`: for each file
        the `task`, the `identity` that the cell must have, and optionally `measuring`, the keys of the task's
        definition that change only the metrics.
    to
        File for the table of metrics (`tables.METRICS`). Its footer has a digest of the log-likelihoods by
        task, the notices about the cells, and how they were made (`cells.provenance`).
    examples
        File for the table of examples (`tables.EXAMPLES`). Its footer has the checkpoint, and a digest of the
        texts by task.

    Raises
    ------
    ConfigError
        `expected` lacks a key, or does not list as many cells as there are files.
    CellError
        A cell is missing, damaged, not the expected one, or cannot be measured.
    """
    _check(expected, cells, requests)
    checkpoint = {name: expected[name] for name in CHECKPOINT}
    found = {
        of["task"]: measure_cell(cell, task, checkpoint, of)
        for cell, task, of in zip(cells, requests, expected["cells"], strict=True)
    }
    metrics = _joined([cell.metrics for cell in found.values()], METRICS.columns)
    of_examples = [
        {"task": np.full(len(cell.examples["example"]), task, object), **cell.examples}
        for task, cell in found.items()
        if cell.examples is not None
    ]
    sizes = {n: int(metrics[n][0]) for n in METRICS.columns if n.startswith("parameters_")}
    write_parquet(
        arrow_of(_joined(of_examples, EXAMPLES.columns)),
        examples,
        EXAMPLES,
        {"place": {**checkpoint, **sizes}, "requests": {task: cell.texts for task, cell in found.items()}},
    )
    digests = {task: cell.loglikelihoods for task, cell in found.items()}
    notices = [notice.record() for cell in found.values() for notice in cell.notices]
    footer = {"loglikelihoods": digests, "notices": notices}
    footer["provenance"] = {**checkpoint, **provenance_of([cell.footer for cell in found.values()])}
    write_parquet(arrow_of(metrics), to, METRICS, footer)


class _Cell(NamedTuple):
    """A cell and its frozen task, read and checked."""

    scores: pa.Table
    rows: Columns
    footer: Mapping[str, Any]
    requests: pa.Table
    frozen: Mapping[str, Any]
    order: np.ndarray  # of its rows by example and choice
    definition: Mapping[str, Any] | None  # None if only lm-eval's code knows the gold of the task
    x: Examples | None


def measure_cell(
    cell: str | Path, requests: str | Path, checkpoint: Mapping[str, Any], expected: Mapping[str, Any]
) -> Measured:
    """Measure one cell of `checkpoint`; `expected` is an entry of `cells` in `measure_checkpoint`."""
    read = _read(cell, requests, expected)
    x, frozen, definition = read.x, read.frozen, read.definition
    place = {**checkpoint, "task": expected["task"]}
    where = {name: place[name] for name in ("model", "checkpoint", "task")}
    by_lm_eval = "lm_eval" in frozen and not is_sampled(read.footer)  # of samples, the texts are gone
    parts = [_of_lm_eval(read.scores, read.requests, frozen["lm_eval"])] if by_lm_eval else []
    parts += [] if x is None else [metrics_of(x, definition or {})]
    return Measured(
        _joined([metrics_rows(part, read.footer, place) for part in parts], METRICS.columns),
        None if x is None else example_rows(x, definition or {}),
        loglikelihoods_sha256(read.rows, read.order),
        cell_notices(read.rows, read.footer, x, definition, where),
        frozen["texts"] if "texts" in frozen else texts_record(text_digests(read.requests.to_pandas())),
        read.footer,
    )


def values_by_example(
    cell: str | Path, requests: str | Path, expected: Mapping[str, Any], wanted: Callable[[Metric], bool]
) -> Columns | None:
    """Return the `example_rows` of a cell; None if only lm-eval's own code can measure it.

    Raises `CellError` as `measure_checkpoint` does.
    """
    read = _read(cell, requests, expected)
    return None if read.x is None else example_rows(read.x, read.definition or {}, wanted)


def read_examples(
    cell: str | Path, requests: str | Path, expected: Mapping[str, Any]
) -> tuple[Examples, Mapping[str, Any]]:
    """Return the examples of a cell, and its footer.

    Raises `CellError` as `measure_checkpoint` does, also for a task that only lm-eval's own code can measure.
    """
    read = _read(cell, requests, expected)
    if read.x is None:
        raise CellError(f"{requests}: lm-eval's own code measures this task as a whole, not by example.")
    return read.x, read.footer


def _read(cell: str | Path, requests: str | Path, expected: Mapping[str, Any]) -> _Cell:
    frozen = read_footer(requests, REQUESTS)
    scores, footer = read_cell(cell, expected["identity"], frozen["content_sha256"])
    scores = with_choices(scores, footer)
    # Files of earlier versions lack the digest of the texts, and lm-eval's code reads the texts themselves.
    whole = "texts" not in frozen or "lm_eval" in frozen
    definition = measured_definition(frozen, expected.get("measuring", {}))
    unread = set(TEXTS) - texts_needed(definition or {})
    table = read_parquet(requests, REQUESTS, wanted=None if whole else lambda name: name not in unread)
    rows, asked = columns_of(scores), columns_per_row(without_texts(table), footer)
    check_rows(rows, asked, cell)
    order = key_order(rows)
    x = None if definition is None else examples_of(rows, asked, definition, order)
    return _Cell(scores, rows, footer, table, frozen, order, definition, x)


def _joined(parts: Sequence[Columns], names: Iterable[str]) -> Columns:
    """Concatenate columns. A metric that a part lacks is NaN there."""
    joined: Columns = {name: np.empty(0, dtype=object) for name in names}
    for name in dict.fromkeys([*names, *(name for part in parts for name in part)] if parts else ()):
        lacking = [np.full(len(part["task"]), np.nan) if name not in part else part[name] for part in parts]
        joined[name] = np.concatenate(lacking)
    return joined


def measured_definition(frozen: Mapping[str, Any], measuring: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the definition to measure with; None if only lm-eval's code knows the gold of the task."""
    if (frozen.get("lm_eval") or {}).get("own_process_results"):
        return None
    own = frozen.get("definition", {})
    return {"kind": own.get("kind", "choice"), "texts": own.get("texts", {}), **measuring}


def _of_lm_eval(scores: pa.Table, requests: pa.Table, record: Mapping[str, Any]) -> Columns:
    """Metrics of a task of lm-eval by its own code."""
    from ebbtide.tasks.lm_eval.results import results_of

    found = results_of(scores.to_pandas(), requests.to_pandas(), record, bootstrap_iters=BOOTSTRAP_DRAWS)
    return columns_of(found)


def _check(expected: Mapping[str, Any], cells: Sequence[str | Path], requests: Sequence[str | Path]) -> None:
    for name in (*CHECKPOINT, "cells"):
        if name not in expected:
            raise ConfigError(
                f"--expected: found no {name!r}; allowed: JSON with {', '.join((*CHECKPOINT, 'cells'))}."
            )
    counts = {
        "--cells": len(cells),
        "--requests": len(requests),
        "cells in --expected": len(expected["cells"]),
    }
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{count} {option}" for option, count in counts.items())
        raise ConfigError(f"measure: found {found}; allowed: equal numbers of each, in the same order.")
