"""Ebbtide against lm-eval on real models and tasks: one process, one thread, float32, taking turns.

    python benchmarks/scoring.py --truthful-qa FILE
    python benchmarks/scoring.py --rows memotrap startup

Prints a table and writes it as TSV with a figure beside it. The ratio is CPU time of lm-eval at the best of
its batch sizes over ours, both without tokenisation, medians over rounds. Useful MFU counts the FLOP of the
unique tokens and scored positions only, against torch's matrix product measured in the same rounds. Where
the engine's own product is faster than torch's, it can exceed 100 %; the last column of MFU is against the
faster of the two.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ebbtide.scoring.engine import load_scorer
from ebbtide.scoring.linear import multiply
from ebbtide.scoring.scorer import Scorer
from ebbtide.tables import write_tsv
from exact import Exact
from figure import save_ratios
from machine import describe, run
from measure import (
    ERROR_MUST,
    ERROR_STRETCH,
    MFU_MUST,
    MFU_STRETCH,
    Comparison,
    compare,
    matmul_peak,
    verdict,
)
from models import MODELS, model_directory, named_directories
from peer import Peer
from startup import MUST, STRETCH, measure_startup
from workloads import WORKLOADS, Data, MissingError, Workload

STARTUP = "startup"
PEAK_SIZES = (1024, 2048)


def main() -> int:
    """Parse the command line, run, print; an error of the user's is one sentence and status 1."""
    options = _parser().parse_args()
    return run(_run, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [w.name for w in WORKLOADS]
    parser.add_argument("--rows", nargs="+", choices=[*names, STARTUP], help="only these rows")
    parser.add_argument("--long", action="store_true", help="also 60 questions of TruthfulQA, and 50 shots")
    parser.add_argument("--repeats", type=_at_least(1, int), default=3, help="rounds (default: 3)")
    parser.add_argument(
        "--scale",
        type=_at_least(0.0, float),
        default=1.0,
        help="times the examples; no verdicts unless 1",
    )
    parser.add_argument("--truthful-qa", type=Path, help="TruthfulQA's multiple-choice file as JSON lines")
    parser.add_argument(
        "--model-dir", nargs="+", default=[], metavar="NAME=DIR", help=f"own copies of {', '.join(MODELS)}"
    )
    parser.add_argument("--to", type=Path, default=Path("results/benchmarks/scoring.tsv"))
    return parser


def _at_least(least: float, number: Callable[[str], float]) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = number(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"found {text}, allowed: {least:g} or more")
        return value

    return parse


def _run(options: argparse.Namespace) -> None:
    directories = named_directories(options.model_dir)
    chosen = [
        w for w in WORKLOADS if (w.name in options.rows if options.rows else options.long or not w.long)
    ]
    print(describe())
    rows = []
    for model in MODELS:
        of_model = [w.scaled(options.scale) for w in chosen if w.model == model]
        rows += _rows_of_model(model, of_model, directories, options)
    if rows:
        table = pd.DataFrame(rows)
        print(report(table))
        write_tsv(table.assign(machine=describe()), options.to)
        save_ratios(table, options.to)
    if not options.rows or STARTUP in options.rows:
        startup = _startup(model_directory("smollm2", directories))
        print(startup.to_string(index=False))
        write_tsv(startup.assign(machine=describe()), options.to.with_name("startup.tsv"))


def _rows_of_model(
    model: str, workloads: Sequence[Workload], directories: dict[str, str], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Rows of the workloads of one model; those that lack something are left out with a sentence."""
    rows: list[dict[str, Any]] = []
    sides: tuple[Scorer, Peer, Exact] | None = None
    for workload in workloads:
        try:
            requests = workload.ask(Data(options.truthful_qa), workload.examples)
            if sides is None:
                directory = model_directory(model, directories)
                sides = load_scorer(directory), Peer(directory, "float32", "cpu"), Exact(directory)
        except MissingError as absent:
            print(f"{workload.name}: {absent}", file=sys.stderr)
            continue
        torch.set_num_threads(1)  # a library may have set its own
        started = time.perf_counter()
        peak = partial(matmul_peak, torch.float32, "cpu", PEAK_SIZES, time.process_time)
        scorer, peer, exact = sides
        found = compare(
            scorer,
            peer,
            exact,
            requests,
            batch_sizes=workload.batch_sizes,
            repeats=options.repeats,
            peak=peak,
        )
        own_peak = matmul_peak(torch.float32, "cpu", PEAK_SIZES, time.process_time, multiply) / 1e9
        rows.append(_row(workload, found, own_peak, judged=options.scale == 1))
        print(
            f"{workload.name}: {found.ratio:.2f} times faster ({time.perf_counter() - started:.0f} s)",
            file=sys.stderr,
        )
    return rows


def _row(workload: Workload, found: Comparison, own_peak: float, *, judged: bool) -> dict[str, Any]:
    fastest = max(found.peak_gflops, own_peak)
    named = {k: getattr(workload, k) for k in ("name", "title", "examples", "must", "stretch")}
    return {
        **named,
        "model": MODELS[workload.model],
        **asdict(found),
        "verdict": verdict(found.ratio, workload.must, workload.stretch) if judged else "",
        "fastest_gflops": fastest,
        "mfu_of_fastest": found.mfu * found.peak_gflops / fastest,
        "mfu_verdict": verdict(found.mfu, MFU_MUST, MFU_STRETCH) if judged else "",
        "error_verdict": verdict(found.error, ERROR_MUST, ERROR_STRETCH),
        "forwarded_per_unique": found.forwarded / found.unique,
    }


def report(table: pd.DataFrame) -> str:
    """The table as people read it, in two parts: times, then work and accuracy."""

    def column(form: str, *names: str) -> list[str]:
        return [form.format(*values) for values in table[list(names)].itertuples(index=False)]

    times = pd.DataFrame(
        {
            "row": table["name"],
            "model": table["model"],
            "examples": table["examples"],
            "requests": table["requests"],
            "lm-eval s (batch)": column("{:.2f} ({})", "peer_seconds", "peer_batch"),
            "Ebbtide s": column("{:.2f}", "seconds"),
            "ratio (range)": column("{:.2f} ({:.2f}–{:.2f})", "ratio", "ratio_low", "ratio_high"),
            "must / stretch": column("{:g} / {:g}", "must", "stretch"),
            "met": table["verdict"],
            "tokenisation s (lm-eval)": column("{:.3f} ({:.3f})", "tokenisation", "peer_tokenisation"),
        }
    )
    work = pd.DataFrame(
        {
            "row": table["name"],
            "useful MFU": column("{:.0%}", "mfu"),
            f"must {MFU_MUST:.0%} / {MFU_STRETCH:.0%}": table["mfu_verdict"],
            "torch GFLOP/s": column("{:.0f}", "peak_gflops"),
            "MFU of fastest (GFLOP/s)": column("{:.0%} ({:.0f})", "mfu_of_fastest", "fastest_gflops"),
            "forwarded": table["forwarded"],
            "unique": table["unique"],
            "forwarded/unique": column("{:.2f}", "forwarded_per_unique"),
            "lm-eval forwarded": table["peer_forwarded"],
            "heads": table["heads"],
            "error (lm-eval)": column("{:.1e} ({:.1e})", "error", "peer_error"),
            f"must {ERROR_MUST:.0e} / {ERROR_STRETCH:.0e}": table["error_verdict"],
        }
    )
    return f"{times.to_string(index=False)}\n\n{work.to_string(index=False)}"


def _startup(directory: Path) -> pd.DataFrame:
    """CPU seconds from process start to the first forward; only our first forward is judged."""
    rows = [asdict(row) for row in measure_startup(directory, repeats=5)]
    for row in rows:
        judged = row["what"] == "first forward"
        row["must"], row["stretch"] = (MUST, STRETCH) if judged else (None, None)
        row["met"] = verdict(row["seconds"], MUST, STRETCH) if judged else ""
    return pd.DataFrame(rows).round({"seconds": 2, "low": 2, "high": 2})


if __name__ == "__main__":
    sys.exit(main())
