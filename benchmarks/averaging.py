"""Does an average of checkpoints have less step noise than its newest checkpoint? On the ladder.

    python benchmarks/averaging.py
    python benchmarks/averaging.py --seeds 1 --blocks 3 --models ladder-d8 --tasks fact_qa

Every run keeps the last 5 × `blocks` checkpoints, 8 steps apart, and each block of five makes one average, so
that averages share no checkpoint. Step noise is the standard deviation of a metric around the local line
through its neighbours: the root of the mean of (x[t-1] - 2 x[t] + x[t+1])² / 6, over the blocks. The newest
checkpoints of the blocks are as far apart, so both have the same formula. It is pooled over tasks; the
interval is that of Student's t over runs (models and seeds) on the logarithm of the ratio. *scores* are the
means of the five checkpoints' metrics, for comparison.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from ebbtide.checkpoints.average import shares
from ebbtide.checkpoints.average_weights import write_average
from ebbtide.checkpoints.series import CATALOGUE, read_series
from ebbtide.files import atomic_directory
from ebbtide.jobs.freeze_task import freeze_task
from ebbtide.logs import Progress
from ebbtide.scoring.engine import load_scorer, score_requests
from ebbtide.tables import REQUESTS, read_frame, write_tsv
from ebbtide.training.train import train

SIZE, SPACING = 5, 8  # checkpoints in an average, steps between them
WEIGHTS = ("uniform", "linear", "exponential")
METRICS = {"accuracy": "accuracy (points)", "gold": "log-likelihood of the right choice (nats)"}
TASKS = ("memo_trap", "fact_qa", "redefine", "arithmetic")
SUMMARY = ["metric", "what", "sd_newest", "sd", "ratio", "low", "high", "level", "level_low", "level_high"]
COLUMNS = ["run", "task", "metric", "block", "what", "value"]


def measured(directory: Path, tasks: Mapping[str, Path]) -> Iterator[tuple[str, str, float]]:
    """Yield task, metric and value for one checkpoint; accuracy is in points."""
    scorer = load_scorer(directory)
    for task, path in tasks.items():
        gold = read_frame(path, REQUESTS)["gold"].to_numpy(dtype=bool).reshape(-1, 2)
        rows = score_requests(scorer, path).rows
        found = np.asarray(rows["loglikelihood"], dtype=float).reshape(-1, 2)
        right = found[gold]
        yield task, "accuracy", 100 * float((right > found[~gold]).mean())
        yield task, "gold", float(right.mean())


def run_rows(
    name: str, spec: Mapping[str, Any], blocks: int, tasks: Mapping[str, Path], place: Path
) -> Iterator[tuple[Any, ...]]:
    """Train one run; yield a row (`COLUMNS`) for every block and what was measured of it."""
    last = spec["recipe"]["steps"]
    steps = [last - SPACING * i for i in range(SIZE * blocks)][::-1]
    train({**spec, "checkpoints": steps}, place, Progress())
    for block in range(blocks):
        parents = [place / f"step{step}" for step in steps[SIZE * block : SIZE * (block + 1)]]
        own = [dict(((t, m), v) for t, m, v in measured(parent, tasks)) for parent in parents]
        values = {"newest": own[-1], "scores": {key: np.mean([one[key] for one in own]) for key in own[0]}}
        for weights in WEIGHTS:
            with atomic_directory(place / "average") as folder:
                write_average(parents, shares(weights, SIZE), folder)
            values[weights] = {(t, m): v for t, m, v in measured(place / "average", tasks)}
        for what, found in values.items():
            for (task, metric), value in found.items():
                yield name, task, metric, block, what, value


def noise(rows: pd.DataFrame) -> pd.Series:
    """Variance of the step noise by run, metric, what and task."""
    wide = rows.pivot(index="block", columns=["run", "metric", "what", "task"], values="value").sort_index()
    return (np.diff(wide, 2, axis=0) ** 2).mean(axis=0) / 6 * pd.Series(1.0, wide.columns)


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and 95 % interval by Student's t."""
    x = np.asarray(values, dtype=float)
    half = student.ppf(0.975, len(x) - 1) * x.std(ddof=1) / len(x) ** 0.5 if len(x) > 1 else np.nan
    return float(x.mean()), float(x.mean() - half), float(x.mean() + half)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Noise and level of each kind of average against the newest checkpoint of its block, by metric."""
    variance = noise(rows).groupby(level=["metric", "what", "run"]).sum()  # over tasks
    tasks = rows["task"].nunique()
    level = rows.groupby(["metric", "what", "run"])["value"].mean()
    found = []
    for metric, label in METRICS.items():
        newest = variance[metric, "newest"]
        for what in ("scores", *WEIGHTS):
            ratio, low, high = np.exp(interval(np.log(variance[metric, what] / newest) / 2))
            shift, shift_low, shift_high = interval(level[metric, what] - level[metric, "newest"])
            sds = [float(np.sqrt((v / tasks).mean())) for v in (newest, variance[metric, what])]
            found.append((label, what, *sds, ratio, low, high, shift, shift_low, shift_high))
    columns = [
        "metric",
        "what",
        "sd_newest",
        "sd",
        "ratio",
        "low",
        "high",
        "level",
        "level_low",
        "level_high",
    ]
    return pd.DataFrame(found, columns=columns)


def main() -> None:
    """Train, average, score, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="runs of each model (default: 3)")
    parser.add_argument("--blocks", type=int, default=12, help="averages of each run (default: 12)")
    parser.add_argument("--models", nargs="+", default=["ladder-d8", "ladder-d16", "ladder-d32"])
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--to", help="table of all values (TSV)")
    options = parser.parse_args()
    series, _ = read_series(CATALOGUE / "ladder.yaml")
    rows: list[tuple[Any, ...]] = []
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        tasks = {task: place / f"{task}.parquet" for task in options.tasks}
        for task, path in tasks.items():
            freeze_task(str(CATALOGUE.parent / f"tasks/{task}.yaml"), path)
        for model in options.models:
            for seed in range(options.seeds):
                recipe, corpus = {**series["recipe"], "seed": seed}, {**series["corpus"], "seed": seed}
                spec = {"corpus": corpus, "recipe": recipe, "model": series["models"][model]}
                name = f"{model}-{seed}"
                rows += run_rows(name, spec, options.blocks, tasks, place / name)
                print(f"{name} done", file=sys.stderr)
    table = pd.DataFrame(rows, columns=COLUMNS)
    if options.to:
        write_tsv(table, options.to)
    print(summary(table).to_string(index=False, float_format="{:.3g}".format))


if __name__ == "__main__":
    main()
