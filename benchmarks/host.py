"""What the host does for a cell while a GPU computes: CPU seconds by stage, without model and GPU.

    python benchmarks/host.py
    python benchmarks/host.py --requests 1000 --repeats 1

The task is made up in the shape of Sig Figs (two choices an example, about 41 tokens an example). The first
checkpoint with a tokenizer encodes it (*cold*), all others read its arrays (*warm*). A stub takes the place
of the model: it asks for the blocks and slots of each chunk, in the sizes that a GPU gets, and returns
nothing. Not counted: launches of kernels and copies to a GPU. *masks* is work of a CPU job only, in its own
sizes, because a GPU computes masks itself.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch

from ebbtide.cells.cell import write_cell
from ebbtide.jobs.encoded_tasks import EncodedTasks
from ebbtide.scoring import chunks, walk
from ebbtide.scoring.body import PREFERRED_TOKENS
from ebbtide.scoring.chunks import Chunk, group_size
from ebbtide.scoring.encoded import Requests
from ebbtide.scoring.encoded_task import encode_task
from ebbtide.scoring.engine import score_task
from ebbtide.scoring.scorer import Counters, Scores
from ebbtide.scoring.tokenizer import Tokenizer, load_tokenizer
from ebbtide.scoring.walk import score_trie
from ebbtide.tables import REQUESTS, read_parquet, write_parquet, write_tsv
from machine import describe, run
from made_up import VOCABULARY, Shape, figures, write_checkpoint
from measure import verdict
from startup import cpu_seconds

REQUESTS_OF_CELLS = (1_000, 2_000, 6_000, 41_794)
MUST = {2_000: (0.05, 0.04), 41_794: (0.4, 0.3)}  # warm, seconds: must and stretch
SHAPE = Shape("pythia-70m", 512, 6, 8)
START = {
    "start of Python": "pass",
    "imports": "import ebbtide.jobs.worker, ebbtide.scoring.engine as e; e.import_backend('auto')",
    "load, tasks encoded": "from ebbtide.scoring.engine import load_scorer as l; l({0!r}, encoded=True)",
    "load with tokenizer": "from ebbtide.scoring.engine import load_scorer as l; l({0!r})",
}


class Stub:
    """A `Body` that asks for what a decoder needs of a chunk, and computes nothing."""

    device = torch.device("cpu")

    def forward(self, chunk: Chunk) -> torch.Tensor:
        """Hidden states of one dimension."""
        chunk.blocks()
        assert len(chunk.token) == len(chunk.depth)
        return torch.zeros(len(chunk.scored), 1)

    def start(self) -> None:
        """Nothing."""

    def keep(self, slots: torch.Tensor) -> None:
        """Nothing."""

    def logits(self, hidden: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
        """Logits of a vocabulary of one token."""
        yield 0, hidden


class StubScorer:
    """A `Scorer` with the stub."""

    window, window_key, vocabulary, dtype, device = 2048, "stub", VOCABULARY, "float32", "cpu"

    def __init__(self, directory: Path) -> None:
        self.tokenizer: Tokenizer = load_tokenizer(directory)

    def score(
        self,
        requests: Requests,
        *,
        ranks: bool = False,
        best: bool = False,
        counters: Counters | None = None,
    ) -> Scores:
        """The walk with the stub, in the sizes of a GPU."""
        return score_trie(Stub(), requests, counters or Counters(), chunk=PREFERRED_TOKENS["cuda"])

    def record(self) -> dict[str, Any]:
        """Nothing."""
        return {}


def main() -> int:
    """Parse the command line, run, print; an error of the user's is one sentence and status 1."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", nargs="+", type=int, default=REQUESTS_OF_CELLS)
    parser.add_argument("--repeats", type=int, default=3, help="the median counts")
    parser.add_argument("--to", type=Path, default=Path("results/benchmarks/host.tsv"))
    return run(_run, parser.parse_args())


def _run(options: argparse.Namespace) -> None:
    print(describe())
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = write_checkpoint(SHAPE, Path(folder, "checkpoint"))
        scorer = StubScorer(checkpoint)
        rows = []
        for count in options.requests:
            turns = [_cell(scorer, checkpoint, count) for _ in range(options.repeats)]
            rows.append({name: statistics.median(turn[name] for turn in turns) for name in turns[0]})
        table = pd.DataFrame(rows)
        table["met"] = [
            verdict(warm, *MUST[count]) if count in MUST else ""
            for count, warm in zip(options.requests, table["warm"], strict=True)
        ]
        print("\nCPU seconds per cell; warm = read + chunks + collect + write, cold = warm - read + encode …")
        print(table.to_string(index=False, float_format=lambda value: f"{value:.3f}"))
        write_tsv(table.assign(machine=describe()), options.to)
        print(f"\nCPU seconds per checkpoint ({SHAPE.name}, bfloat16 on disk), each with all before it")
        for name, code in START.items():
            seconds = cpu_seconds(name, ["-c", code.format(str(checkpoint))])
            print(f"{name:22s}{seconds:6.2f}")


def write_task(rows: list[Any], to: Path) -> Path:
    """A frozen task of two choices an example."""
    columns = {
        "example": [str(i // 2) for i in range(len(rows))],
        "choice": [i % 2 for i in range(len(rows))],
    }
    texts = {name: [getattr(row, name) for row in rows] for name in ("context", "continuation")}
    write_parquet(pd.DataFrame(columns | texts), to, REQUESTS, {"identity": "task"})
    return to


def _cell(scorer: Any, checkpoint: Path, count: int) -> dict[str, float]:
    """CPU seconds of each stage of a cell."""
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        started = time.process_time()
        yield
        seconds[name] = time.process_time() - started

    with tempfile.TemporaryDirectory() as folder, _sizes_of_a_gpu():
        requests = write_task(figures(count // 2), Path(folder, "task.parquet"))
        table = read_parquet(requests, REQUESTS)
        with timed("encode"):
            task = encode_task(scorer, table, requests, window=scorer.window)
        with timed("trie"):
            unique = len(task.requests.trie)
        rules = {"encoding": "harness", "bos": "tokenizer", "truncation": "left", "max_length": None}
        identity = {"task": "task", "tokenizer": "made up", "weights": "none", **rules}
        job = {"requests": str(requests), "checkpoint": str(checkpoint / "config.json"), "identity": identity}
        with timed("first use"):
            EncodedTasks(folder).get(job, scorer)
        with timed("read"):
            task, keys, _ = EncodedTasks(folder).get(job, scorer)
        with timed("chunks"):
            scorer.score(task.requests)
        with timed("collect"):
            found = score_task(scorer, task, keys, requests)
        seconds["collect"] -= seconds["chunks"]
        with timed("write"):
            write_cell(found.rows, Path(folder, "cell.parquet"), identity, found.footer)
        warm = sum(seconds[name] for name in ("read", "chunks", "collect", "write"))
    with timed("masks"):
        _masks(task.requests)
    cold = warm - seconds["read"] + seconds.pop("first use")
    return {"requests": count, "unique tokens": unique, **seconds, "warm": warm, "cold": cold}


def _masks(requests: Requests) -> None:
    """The masks of all chunks, in the sizes of a CPU job."""
    trie, past, size = requests.trie, np.zeros(0, dtype=np.int64), PREFERRED_TOKENS["cpu"]
    for start in range(0, len(trie), size):
        chunk = Chunk(trie, past, start, min(start + size, len(trie)))
        for block in chunk.blocks():
            chunk.mask(block, None)
        past = chunk.nodes[chunk.path_to_next()]


@contextmanager
def _sizes_of_a_gpu() -> Iterator[None]:
    """Blocks of queries and batches for the head as on a GPU, although tensors are on the CPU."""
    with (
        patch.dict(chunks.GROUP, {"cpu": group_size("cuda")}),
        patch.object(chunks, "SEPARATE", frozenset()),
        patch.dict(walk.HEAD_BATCH, {"cpu": walk.HEAD_BATCH["cuda"]}),
    ):
        yield


if __name__ == "__main__":
    sys.exit(main())
