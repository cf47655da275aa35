"""Where the engine's time goes, on one workload: wall time of operations by kind.

    python benchmarks/breakdown.py --row memotrap --scale 0.2

torch's profiler measures by the clock, although it calls this the CPU time, so the machine must be idle: wall
and CPU seconds of one thread are then alike, and both are printed. What no operation accounts for (Python,
numpy, the profiler itself) is in the last line.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from pkgutil import resolve_name
from typing import Any
from unittest.mock import patch

import pandas as pd
import torch

from ebbtide.scoring.engine import load_scorer
from machine import describe, run
from measure import WARM_UP, encode_ours
from models import model_directory, named_directories
from workloads import WORKLOADS, Data

# Everything inside these functions is of one kind.
PARTS = {
    "head, logsumexp": "ebbtide.scoring.walk.score_targets",
    "attention": "ebbtide.scoring.attention.Attention.__call__",
    "mask, cache": "ebbtide.scoring.attention.Cache.keep",
}
# Outside them, an operation is of the first kind one of whose words occurs in its name.
WORDS = {
    "linear": ("mm", "linear", "matmul"),
    "copy, gather": ("copy", "index", "cat", "to", "clone", "select", "slice", "view", "empty", "as_strided"),
    "element-wise, norms": ("",),
}
REST = "outside operations"


def main() -> int:
    """Parse the command line, run, print; an error of the user's is one sentence and status 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--row", default="memotrap", choices=[w.name for w in WORKLOADS])
    parser.add_argument("--scale", type=float, default=1.0, help="times the examples")
    parser.add_argument("--truthful-qa", type=Path, help="TruthfulQA's multiple-choice file as JSON lines")
    parser.add_argument("--model-dir", nargs="+", default=[], metavar="NAME=DIR")
    options = parser.parse_args()
    return run(_run, options)


def _run(options: argparse.Namespace) -> None:
    workload = next(w for w in WORKLOADS if w.name == options.row).scaled(options.scale)
    scorer = load_scorer(model_directory(workload.model, named_directories(options.model_dir)))
    requests = encode_ours(scorer, workload.ask(Data(options.truthful_qa), workload.examples))
    scorer.score(requests[:WARM_UP])
    plain, used = _timed(lambda: scorer.score(requests))
    with (
        _labelled(PARTS),
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile,
    ):
        profiled, used_profiled = _timed(lambda: scorer.score(requests))
    print(describe())
    print(
        f"{workload.name}, {workload.examples} examples: {plain:.2f} s (CPU {used:.2f} s), "
        f"profiled {profiled:.2f} s (CPU {used_profiled:.2f} s)"
    )
    print(by_kind(profile.events(), profiled).to_string(index=False))


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds of wall time and of CPU time that `work` takes."""
    started, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started, time.process_time() - cpu


@contextmanager
def _labelled(parts: dict[str, str]) -> Iterator[None]:
    """Let the profiler see each of these functions as an event named by its kind."""
    with ExitStack() as stack:
        for kind, path in parts.items():
            stack.enter_context(patch(path, _recorded(kind, resolve_name(path))))
        yield


def _recorded(kind: str, work: Any) -> Any:
    def recorded(*arguments: Any, **named: Any) -> Any:
        with torch.profiler.record_function(kind):
            return work(*arguments, **named)

    return recorded


def by_kind(events: Iterable[Any], total: float) -> pd.DataFrame:
    """Seconds and share of `total` (seconds of wall time) per kind of operation, the largest first."""
    seconds = dict.fromkeys([*PARTS, *WORDS], 0.0)
    for event in events:
        if event.name not in PARTS:  # their own self time is Python's
            seconds[_kind(event)] += event.self_cpu_time_total / 1e6
    rows = [*sorted(seconds.items(), key=lambda row: -row[1]), (REST, total - sum(seconds.values()))]
    return pd.DataFrame(
        [{"kind": kind, "seconds": f"{value:.3f}", "share": f"{value / total:.1%}"} for kind, value in rows]
    )


def _kind(event: Any) -> str:
    parent = event.cpu_parent
    while parent is not None:
        if parent.name in PARTS:
            return str(parent.name)
        parent = parent.cpu_parent
    return next(kind for kind, words in WORDS.items() if any(word in event.name for word in words))


if __name__ == "__main__":
    sys.exit(main())
