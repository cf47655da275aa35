"""Estimate the accuracy of a checkpoint on a task from a sample of its examples.

Earlier cells of the run choose the sample (see `sampling`).

An estimate is a JSON file, not a cell: no cell of a grid, and nothing computed from cells, can contain it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ebbtide.arrow import array_of, columns_of
from ebbtide.cells.cell import check_cell, written
from ebbtide.cells.samples import per_row, with_choices
from ebbtide.checkpoints.configuration import configuration
from ebbtide.checkpoints.directory import directory_of, identities
from ebbtide.checkpoints.hub.digests import kind_of
from ebbtide.checkpoints.verification import identity_of_kind
from ebbtide.errors import CellError, ConfigError
from ebbtide.files import write_text
from ebbtide.logs import log
from ebbtide.metrics.of_cell import example_rows, examples_of
from ebbtide.notices import listed
from ebbtide.parameters import count
from ebbtide.scoring.encoded_task import encode_task
from ebbtide.scoring.engine import load_scorer, score_task, window_of
from ebbtide.scoring.scorer import Scorer, backend_of
from ebbtide.scoring.version import SCORING_VERSION
from ebbtide.statistics.resampling import named_rng
from ebbtide.statistics.small_evaluation.sampling import CONFIDENCE, LEAST_CHECKPOINTS, Sample, strata_of
from ebbtide.tables import REQUESTS, read_footer, read_parquet

_RULES = ("encoding", "bos", "truncation", "max_length")
_SAME = ("recipe", "dtype", "backend", *_RULES)  # entries of an identity that the cells of a run share


@dataclass(frozen=True)
class Run:
    """The cells of one task for earlier checkpoints of a run, in the order of training."""

    requests: Path
    table: pa.Table  # the requests
    definition: Mapping[str, Any]
    examples: np.ndarray  # (n,) names
    margins: np.ndarray  # (T, n) log-likelihood of the right choice minus that of the best wrong one, nats
    values: np.ndarray  # (T, n) accuracy of each example
    identity: Mapping[str, Any]  # of the last cell
    cells: tuple[Mapping[str, str], ...]  # file and weights of each
    forwarded_tokens: int | None  # of the last cell, if known
    parameters: int  # of the model, all

    @property
    def backend(self) -> str:
        """The back end that scored the cells."""
        return backend_of(self.identity)


def read_run(cells: Sequence[str | Path], requests: str | Path) -> Run:
    """Read and check the cells of a run, in the order of training, and their frozen task.

    Raises
    ------
    ConfigError
        Fewer than two cells, two of one checkpoint, cells of models of different sizes, or cells that were
        scored by different rules.
    CellError
        A file is missing or damaged, or a cell belongs to another task, another scoring version, or a task
        without accuracy and margin by example.
    """
    if len(cells) < LEAST_CHECKPOINTS:
        raise ConfigError(
            f"--cells: found {len(cells)}, allowed: cells of {LEAST_CHECKPOINTS} or more checkpoints, in the "
            "order of training; with fewer, score the whole task (ebbtide score)."
        )
    table = read_parquet(requests, REQUESTS)
    frozen = read_footer(requests, REQUESTS)
    definition = frozen.get("definition", {})
    if (frozen.get("lm_eval") or {}).get("own_process_results"):
        raise CellError(f"{requests}: lm-eval's own code measures this task, so single answers are unknown.")
    read = [(path, *check_cell(path)) for path in cells]
    identity = read[-1][2]["identity"]
    for path, _, footer in read:
        _check(path, footer, frozen["content_sha256"], requests, identity)
    _check_sizes([(str(path), footer["parameters_total"]) for path, _, footer in read])
    _say_models(cells)
    columns = [
        _answers(with_choices(rows, footer), per_row(table, footer), definition, path)
        for path, rows, footer in read
    ]
    margins, values = (np.stack([c[name] for c in columns]) for name in ("margin", "accuracy"))
    _check_distinct([str(path) for path in cells], [f["identity"]["weights"] for _, _, f in read], margins)
    return Run(
        Path(requests),
        table,
        definition,
        columns[0]["example"],
        margins,
        values,
        identity,
        tuple({"file": str(path), "weights": footer["identity"]["weights"]} for path, _, footer in read),
        read[-1][2].get("forwarded_tokens"),
        read[-1][2]["parameters_total"],
    )


def estimate_file(
    run: Run, model: str, half_width: float, to: str | Path, *, threads: int = 1, offload: bool = False
) -> dict[str, Any]:
    """Score examples with one checkpoint until the interval is narrow; write and return the estimate.

    Parameters
    ----------
    model
        Directory of a checkpoint, or a file in it.
    half_width
        Largest half width of the 95 % interval of the accuracy on all examples.
    to
        JSON file to write.
    offload
        See `scoring.engine.load_scorer`.

    Raises
    ------
    ConfigError
        One of the cells is the cell of this checkpoint, or they are those of a model of another size.
    CheckpointError, ScoringError
        See `scoring.engine.load_scorer` and `score_requests`.
    """
    directory = directory_of(model)
    weights, tokenizer = identities(directory)
    counted = count(configuration(directory))
    if counted is not None and counted.total != run.parameters:
        raise ConfigError(
            f"--model: {model} has {counted.total:,} parameters, but {run.cells[-1]['file']} is of a model "
            f"with {run.parameters:,}; name cells of earlier checkpoints of the same run."
        )
    own = {k: identity_of_kind(directory, k) for k in {kind_of(cell["weights"]) for cell in run.cells}}
    for cell in run.cells:
        if cell["weights"] in own.values():
            raise ConfigError(
                f"--model: {model} has the weights of {cell['file']}, which has the answers to all examples."
            )
    scorer = load_scorer(
        directory, run.identity["dtype"], threads, backend=run.backend, weights=weights, offload=offload
    )
    # The name makes the samples of checkpoints independent, and repeatable.
    rng = named_rng(f"{weights} {run.identity['task']} {half_width!r}")
    of = {"model": str(model), "weights": weights, "tokenizer": tokenizer}
    found = of | estimate(run, scorer, half_width, rng) | {"written": written()}
    write_text(json.dumps(found, indent=1) + "\n", to)
    return found


def estimate(run: Run, scorer: Scorer, half_width: float, rng: np.random.Generator) -> dict[str, Any]:
    """Return the estimate: accuracy, interval, the sample and its answers."""
    sample = Sample(strata_of(run.margins, run.values), half_width, rng)
    total = len(run.examples)
    expected = sample.expected_size()
    log.info("the earlier checkpoints predict a sample of about %d of %d examples", expected, total)
    if expected > total / 2:
        log.warning(
            "the earlier checkpoints do not predict these answers well, so an estimate saves little; ebbtide "
            "score scores the whole task, and writes a cell"
        )
    rows = _rows_of_examples(run.table)
    answers: dict[str, float] = {}
    forwarded = 0
    while len(drawn := sample.draw()):
        names = run.examples[drawn]
        part = run.table.take(array_of(sorted(r for name in names for r in rows[name]), pa.int64()))
        task = encode_task(
            scorer,
            part,
            run.requests,
            **{name: run.identity[name] for name in _RULES if name != "max_length"},
            window=window_of(scorer, run.identity["max_length"]),
        )
        scored = score_task(scorer, task, part, run.requests)
        forwarded += scored.footer["forwarded_tokens"]
        found = _answers(scored.rows, part, run.definition, run.requests)
        new = dict(zip(found["example"], found["accuracy"].tolist(), strict=True))
        sample.add(np.array([new[name] for name in names]))
        answers |= {name: new[name] for name in names}
    value, half, count = sample.estimate()
    return {
        "kind": "estimate",
        "metric": "accuracy",
        "value": value,
        "low": max(value - half, 0.0),
        "high": min(value + half, 1.0),
        "half_width": half,
        "confidence": CONFIDENCE,
        "scored_examples": count,
        "examples": total,
        "rounds": sample.rounds,
        "forwarded_tokens": forwarded,
        "forwarded_tokens_of_last_cell": run.forwarded_tokens,
        "requests": str(run.requests),
        "task": run.identity["task"],
        "scoring": {name: run.identity[name] for name in _SAME if name in run.identity},
        "cells": [dict(cell) for cell in run.cells],
        "strata": sample.strata(),
        "answers": answers,
    }


def sentence(found: Mapping[str, Any]) -> str:
    """Return one line about an estimate."""
    of = f"{found['metric']} {found['value']:.4f}"
    count, total = found["scored_examples"], found["examples"]
    if count == total:
        return f"{of}: exact, because all {total} examples had to be scored"
    forwarded, of_all = found["forwarded_tokens"], found["forwarded_tokens_of_last_cell"]
    tokens = f", with {forwarded:,} of {of_all:,} tokens" if of_all else ""
    return (
        f"{of} ({found['low']:.4f} to {found['high']:.4f}, {100 * found['confidence']:.0f} %) on all {total} "
        f"examples, estimated from {count} of them{tokens}"
    )


def _check(
    path: str | Path,
    footer: Mapping[str, Any],
    requests_sha256: str,
    requests: str | Path,
    last: Mapping[str, Any],
) -> None:
    """Raise an error unless a cell is of the task, of this scoring version, and scored like the last one."""
    if (found := footer["requests_sha256"]) != requests_sha256:
        raise CellError(
            f"{path}: its requests are {found}, but {requests} is {requests_sha256}; name "
            "cells of this task only."
        )
    identity = footer["identity"]
    if identity.get("recipe") != SCORING_VERSION:
        raise CellError(
            f"{path}: found scoring version {identity.get('recipe')!r}, allowed: {SCORING_VERSION}; "
            "score it again."
        )
    for name in _SAME:
        if identity.get(name) != last.get(name):
            raise ConfigError(
                f"--cells: {name} is {identity.get(name)!r} in {path}, but {last.get(name)!r} in the last; "
                "name cells that were scored by the same rules."
            )


def _check_sizes(found: Sequence[tuple[str, int]]) -> None:
    """Raise `ConfigError` unless all cells, given as (file, parameters), are of models of one size."""
    last, size = found[-1]
    for path, parameters in found:
        if parameters != size:
            raise ConfigError(
                f"--cells: {path} is of a model with {parameters:,} parameters, but {last} of one with "
                f"{size:,}; name cells of one run."
            )


def _say_models(cells: Sequence[str | Path]) -> None:
    """Warn if the cells are in the results of several models: `scores/MODEL/CHECKPOINT/TASK.parquet`."""
    parts = [Path(path).absolute().parts for path in cells]
    models = dict.fromkeys(of[-3] for of in parts if of[-4:-3] == ("scores",))
    if len(models) > 1:
        log.warning(
            "--cells: found cells of the models %s; the sample is small only if they predict these answers",
            listed(list(models)),
        )


def _check_distinct(paths: Sequence[str], weights: Sequence[str], margins: np.ndarray) -> None:
    """Raise `ConfigError` if two cells have the same weights, or the same answers to all examples."""
    for i, path in enumerate(paths):
        for j in range(i):
            if weights[i] == weights[j] or np.array_equal(margins[i], margins[j]):
                same = "weights" if weights[i] == weights[j] else "log-likelihoods of all examples"
                raise ConfigError(
                    f"--cells: {paths[j]} and {path} have the same {same}; name each checkpoint once."
                )


def _answers(
    rows: pa.Table, requests: pa.Table, definition: Mapping[str, Any], path: str | Path
) -> dict[str, np.ndarray]:
    """Return `example, margin, accuracy` of each example of a cell."""
    try:
        found = example_rows(examples_of(columns_of(rows), requests, definition), definition)
    except CellError as error:
        raise CellError(f"{path}: {error.args[0]}") from error
    if lacking := {"accuracy", "margin"} - found.keys():
        raise CellError(
            f"{path}: tasks of this kind have no {' and '.join(sorted(lacking))}, which an estimate needs; "
            "allowed: kinds with both, such as choice."
        )
    return {name: found[name] for name in ("example", "margin", "accuracy")}


def _rows_of_examples(table: pa.Table) -> dict[str, list[int]]:
    """Return the rows of each example of a table of requests."""
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(table.column("example").to_pylist()):
        rows.setdefault(str(name), []).append(row)
    return rows
