"""Ebbtide against lm-eval on a GPU: random GPT-NeoX weights in the shapes of Pythia, bfloat16.

    python benchmarks/gpu.py --tokenizer DIR
    python benchmarks/gpu.py --tokenizer DIR --device cpu --tiny      # only tries the code

Prints, per shape and task, wall-clock ratios to lm-eval at the best of its batch sizes (`auto` among them,
its search for a size included), useful MFU against the bfloat16 matrix product of the same rounds, and load
times. Any tokenizer with at most 50,304 tokens will do; the weights are random, so the scores mean nothing.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ebbtide.scoring.engine import load_scorer
from ebbtide.tables import write_tsv
from exact import Exact
from machine import describe, run
from measure import BenchmarkError, Clock, compare, matmul_peak
from peer import Peer
from workloads import Data, MissingError, Request

VOCABULARY = 50_304


@dataclass(frozen=True)
class Shape:
    """A GPT-NeoX: width, layers, heads."""

    name: str
    hidden: int
    layers: int
    heads: int


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    shapes: tuple[Shape, ...]
    batch_sizes: tuple[int | str, ...]
    peak_sizes: tuple[int, ...]
    examples: dict[str, int]  # of each task


FULL = Scale(
    (Shape("pythia-410m", 1024, 24, 16), Shape("pythia-1.4b", 2048, 24, 16)),
    ("auto", 16, 32, 64, 128, 256),
    (4096, 8192),
    {"proverbs": 860, "history": 736, "history, 10-shot": 100, "TruthfulQA": 100},
)
TINY = Scale(
    (Shape("tiny", 64, 2, 4),),
    ("auto", 8),
    (256,),
    {"proverbs": 4},
)


def main() -> int:
    """Parse the command line, run, print; an error of the user's is one sentence and status 1."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokenizer", type=Path, required=True, help="a model directory with a tokenizer")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true", help="a tiny shape and a few examples")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--truthful-qa", type=Path, help="TruthfulQA's multiple-choice file as JSON lines")
    parser.add_argument("--to", type=Path, default=Path("results/benchmarks/gpu.tsv"))
    options = parser.parse_args()
    return run(_run, options)


def _run(options: argparse.Namespace) -> None:
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # or the engine would choose the GPU
    elif not torch.cuda.is_available():
        raise BenchmarkError("no CUDA device was found; --device cpu --tiny tries the code without one.")
    scale = TINY if options.tiny else FULL
    print(describe(options.device))
    rows = []
    for shape in scale.shapes:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = write_checkpoint(shape, options.tokenizer, Path(folder))
            rows += list(_rows(shape, checkpoint, scale, options))
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.3g}"))
    write_tsv(table.assign(machine=describe(options.device)), options.to)


def write_checkpoint(shape: Shape, tokenizer: Path, to: Path) -> Path:
    """Random weights (seed 0, bfloat16) and the tokenizer's files, as a checkpoint directory at `to`.

    Raises `BenchmarkError` for a tokenizer that is missing or has too many tokens.
    """
    from transformers import AutoTokenizer, GPTNeoXConfig, GPTNeoXForCausalLM

    files = [path for path in tokenizer.glob("*token*.json") if path.is_file()]
    if not files:
        raise BenchmarkError(f"--tokenizer: {tokenizer} holds no tokenizer.json; name a model directory.")
    found = len(AutoTokenizer.from_pretrained(tokenizer, local_files_only=True))
    if found > VOCABULARY:
        raise BenchmarkError(f"--tokenizer: {tokenizer} has {found} tokens, allowed: at most {VOCABULARY}.")
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=VOCABULARY,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.hidden,
        max_position_embeddings=2048,
    )
    model: Any = GPTNeoXForCausalLM(config)
    model.to(torch.bfloat16).save_pretrained(to)
    for path in files:
        shutil.copy(path, to)
    return to


def _rows(
    shape: Shape, checkpoint: Path, scale: Scale, options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Load both sides and compare them on each task."""
    device: str = options.device
    clock = partial(_synchronised, device)
    scorer, load = _timed(lambda: load_scorer(checkpoint, "bfloat16"), clock)
    peer, peer_load = _timed(lambda: Peer(checkpoint, "bfloat16", device, "auto"), clock)
    exact = Exact(checkpoint, device)
    data = Data(options.truthful_qa)
    tasks: dict[str, Callable[[int], list[Request]]] = {
        "proverbs": data.proverbs,
        "history": data.history,
        "history, 10-shot": data.history_after_shots,
        "TruthfulQA": data.truthful,
    }
    for task, examples in scale.examples.items():
        try:
            requests = tasks[task](examples)
        except MissingError as absent:
            print(f"{task}: {absent}", file=sys.stderr)
            continue
        found = compare(
            scorer,
            peer,
            exact,
            requests,
            batch_sizes=scale.batch_sizes,
            repeats=options.repeats,
            clock=clock,
            peak=partial(matmul_peak, torch.bfloat16, device, scale.peak_sizes, clock),
        )
        yield {"shape": shape.name, "task": task, "load": load, "peer_load": peer_load, **asdict(found)}


def _synchronised(device: str) -> float:
    """Wall-clock seconds, once the device has done all it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _timed(work: Callable[[], Any], clock: Clock) -> tuple[Any, float]:
    started = clock()
    result = work()
    return result, clock() - started


if __name__ == "__main__":
    sys.exit(main())
