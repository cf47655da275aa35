"""CPU time from process start to the end of the first forward, weights in the page cache."""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from measure import BenchmarkError

MUST, STRETCH = 2.5, 2.0  # seconds of CPU
TEXTS = ("The sun rises in the", " east")

OURS = """
import sys
from ebbtide.environment import quick_start
with quick_start():
    from ebbtide.scoring.encoding import encode
    from ebbtide.scoring.engine import load_scorer
scorer = load_scorer(sys.argv[1])
context, continuation = sys.argv[2:]
scorer.score(encode(
    scorer.tokenizer, [context], [continuation], ["request"], encoding="harness", bos="tokenizer",
    truncation="refuse", window=scorer.window, vocabulary=scorer.vocabulary,
))
"""
PEER = """
import sys, torch
torch.set_num_threads(1)
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
model = HFLM(pretrained=sys.argv[1], device="cpu", dtype="float32", batch_size=1)
model.loglikelihood([Instance("loglikelihood", {}, tuple(sys.argv[2:]), 0)], disable_tqdm=True)
"""


@dataclass(frozen=True)
class Startup:
    """CPU seconds (user and system) of a whole process: median, lowest, highest."""

    what: str
    seconds: float
    low: float
    high: float


def measure_startup(directory: Path, repeats: int) -> list[Startup]:
    """Run each command `repeats` times in turns, after one unmeasured time.

    `python -m ebbtide score` also hashes the weights and writes a cell: an upper bound.
    Raises `BenchmarkError` when a command fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        requests = Path(folder, "requests.parquet")
        columns = {"example": ["0"], "choice": [0], "context": [TEXTS[0]], "continuation": [TEXTS[1]]}
        pd.DataFrame(columns).to_parquet(requests)
        score = ["--model", str(directory), "--requests", str(requests), "--to", f"{folder}/cell.parquet"]
        commands = {
            "import torch": ["-c", "import torch"],
            "first forward": ["-c", OURS, str(directory), *TEXTS],
            "python -m ebbtide score": ["-m", "ebbtide", "score", *score],
            "lm-eval, first forward": ["-c", PEER, str(directory), *TEXTS],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(repeats + 1):
            for name, command in commands.items():
                used = cpu_seconds(name, command)
                if turn > 0:
                    seconds[name].append(used)
    return [Startup(name, statistics.median(s), min(s), max(s)) for name, s in seconds.items()]


def cpu_seconds(name: str, command: list[str]) -> float:
    """CPU seconds of a run of Python. Raises `BenchmarkError`, with `name`, when it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    run = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, check=False
    )
    if run.returncode != 0:
        last = (run.stderr.strip().splitlines() or ["no message"])[-1]
        raise BenchmarkError(f"start-up: {name} ended with status {run.returncode}: {last}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
