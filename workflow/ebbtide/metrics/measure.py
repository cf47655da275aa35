"""Measure the cells of one checkpoint: a table of metrics, and a table of metrics per example."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ebbtide.cells.cell import read_cell
from ebbtide.cells.validity import check_rows
from ebbtide.errors import ConfigError
from ebbtide.metrics.notices import cell_notices
from ebbtide.metrics.of_cell import loglikelihoods_sha256, measured, metrics_rows
from ebbtide.metrics.texts import text_digests, texts_record
from ebbtide.notices import Notice
from ebbtide.tables import EXAMPLES, METRICS, REQUESTS, read_footer, read_frame, write_parquet

BOOTSTRAP_DRAWS = 1000  # for standard errors that lm-eval bootstraps
CHECKPOINT = ("model", "checkpoint", "step", "tokens", "parameters_nominal")


class Measured(NamedTuple):
    """The results of one cell."""

    metrics: pd.DataFrame  # tables.METRICS
    examples: pd.DataFrame | None  # tables.EXAMPLES; None for a task measured by lm-eval's own code
    loglikelihoods: str  # digest
    notices: list[Notice]
    texts: Mapping[str, Any]  # digest and number of examples


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
        task, and the notices about the cells.
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
    metrics = pd.concat([cell.metrics for cell in found.values()], ignore_index=True)
    no_examples = pd.DataFrame({name: pd.Series(dtype="str") for name in EXAMPLES.columns})
    of_examples = [cell.examples.assign(task=t) for t, cell in found.items() if cell.examples is not None]
    sizes = {name: int(metrics[name].iloc[0]) for name in METRICS.columns if name.startswith("parameters_")}
    write_parquet(
        pd.concat([no_examples, *of_examples], ignore_index=True),
        examples,
        EXAMPLES,
        {"place": {**checkpoint, **sizes}, "requests": {task: cell.texts for task, cell in found.items()}},
    )
    digests = {task: cell.loglikelihoods for task, cell in found.items()}
    notices = [notice.record() for cell in found.values() for notice in cell.notices]
    write_parquet(metrics, to, METRICS, {"loglikelihoods": digests, "notices": notices})


def measure_cell(
    cell: str | Path, requests: str | Path, checkpoint: Mapping[str, Any], expected: Mapping[str, Any]
) -> Measured:
    """Measure one cell of `checkpoint`; `expected` is an entry of `cells` in `measure_checkpoint`."""
    frozen = read_footer(requests, REQUESTS)
    scores, footer = read_cell(cell, expected["identity"], frozen["content_sha256"])
    table = read_frame(requests, REQUESTS)
    check_rows(scores, table, cell)
    definition = _definition(frozen, expected.get("measuring", {}))
    place = {"model": checkpoint["model"], "checkpoint": checkpoint["checkpoint"], "task": expected["task"]}
    rows, examples = [], None
    for metrics, of_examples in _measurements(scores, table, frozen.get("lm_eval"), definition):
        rows.append(metrics_rows(metrics, footer, {**checkpoint, "task": expected["task"]}))
        examples = of_examples if examples is None else examples
    return Measured(
        pd.concat(rows, ignore_index=True),
        examples,
        loglikelihoods_sha256(scores),
        cell_notices(scores, footer, table, definition, **place),
        texts_record(text_digests(table)),
    )


def _definition(frozen: Mapping[str, Any], measuring: Mapping[str, Any]) -> dict[str, Any] | None:
    """The definition to measure with; None if only lm-eval's code knows the gold of the task."""
    if (frozen.get("lm_eval") or {}).get("own_process_results"):
        return None
    return {"kind": frozen.get("definition", {}).get("kind", "choice"), **measuring}


def _measurements(
    scores: pd.DataFrame,
    requests: pd.DataFrame,
    record: Mapping[str, Any] | None,
    definition: Mapping[str, Any] | None,
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame | None]]:
    """Yield metrics and examples: of lm-eval's code for its tasks (`record`), and ours with `definition`."""
    if record is not None:
        from ebbtide.tasks.lm_eval.results import results_of

        yield results_of(scores, requests, record, bootstrap_iters=BOOTSTRAP_DRAWS), None
    if definition is not None:
        yield measured(scores, requests, definition)


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
