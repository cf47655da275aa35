"""Statistics of a suite of many cells: seconds of CPU and memory of every stage, and how they grow.

    python benchmarks/suite.py              16 models × 154 checkpoints × 12 tasks: 29,568 cells
    python benchmarks/suite.py --models 4   a quarter of it

Cells are made up (1,000 examples of two choices, of all difficulties, neighbouring checkpoints alike) and
written as scoring writes them; that time is not counted. Then each stage runs as its rule does, by the same
command or script, one process after another. Not counted is what Snakemake adds for every job. Stages are
repeated with a quarter of the models: the time per cell should not grow.
"""

import argparse
import json
import os
import resource
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

import ebbtide
from ebbtide.cells.cell import write_cell
from ebbtide.statistics.flips.on_disk import EXAMPLES, write_flips
from ebbtide.tables import REQUESTS, read_footer, read_frame, write_parquet
from ebbtide.tasks.texts import text_digests, texts_record

SCRIPTS = Path(ebbtide.__file__).parents[1] / "scripts"
IDENTITY = {"recipe": 0}
SIZES = {"parameters_total": 10**8, "parameters_non_embedding": 10**8}
TOKENS_PER_STEP = 2_097_152
TRAJECTORIES = {"metrics": ["accuracy"], "alpha": 0.05}
ALARMS = {
    **{"against": ["predecessor", "best", "baseline"], "family": "study", "baseline": None},
    **{"effects": {"moderate": 0.1, "severe": 0.3}, "allow": []},
}
EQUIVALENCE_MARGIN = 0.01
RUNS: dict[str, Any] = {"averaged": [], "tolerance": 0.0, "replicates": {"stated": [], "named": {}}}
LAST = 5  # checkpoints of a window of resolution
FORGETTING = {"largest": 3, "streak": 2, "page_rows": 2000}


class Named(dict[str, Any]):
    """Named files or parameters of a job, as Snakemake passes them."""

    def __getattr__(self, name: str) -> Any:
        """Return one by its name."""
        return self[name]


def write_requests(path: Path, examples: int) -> None:
    """A task of two choices, the first right."""
    names, choices = np.repeat([f"{i:06}" for i in range(examples)], 2), np.tile([0, 1], examples)
    texts = {
        "context": [f"The example {name}" for name in names],
        "continuation": np.tile([" a", " b"], examples),
    }
    rows = pd.DataFrame({"example": names, "choice": choices, **texts, "gold": choices == 0})
    record = {"task": path.stem, "definition": {}, "texts": texts_record(text_digests(rows))}
    write_parquet(rows, path, REQUESTS, record)


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
                loglikelihood=np.column_stack([margin - 20, np.full(examples, -20.0)]).ravel(),
                **{name: 1 for name in ("tokens", "bytes", "characters", "context_tokens")},
                greedy=False,
                first_token_loglikelihood=0.0,
                truncated=False,
            )
            footer = {"requests": len(rows), "requests_sha256": sha256, **SIZES}
            write_cell(rows, root / f"m{model}" / f"{checkpoint}" / f"task{task}.parquet", IDENTITY, footer)


class Suite:
    """The files of a suite, and its stages."""

    def __init__(self, root: Path, models: int, options: argparse.Namespace) -> None:
        self.root, self.models, self.options = root, models, options
        self.tasks = [f"task{task}" for task in range(options.tasks)]
        self.requests = [root / f"{task}.parquet" for task in self.tasks]
        self.metrics = root / "metrics.parquet"

    def stages(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """Name of each stage and what it runs; each process of it is a new one."""
        yield "measure", self.measure
        rules = ("metrics", "audit_results", "alarms", "trends", "forgetting", "resolution")
        for rule in (*rules, "summary", "check_alarms"):
            yield rule, partial(self.script, rule)
        yield "mean trends", self.mean_trends

    def parts(self, kind: str) -> list[Path]:
        """The tables of all checkpoints."""
        return [
            self.root / kind / f"m{m}-{c:04}.parquet"
            for m in range(self.models)
            for c in range(self.options.checkpoints)
        ]

    def cells(self, model: int, checkpoint: int) -> list[Path]:
        """The cells of a checkpoint."""
        return [self.root / f"m{model}" / f"{checkpoint}" / f"{task}.parquet" for task in self.tasks]

    def expected(self, model: int, checkpoint: int) -> dict[str, Any]:
        """What the cells of a checkpoint must be."""
        step = 1000 * (checkpoint + 1)
        cells = [{"task": task, "identity": IDENTITY, "measuring": {}} for task in self.tasks]
        return {
            **{"model": f"m{model}", "checkpoint": f"step{step}", "step": step},
            **{"tokens": step * TOKENS_PER_STEP, "parameters_nominal": 10**8, "cells": cells},
        }

    def measure(self) -> None:
        """What rule `measure` does: a process for every checkpoint."""
        places = [(m, c) for m in range(self.models) for c in range(self.options.checkpoints)]
        for (m, c), to, examples in zip(places, self.parts("metrics"), self.parts("examples"), strict=True):
            files = map(str, self.cells(m, c))
            command = [
                *(sys.executable, "-m", "ebbtide", "measure", "--cells", *files),
                *("--requests", *map(str, self.requests), "--expected", json.dumps(self.expected(m, c))),
                *("--to", str(to), "--examples", str(examples)),
            ]
            subprocess.run(command, check=True)

    def script(self, rule: str) -> None:
        """What a rule with a script does, in a process of its own."""
        process = get_context("spawn").Process(target=run_script, args=(rule, *self.job(rule)))
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(process.exitcode)

    def mean_trends(self) -> None:
        """Trends of means, as of a study that imports its metrics."""
        process = get_context("spawn").Process(target=follow_means, args=(self.metrics,))
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(process.exitcode)

    def job(self, rule: str) -> tuple[Named, Named, Named]:
        """Input, output and parameters of a rule."""
        tables = ("alarms", "not_compared", "trends", "forgetting", "result_audit")
        table = {name: str(self.root / f"{name}.tsv") for name in tables}
        others = {
            **{"differences": "trend_differences", "early_warning": "early_warning", "notices": "notices"},
            **{"together": "forgotten_together", "curves": "forgetting_curves"},
            **{"seeds": "seeds", "seed_curves": "seed_curves", "outcomes": "outcomes"},
        }
        output = {name: str(self.root / f"{file}.tsv") for name, file in others.items()}
        metrics, examples = self.parts("metrics"), self.parts("examples")
        last = range(max(self.options.checkpoints - LAST, 0), self.options.checkpoints)
        ends = [(m, c) for m in range(self.models) for c in last]
        settings = {**TRAJECTORIES, **ALARMS, "fail_on": "never", "checkpoints": "all", "examples": 3}
        of = {
            "metrics": ({"parts": metrics, "imported": [], "examples": []}, {"metrics": self.metrics}, {}),
            "audit_results": (
                {"parts": metrics, "metrics": self.metrics},
                {"audit": table["result_audit"]},
                {"allowed": []},
            ),
            "alarms": (
                {"examples": examples, "metrics": [self.metrics], "with_groups": []},
                table,
                {
                    **{"settings": settings, "with_groups": [], "baseline": None, "file": "study.yaml"},
                    **RUNS,
                },
            ),
            "trends": (
                {"examples": examples, "metrics": self.metrics},
                {**output, "trends": table["trends"]},
                {
                    **{**TRAJECTORIES, **RUNS, "equivalence_margin": EQUIVALENCE_MARGIN},
                    "drawn": {"metric": "accuracy", "metrics": {}},
                },
            ),
            "forgetting": (
                {"examples": examples, "metrics": self.metrics, "requests": self.requests, "imported": []},
                {
                    **output,
                    "summary": table["forgetting"],
                    "examples": str(self.root / "forgotten_examples.tsv"),
                    "page": self.root / "page.html",
                },
                {
                    "study": "suite",
                    "forgetting": FORGETTING,
                    "trajectories": TRAJECTORIES,
                    "parameters": "non_embedding",
                    **RUNS,
                },
            ),
            "resolution": (
                {
                    **{"examples": examples, "metrics": self.metrics, "requests": self.requests},
                    "cells": [cell for end in ends for cell in self.cells(*end)],
                },
                {n: str(self.root / f"{n}.tsv") for n in ("resolution", "proxies")},
                {
                    **TRAJECTORIES,
                    "windows": json.dumps([self.expected(*end) for end in ends]),
                    **RUNS,
                    "resolution": {"last": LAST, "least_correlation": 0.5},
                },
            ),
            "summary": (
                {**table, "metrics": [self.metrics], "parts": metrics, "requests": self.requests},
                {**output, "summary": str(self.root / "summary.txt")},
                {
                    **{
                        "tables": [*table],
                        "tasks": self.tasks,
                        **{"stated": [], "made": [], "named": []},
                        "replicates": RUNS["replicates"],
                    },
                    "judging": {
                        "followed": TRAJECTORIES["metrics"],
                        "alpha": TRAJECTORIES["alpha"],
                        "equivalence_margin": EQUIVALENCE_MARGIN,
                    },
                    "config": {
                        "trajectories": TRAJECTORIES,
                        "alarms": settings,
                        "trends": {"equivalence_margin": EQUIVALENCE_MARGIN},
                        "forgetting": FORGETTING,
                        "regression": {"parameters": "non_embedding"},
                    },
                },
            ),
            "check_alarms": (
                {**table, "flips": self.root / "flips.parquet"},
                {},
                {"study": "suite", "settings": settings, "offensive": [], "reports": self.root / "gate"},
            ),
        }
        given, made, params = of[rule]
        return Named(given), Named(made), Named(params)


def run_script(rule: str, given: Named, made: Named, params: Named) -> None:
    """Run the script of a rule."""
    log = Path(tempfile.gettempdir()) / f"{os.getpid()}.log"
    try:
        script = runpy.run_path(str(SCRIPTS / f"{rule}.py"), run_name=rule)
        with Path(os.devnull).open("w") as nowhere:
            sys.stdout = nowhere
            script["main"](SimpleNamespace(input=given, output=made, params=params, log=[str(log)]))
    finally:
        log.unlink(missing_ok=True)


def follow_means(metrics: Path) -> None:
    """Compute the trends of means."""
    from ebbtide.statistics.trends.mean_trends import mean_trends
    from ebbtide.tables import METRICS

    table = read_frame(metrics, METRICS)
    mean_trends(table[table["metric"] == "accuracy"])


def measured(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds of CPU of a stage, and peak memory (10^9 bytes) of its largest process.

    It runs in a process of its own, whose children are only those of the stage.
    """
    receive, send = get_context("spawn").Pipe(duplex=False)
    process = get_context("fork").Process(target=_measure, args=(work, send))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(process.exitcode)
    seconds, kilobytes = receive.recv()
    return seconds, kilobytes * 1024 / 1e9


def _measure(work: Callable[[], None], send: Any) -> None:
    work()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    send.send((used.ru_utime + used.ru_stime, used.ru_maxrss))


def prepare(root: Path, options: argparse.Namespace) -> None:
    """Write the requests and cells, as far as the directory does not have them."""
    for task in range(options.tasks):
        write_requests(root / f"task{task}.parquet", options.examples)
    for model in range(options.models):
        if not (root / f"m{model}").exists():
            write_cells(root, model, options.tasks, options.checkpoints, options.examples)
    write_flips(pd.DataFrame(columns=list(EXAMPLES)), root / "flips.parquet")  # the stage is not run


def main() -> None:
    """Make the suite, run the stages at two sizes, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("models", 16), ("checkpoints", 154), ("tasks", 12), ("examples", 1000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument(
        "--keep", type=Path, metavar="DIRECTORY", help="write the cells there, about 2 GB, and keep them"
    )
    parser.add_argument("--whole", action="store_true", help="only the whole, not a quarter of it before")
    options = parser.parse_args()
    root = Path(options.keep or tempfile.mkdtemp())
    root.mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # jobs after the first find compiled modules, as usual
    try:
        prepare(root, options)
        parts = {1 if options.whole else 4, 1}
        for models in sorted({max(1, options.models // part) for part in parts}):
            cells = models * options.checkpoints * options.tasks
            total = 0.0
            for name, work in Suite(root, models, options).stages():
                seconds, memory = measured(work)
                total += seconds
                each = f"{1000 * seconds / cells:.2f} ms a cell"
                print(f"{cells:,}", name, f"{seconds:.1f} s", each, f"{memory:.2f} GB", sep="\t", flush=True)
            print(f"{cells:,}", "all", f"{total:.0f} s", f"{1000 * total / cells:.2f} ms a cell", sep="\t")
    finally:
        if not options.keep:
            shutil.rmtree(root)


if __name__ == "__main__":
    main()
