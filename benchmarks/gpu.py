"""Ebbtide on one GPU, in one command of at most eight minutes: against lm-eval, and what only a GPU shows.

    python -m venv gpu && gpu/bin/pip install --no-index --find-links WHEELS -e '.[test]'
    gpu/bin/python benchmarks/gpu.py
    python benchmarks/gpu.py --device cpu --tiny      # only tries the code, in two minutes

Needs no network: weights are random (GPT-NeoX in the shapes of Pythia), texts and tokenizer are made up. So
the scores mean nothing, but the work is that of real checkpoints. The parts, in order; those for which the
time is too short are left out, and named:

lm_eval    wall-clock ratio to lm-eval at the best of its batch sizes (`auto` among them, its search for a
           size included) in bfloat16, useful MFU, and our own time when no prefix is shared (*unshared*):
           their ratio is what the trie gives
float32    largest difference between GPU and CPU in float32, nats per request (must: 1e-4)
memory     scores are the same when memory runs out and chunks are halved
kernels    kernels per token and the share of the time in which the GPU works, up to 41,794 requests
two_jobs   two processes on this GPU: one after the other, at once, and at once with leases
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ebbtide.jobs.devices import FAKE_GPUS, visible_devices
from ebbtide.jobs.leases import DIRECTORY, lease
from ebbtide.scoring import head, memory
from ebbtide.scoring.encoded import Requests
from ebbtide.scoring.engine import load_scorer, sums
from ebbtide.scoring.scorer import Counters, Scorer
from ebbtide.scoring.trie import Trie
from ebbtide.tables import write_tsv
from exact import Exact
from machine import describe, run
from made_up import Shape, endings, figures, questions, write_checkpoint
from measure import BenchmarkError, Clock, compare, encode_ours, matmul_peak
from peer import Peer
from workloads import Request

FLOAT32_MUST = 1e-4  # nats per request
LEAST_SECONDS = 30  # a part is not begun with less time than this
SCORE = """
import sys, time
from ebbtide.scoring.engine import load_scorer, score_requests
scorer = load_scorer(sys.argv[1], "bfloat16" if sys.argv[3] == "cuda" else "float32")
score_requests(scorer, sys.argv[2])
"""

Row = dict[str, Any]


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    shapes: tuple[Shape, ...]  # compared with lm-eval
    small: Shape  # for the other parts
    batch_sizes: tuple[int | str, ...]
    peak_sizes: tuple[int, ...]
    tasks: dict[str, list[Request]]
    host_requests: int


def full() -> Scale:
    """The scale of the benchmark."""
    tasks = {
        "endings": endings(860),
        "questions": questions(736),
        "questions, 10-shot": questions(100, shots=10),
    }
    return Scale(
        (Shape("pythia-410m", 1024, 24, 16), Shape("pythia-1.4b", 2048, 24, 16)),
        Shape("pythia-70m", 512, 6, 8),
        ("auto", 16, 32, 64, 128, 256),
        (4096, 8192),
        tasks,
        41_794,
    )


def tiny() -> Scale:
    """A scale that only tries the code."""
    shape = Shape("tiny", 64, 2, 4)
    return Scale((shape,), shape, ("auto", 8), (256,), {"endings": endings(4)}, 200)


class Setting:
    """The device, the scale, and when the time is over."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.device: str = options.device
        self.repeats: int = options.repeats
        self.scale = tiny() if options.tiny else full()
        self.folder = folder
        self._end = time.monotonic() + 60 * options.minutes
        self._checkpoints: dict[str, Path] = {}

    @property
    def left(self) -> float:
        """Seconds left."""
        return self._end - time.monotonic()

    @property
    def dtype(self) -> str:
        """The precision of our jobs on this device."""
        return "bfloat16" if self.device == "cuda" else "float32"

    def now(self) -> float:
        """Wall-clock seconds, once the device has done all it was given."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def checkpoint(self, shape: Shape) -> Path:
        """A checkpoint of this shape, written at its first use."""
        if shape.name not in self._checkpoints:
            self._checkpoints[shape.name] = write_checkpoint(shape, self.folder / shape.name)
        return self._checkpoints[shape.name]


def main() -> int:
    """Parse the command line, run, print; an error of the user's is one sentence and status 1."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true", help="a tiny shape and a few examples")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--minutes", type=float, default=8, help="no part is begun after this time")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--to", type=Path, default=Path("results/benchmarks/gpu.tsv"))
    options = parser.parse_args()
    return run(_run, options)


def _run(options: argparse.Namespace) -> None:
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # or the engine would choose the GPU
    elif not torch.cuda.is_available():
        raise BenchmarkError("no CUDA device was found; --device cpu --tiny tries the code without one.")
    machine = describe(options.device)
    print(machine)
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(options, Path(folder))
        for name in options.parts:
            if setting.left < LEAST_SECONDS:
                print(f"\n{name}: left out, only {max(0, setting.left):.0f} s are left", flush=True)
                continue
            started = time.monotonic()
            rows = list(PARTS[name](setting))
            table = pd.DataFrame(rows)
            print(f"\n{name} ({time.monotonic() - started:.0f} s)")
            print(table.to_string(index=False, float_format=lambda value: f"{value:.3g}"), flush=True)
            write_tsv(table.assign(machine=machine), options.to.with_name(f"{options.to.stem}_{name}.tsv"))


def compare_with_lm_eval(setting: Setting) -> Iterator[Row]:
    """Both sides on each shape and task; and our own time without shared prefixes."""
    device, scale = setting.device, setting.scale
    for shape in scale.shapes:
        checkpoint = setting.checkpoint(shape)
        scorer, load = _timed(partial(load_scorer, checkpoint, "bfloat16"), setting.now)
        peer, peer_load = _timed(partial(Peer, checkpoint, "bfloat16", device, "auto"), setting.now)
        exact = Exact(checkpoint, device)
        for task, requests in scale.tasks.items():
            if setting.left < LEAST_SECONDS:
                print(f"{shape.name}, {task}: left out, only {setting.left:.0f} s are left", file=sys.stderr)
                continue
            found = compare(
                scorer,
                peer,
                exact,
                requests,
                batch_sizes=scale.batch_sizes,
                repeats=setting.repeats,
                clock=setting.now,
                peak=partial(matmul_peak, torch.bfloat16, device, scale.peak_sizes, setting.now),
            )
            apart = without_sharing(encode_ours(scorer, requests))
            unshared = min(_timed(partial(scorer.score, apart), setting.now)[1] for _ in range(2))
            times = {"load": load, "peer_load": peer_load, "unshared": unshared}
            yield {"shape": shape.name, "task": task, **times, **asdict(found)}
        del scorer, peer, exact
        memory.release()


def without_sharing(requests: Requests) -> Requests:
    """The same requests with a trie in which each has nodes of its own: packed, but nothing is shared."""
    fed = np.diff(requests.bounds) - 1
    first = np.cumsum(fed) - fed
    place = np.arange(len(requests.tokens)) - np.repeat(requests.bounds[:-1], fed + 1)
    read = place < np.repeat(fed, fed + 1)
    position = np.arange(requests.scored.sum()) - np.repeat(requests.scored_bounds[:-1], requests.scored)
    trie = Trie(
        token=requests.tokens[read],
        depth=place[read],
        end=np.repeat(first + fed, fed),
        node=np.repeat(first + requests.context - 1, requests.scored) + position,
        target=requests.continuations,
        request=np.repeat(np.arange(len(requests)), requests.scored),
        position=position,
    )
    return replace(requests, stored_trie=Trie(**{n: v.astype(np.int32) for n, v in vars(trie).items()}))


def compare_with_cpu(setting: Setting) -> Iterator[Row]:
    """The largest difference between the device and the CPU in float32."""
    checkpoint = setting.checkpoint(setting.scale.small)
    on_device = load_scorer(checkpoint, "float32")
    with _only_cpu():
        on_cpu = load_scorer(checkpoint, "float32")
    for task, requests in setting.scale.tasks.items():
        encoded = encode_ours(on_cpu, requests[:200])
        difference = np.abs(_values(on_device, encoded) - _values(on_cpu, encoded)).max()
        met = difference <= FLOAT32_MUST
        yield {
            "task": task,
            "requests": len(encoded),
            "difference": difference,
            "must": FLOAT32_MUST,
            "met": met,
        }


def run_out_of_memory(setting: Setting) -> Iterator[Row]:
    """Scores with all memory, and with so little that chunks are halved."""
    scorer = load_scorer(setting.checkpoint(setting.scale.small), "float32")
    encoded = encode_ours(scorer, figures(setting.scale.host_requests // 100))  # more than one chunk
    whole, counters = Counters(), Counters()
    expected = _values(scorer, encoded, whole)
    with _little_memory(setting.device, whole.chunk):
        found = _values(scorer, encoded, counters)
    chunks = {"tokens in a chunk": whole.chunk, "with little memory": counters.chunk}
    yield {
        "requests": len(encoded),
        **chunks,
        "difference": np.abs(found - expected).max(),
        "halved": counters.chunk < whole.chunk,
    }


@contextmanager
def _little_memory(device: str, chunk: int) -> Iterator[None]:
    """Memory that is too small for a chunk of this size; on a CPU, a forward pass that says so."""
    from unittest.mock import patch

    if device == "cuda":
        memory.release()
        used, total = torch.cuda.memory_reserved(), torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction((used + 128 * 2**20) / total)
        try:
            # The engine looks at the free memory first, and would choose a chunk that fits. The head has
            # slices that need most of this memory, and are not halved.
            with (
                patch.object(memory, "free_memory", lambda _: None),
                patch.dict(head.SLICE_ELEMENTS, {"cuda": 1 << 20}),
            ):
                yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        return
    from ebbtide.scoring.body import NativeBody

    real = NativeBody.forward

    def forward(self: Any, part: Any) -> Any:
        if part.stop - part.start > chunk // 2:
            raise torch.OutOfMemoryError("too little memory")
        return real(self, part)

    with patch.object(NativeBody, "forward", forward):
        yield


def count_kernels(setting: Setting) -> Iterator[Row]:
    """Kernels (on a CPU: operations) per token, and the share of the time in which the device works."""
    scale = setting.scale
    for shape in (scale.small, *scale.shapes):
        scorer = load_scorer(setting.checkpoint(shape), setting.dtype)
        tasks = scale.tasks if shape == scale.small else {}
        for task, requests in {**tasks, "figures": figures(scale.host_requests // 2)}.items():
            encoded = encode_ours(scorer, requests)
            scorer.score(encoded)
            counters = Counters()
            seconds = min(
                _timed(partial(scorer.score, encoded, counters=counters), setting.now)[1] for _ in range(2)
            )
            kernels, busy = _kernels(partial(scorer.score, encoded), setting)
            yield {
                "shape": shape.name,
                "task": task,
                "requests": len(encoded),
                "tokens": counters.unique // 2,
                "kernels per token": 2 * kernels / counters.forwarded,
                "seconds": seconds,
                "µs per token": 2e6 * seconds / counters.forwarded,
                "device busy": busy / seconds,
            }
        del scorer
        memory.release()


def _kernels(work: Callable[[], object], setting: Setting) -> tuple[int, float]:
    """Number of kernels of some work, and the seconds that they take."""
    from torch.profiler import ProfilerActivity, profile

    on_gpu = setting.device == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as profiled:
        work()
        setting.now()
    kind = torch.autograd.DeviceType.CUDA if on_gpu else torch.autograd.DeviceType.CPU
    kernels = [event for event in profiled.events() if event.device_type == kind]
    return len(kernels), sum(
        e.self_device_time_total if on_gpu else e.self_cpu_time_total for e in kernels
    ) / 1e6


def two_jobs_at_once(setting: Setting) -> Iterator[Row]:
    """Two processes on this device: one after the other, at once without a lease, and at once with one."""
    from host import write_task

    checkpoint = setting.checkpoint(setting.scale.small)
    requests = write_task(figures(setting.scale.host_requests // 8), setting.folder / "task.parquet")
    command = [sys.executable, "-c", SCORE, str(checkpoint), str(requests), setting.device]
    # On a CPU, a made-up device with locks of its own.
    if setting.device == "cpu":
        os.environ[DIRECTORY] = str(setting.folder / "locks")
    device = visible_devices(None if setting.device == "cuda" else {FAKE_GPUS: "GPU-a:80000"}).devices[:1]

    def score(leased: bool) -> int:
        with lease([device], "benchmark", lambda _: None) if leased else nullcontext() as held:
            environment = held.environment if held and setting.device == "cuda" else {}
            done = subprocess.run(
                command, env={**os.environ, **environment}, stderr=subprocess.DEVNULL, check=False
            )
            return done.returncode

    for name, at_once, leased in (
        ("one after the other", 1, False),
        ("at once", 2, False),
        ("at once, leased", 2, True),
    ):
        started = time.perf_counter()
        with ThreadPoolExecutor(at_once) as pool:
            if any(pool.map(score, [leased] * 2)):
                raise BenchmarkError(f"two jobs, {name}: a job failed.")
        yield {"two jobs": name, "seconds": time.perf_counter() - started}


PARTS: dict[str, Callable[[Setting], Iterator[Row]]] = {
    "lm_eval": compare_with_lm_eval,
    "float32": compare_with_cpu,
    "memory": run_out_of_memory,
    "kernels": count_kernels,
    "two_jobs": two_jobs_at_once,
}


def _values(scorer: Scorer, encoded: Requests, counters: Counters | None = None) -> np.ndarray:
    """Log-likelihoods (R,)."""
    scores = scorer.score(encoded, counters=counters)
    return np.array(sums(scores.loglikelihood, scores.bounds))


@contextmanager
def _only_cpu() -> Iterator[None]:
    """Loading inside this block uses the CPU."""
    from unittest.mock import patch

    with patch.object(torch.cuda, "is_available", lambda: False):
        yield


def _timed(work: Callable[[], Any], clock: Clock) -> tuple[Any, float]:
    started = clock()
    result = work()
    return result, clock() - started


if __name__ == "__main__":
    sys.exit(main())
