"""Which sizes are fastest on this device: tokens in a chunk, queries in a block, logits in a slice.

    python benchmarks/sizes.py --row memotrap
    python benchmarks/sizes.py --row memotrap --dtype bfloat16 --chunks 1024 4096 16384 --blocks 64 128 256

Sizes take turns; the fastest of the rounds counts. None of them changes a result beyond rounding. The
engine's own are `body.PREFERRED_TOKENS`, `chunks.GROUP` and `head.SLICE_ELEMENTS`.
"""

import argparse
import itertools
import sys
import time
from unittest.mock import patch

import pandas as pd
import torch

from ebbtide.scoring import body, chunks, head
from ebbtide.scoring.engine import load_scorer
from machine import describe, run
from measure import WARM_UP, encode_ours
from models import model_directory, named_directories
from workloads import WORKLOADS, Data


def main() -> int:
    """Parse the command line, run, print; an error of the user's is one sentence and status 1."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--row", default="memotrap", choices=[w.name for w in WORKLOADS])
    parser.add_argument("--scale", type=float, default=1.0, help="times the examples")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--chunks", type=int, nargs="+", default=[256, 512, 1024], help="tokens")
    parser.add_argument("--blocks", type=int, nargs="+", default=[32, 64, 128], help="queries")
    parser.add_argument("--slices", type=int, nargs="+", default=[17, 19, 21], help="log2 of logits")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--truthful-qa", help="TruthfulQA's multiple-choice file as JSON lines")
    parser.add_argument("--model-dir", nargs="+", default=[], metavar="NAME=DIR")
    options = parser.parse_args()
    return run(_run, options)


def _run(options: argparse.Namespace) -> None:
    workload = next(w for w in WORKLOADS if w.name == options.row).scaled(options.scale)
    scorer = load_scorer(model_directory(workload.model, named_directories(options.model_dir)), options.dtype)
    requests = encode_ours(scorer, workload.ask(Data(options.truthful_qa), workload.examples))
    scorer.score(requests[:WARM_UP])
    print(f"{describe(scorer.device)}; {options.dtype}, {workload.name}, {workload.examples} examples")
    sizes = list(itertools.product(options.chunks, options.blocks, options.slices))
    seconds = dict.fromkeys(sizes, float("inf"))
    for _, (chunk, block, bits) in itertools.product(range(options.repeats), sizes):
        with (
            patch.dict(body.PREFERRED_TOKENS, {scorer.device: chunk}),
            patch.dict(chunks.GROUP, {scorer.device: block}),
            patch.dict(head.SLICE_ELEMENTS, {scorer.device: 1 << bits}),
        ):
            started = _now(scorer.device)
            scorer.score(requests)
            seconds[chunk, block, bits] = min(seconds[chunk, block, bits], _now(scorer.device) - started)
    rows = [{"chunk": c, "block": b, "log2 slice": s, "seconds": t} for (c, b, s), t in seconds.items()]
    print(pd.DataFrame(rows).sort_values("seconds").round({"seconds": 3}).to_string(index=False))


def _now(device: str) -> float:
    """CPU time of this process, or on a GPU the clock on the wall once it has done all it was given."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    sys.exit(main())
