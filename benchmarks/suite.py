"""A suite of many cells through metrics, alarms and trends: seconds, memory, and how they grow.

    python benchmarks/suite.py              8 models × 154 checkpoints × 24 tasks: 29,568 cells
    python benchmarks/suite.py --models 2   a quarter of it

Cells are made up (1,000 examples of two choices, of all difficulties, neighbouring checkpoints alike) and
written as scoring writes them; that time is not counted. Then each stage runs as its rule does, on two
processes. Not counted is what Snakemake adds for every job. Stages are repeated with a quarter of the models:
the time per cell should not grow. CPU is counted beside the clock, for a machine that is not idle.
"""

import argparse
import json
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.cells.cell import write_cell
from ebbtide.cli import main as ebbtide
from ebbtide.statistics.alarms.alarms import alarms
from ebbtide.statistics.panel import read_trajectories
from ebbtide.statistics.trends.early_warning import lead_table, leads
from ebbtide.statistics.trends.trends import difference_table, follow, trend_table
from ebbtide.tables import METRICS, REQUESTS, read_footer, read_frame, write_parquet, write_tsv

IDENTITY = {"recipe": 0}
SIZES = {"parameters_total": 10**8, "parameters_non_embedding": 10**8}
TOKENS_PER_STEP = 2_097_152
PROCESSES = 2


def write_requests(path: Path, examples: int) -> None:
    """A task of two choices, the first right."""
    names, choices = np.repeat([f"{i:06}" for i in range(examples)], 2), np.tile([0, 1], examples)
    texts = {
        "context": [f"The example {name}" for name in names],
        "continuation": np.tile([" a", " b"], examples),
    }
    rows = pd.DataFrame({"example": names, "choice": choices, **texts, "gold": choices == 0})
    write_parquet(rows, path, REQUESTS, {"definition": {}})


def write_cells(root: Path, model: int, tasks: int, checkpoints: int, examples: int) -> None:
    """All cells of a model: margins of an example's difficulty, the task's course, and AR(1) noise."""
    rng = np.random.default_rng(model)
    for task in range(tasks):
        requests = root / f"task{task}.parquet"
        asked, sha256 = read_frame(requests, REQUESTS), read_footer(requests, REQUESTS)["content_sha256"]
        difficulty, noise = rng.normal(0, 1, examples), rng.normal(0, 1, examples)
        course = np.linspace(0, rng.normal(0, 0.5), checkpoints)
        for checkpoint in range(checkpoints):
            noise = 0.9 * noise + np.sqrt(1 - 0.9**2) * rng.normal(0, 1, examples)
            margin = difficulty + noise + course[checkpoint]
            rows = asked[["example", "choice"]].assign(
                loglikelihood=np.column_stack([margin - 5, np.full(examples, -5.0)]).ravel(),
                **{name: 1 for name in ("tokens", "bytes", "characters", "context_tokens")},
                greedy=False,
                first_token_loglikelihood=-5.0,
                truncated=False,
            )
            footer = {"requests": len(rows), "requests_sha256": sha256, **SIZES}
            write_cell(rows, root / f"m{model}" / f"{checkpoint}" / f"task{task}.parquet", IDENTITY, footer)


def measure(root: Path, tasks: int, place: tuple[int, int]) -> None:
    """What rule `measure` does for one checkpoint."""
    model, checkpoint = place
    step = 1000 * (checkpoint + 1)
    cells = [{"task": f"task{t}", "identity": IDENTITY, "measuring": {}} for t in range(tasks)]
    where = {
        "model": f"m{model}",
        "checkpoint": f"step{step}",
        "step": step,
        "tokens": step * TOKENS_PER_STEP,
    }
    names = [f"task{t}.parquet" for t in range(tasks)]
    status = ebbtide(
        [
            *("measure", "--cells", *(str(root / f"m{model}" / f"{checkpoint}" / name) for name in names)),
            *("--requests", *(str(root / name) for name in names)),
            *("--expected", json.dumps({**where, "parameters_nominal": 10**8, "cells": cells})),
            *("--to", str(root / "metrics" / f"m{model}-{checkpoint}.parquet")),
            *("--examples", str(root / "examples" / f"m{model}-{checkpoint:04}.parquet")),
        ]
    )
    if status:
        raise SystemExit(status)


def gather(root: Path, models: int) -> int:
    """What rule `metrics` does; the number of its rows."""
    parts = [
        read_frame(path, METRICS) for m in range(models) for path in sorted(root.glob(f"metrics/m{m}-*"))
    ]
    table = pd.concat(parts, ignore_index=True)
    write_parquet(table, root / "metrics.parquet", METRICS)
    return len(table)


def examples_of(root: Path, models: int) -> list[Path]:
    """Tables of examples of the first models."""
    return [path for m in range(models) for path in sorted(root.glob(f"examples/m{m}-*"))]


def compare(root: Path, models: int) -> None:
    """What rule `compare` does."""
    settings = {
        "metrics": ["accuracy"],
        "alpha": 0.05,
        "against": ["predecessor", "best", "baseline"],
        "family": "study",
        "effects": {"moderate": 0.1, "severe": 0.3},
    }
    found = alarms(read_trajectories(examples_of(root, models)), settings, {})
    write_tsv(found, root / "alarms.tsv")


def follow_all(root: Path, models: int) -> None:
    """What rule `trends` does."""
    followed, warnings = [], []
    for trajectory in read_trajectories(examples_of(root, models)):
        followed += follow(trajectory, ["accuracy"], 0.05)
        warnings += leads(trajectory, 0.05)
    write_tsv(trend_table(followed, 0.05, 0.05), root / "trends.tsv")
    write_tsv(difference_table(followed, 0.05), root / "trend_differences.tsv")
    write_tsv(lead_table(warnings), root / "early_warning.tsv")


def alarms_or_trends(root: Path, models: int, which: str) -> None:
    """The two run side by side."""
    {"alarms": compare, "trends": follow_all}[which](root, models)


def peak_gigabytes() -> float:
    """Most memory that any process so far has had, in 10^9 bytes."""
    kilobytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return kilobytes * 1024 / 1e9


def stages(root: Path, models: int, options: argparse.Namespace) -> Iterator[tuple[str, float, float, float]]:
    """Name, seconds of the clock and of CPU, and peak memory (GB) of every stage, in processes of its own."""
    places = [(model, checkpoint) for model in range(models) for checkpoint in range(options.checkpoints)]
    yield timed("measure", partial(measure, root, options.tasks), places)
    yield timed("metrics", partial(gather, root), [models])
    yield timed("alarms, trends", partial(alarms_or_trends, root, models), ["alarms", "trends"])


def timed(name: str, work: Callable[[Any], Any], items: list[Any]) -> tuple[str, float, float, float]:
    """Do the work of a stage on `PROCESSES` new processes."""
    start, before = time.perf_counter(), os.times()
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        list(pool.map(work, items, chunksize=1))
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return name, time.perf_counter() - start, cpu, peak_gigabytes()


def main() -> None:
    """Make the suite, run the stages at three sizes, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("models", 8), ("checkpoints", 154), ("tasks", 24), ("examples", 1000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument(
        "--directory", type=Path, help="where the cells go, about 2 GB (default: a temporary one)"
    )
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(dir=options.directory))
    try:
        for task in range(options.tasks):
            write_requests(root / f"task{task}.parquet", options.examples)
        shape = (options.tasks, options.checkpoints, options.examples)
        with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
            list(pool.map(partial(_write, root, shape), range(options.models)))
        for models in sorted({max(1, options.models // part) for part in (4, 1)}):
            cells = models * options.checkpoints * options.tasks
            for name, seconds, cpu, memory in stages(root, models, options):
                each = f"{1000 * cpu / cells:.1f} ms of CPU a cell"
                print(cells, name, f"{seconds:.0f} s", each, f"{memory:.2f} GB", sep="\t", flush=True)
    finally:
        shutil.rmtree(root)


def _write(root: Path, shape: tuple[int, int, int], model: int) -> None:
    write_cells(root, model, *shape)


if __name__ == "__main__":
    main()
