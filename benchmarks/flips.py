"""What the flips of a large study cost: CPU seconds and bytes of rule `flips`, on made-up answers.

    python benchmarks/flips.py                16 models × 154 checkpoints × 12 tasks, alarms at 5 %
    python benchmarks/flips.py --models 2     the same for 2 models

Accuracy of 500 examples with 2 choices and 8 levels of a group. Only the cells of alarms are made; the rule
reads no others, but the tables of examples of all checkpoints.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from ebbtide.cells.cell import write_cell
from ebbtide.metrics.of_cell import example_rows, examples_of
from ebbtide.statistics.alarms.alarms import COLUMNS
from ebbtide.statistics.example_tables import read_parts
from ebbtide.statistics.flips.cells import Cells
from ebbtide.statistics.flips.of_alarms import by_task, cell_in_results, flips_of_alarms
from ebbtide.statistics.flips.on_disk import write_flips
from ebbtide.statistics.flips.others import with_other_models
from ebbtide.statistics.panel import read_trajectories
from ebbtide.tables import EXAMPLES, REQUESTS, content_sha256, read_parquet, write_parquet, write_tsv

CHECKPOINTS, TASKS, EXAMPLES_OF_TASK, LEVELS = 154, 12, 500, 8
SHARE = 0.05  # of cells with an alarm
WORDS = ("river", "window", "garden", "stone", "letter", "market", "winter", "doctor", "engine", "harbour")


def main() -> int:
    """Make the tables, run the stage, print what it cost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=int, default=16)
    parser.add_argument("--directory", type=Path, help="keep the files there, and use them again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = options.directory or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        os.chdir(directory)
        _measure(options.models)
    return 0


def _measure(models: int) -> None:
    frozen = {f"task{number}": _frozen(number) for number in range(TASKS)}
    alarms = pd.DataFrame(list(_study(models, frozen)), columns=list(COLUMNS)).assign(group="")
    paths = sorted(Path("examples").rglob("*.parquet"))
    started = time.process_time()
    parts = read_parts(paths)
    tables = flips_of_alarms(
        alarms,
        parts,
        [],
        Cells(frozen, {task: {} for task in frozen}, cell_in_results),
        by_task(frozen),
        most=200,
        averaged={},
    )
    write_flips(tables.examples, "flips.parquet")
    write_tsv(tables.pairs, "flips.tsv")
    write_tsv(tables.groups, "flip_groups.tsv")
    total = time.process_time() - started
    started = time.process_time()
    with_other_models(tables.examples.head(0), read_trajectories(parts))
    for _ in read_trajectories(parts):
        pass
    reading = time.process_time() - started
    cells = models * CHECKPOINTS * TASKS
    print(
        f"{models} models, {cells} cells, {len(tables.pairs)} pairs, {len(tables.examples)} examples listed"
    )
    print(
        f"CPU seconds: {total:.1f}, of which {reading:.1f} to read the tables of examples of all checkpoints"
    )
    for name in ("flips.parquet", "flips.tsv", "flip_groups.tsv"):
        print(f"{name}: {Path(name).stat().st_size / 1e6:.2f} MB")


def _frozen(number: int) -> Path:
    draw = np.random.default_rng(number)
    rows = [
        {
            "example": str(i),
            "choice": choice,
            "context": f"Question {i}: which {' '.join(draw.choice(WORDS, 20))}?\nAnswer:",
            "continuation": f" {draw.choice(WORDS)}",
            "gold": choice == i % 2,
            "group_part": f"part {i % LEVELS}",
        }
        for i in range(EXAMPLES_OF_TASK)
        for choice in (0, 1)
    ]
    path = Path(f"frozen/task{number}.parquet")
    footer = {"task": f"task{number}", "identity": str(number), "definition": {"kind": "choice"}, "texts": {}}
    write_parquet(pd.DataFrame(rows), path, REQUESTS, footer)
    return path


def _study(models: int, frozen: dict[str, Path]) -> Iterator[dict[str, object]]:
    """Yield alarms, and write the cells and the tables of examples they come from."""
    draw = np.random.default_rng(0)
    requests = {task: read_parquet(path, REQUESTS).to_pandas() for task, path in frozen.items()}
    digests = {task: content_sha256(read_parquet(path, REQUESTS)) for task, path in frozen.items()}
    for model in (f"model{number:02}" for number in range(models)):
        strength = {task: draw.normal(1, 1.5, EXAMPLES_OF_TASK) for task in frozen}
        previous: dict[str, tuple[float, pd.DataFrame]] = {}
        for step in range(CHECKPOINTS):
            table = []
            for task, asked in requests.items():
                margin = strength[task] + draw.normal(0, 1, EXAMPLES_OF_TASK)
                cell = _cell(asked, np.where(asked["gold"], np.repeat(margin, 2), 0.0) - 20)
                x = examples_of(cell, asked, {"kind": "choice"})
                examples = example_rows(x, {})
                mean = float(examples["accuracy"].mean())
                table.append(pd.DataFrame(examples).assign(task=task))
                if task in previous and draw.random() < SHARE:
                    earlier, old = previous[task]
                    for name, rows in ((step - 1, old), (step, cell)):
                        _write(rows, Path(f"results/scores/{model}/step{name}/{task}.parquet"), digests[task])
                    yield {
                        **{"model": model, "task": task, "metric": "accuracy", "checkpoint": f"step{step}"},
                        **{"against": "predecessor", "reference": f"step{step - 1}", "severity": "minor"},
                        **{"value": mean, "reference_value": earlier},
                    }
                previous[task] = mean, cell
            place = {"model": model, "checkpoint": f"step{step}", "step": step, "tokens": 1000 * step}
            path = Path(f"examples/{model}/step{step}.parquet")
            footer = {"place": place, "requests": {task: {"digest": "d", "examples": 1} for task in frozen}}
            write_parquet(pd.concat(table, ignore_index=True), path, EXAMPLES, footer)


def _cell(asked: pd.DataFrame, loglikelihoods: np.ndarray) -> pd.DataFrame:
    return asked[["example", "choice"]].assign(
        loglikelihood=loglikelihoods,
        tokens=1,
        bytes=asked["continuation"].str.len().astype("int64"),
        characters=asked["continuation"].str.len().astype("int64"),
        greedy=False,
        first_token_loglikelihood=loglikelihoods,
        context_tokens=9,
        truncated=False,
    )


def _write(rows: pd.DataFrame, path: Path, requests_sha256: str) -> None:
    sizes = {"parameters_total": 1, "parameters_non_embedding": 1, "requests": len(rows)}
    if not path.exists():
        write_cell(rows, path, {"cell": str(path)}, {"requests_sha256": requests_sha256, **sizes})


if __name__ == "__main__":
    sys.exit(main())
