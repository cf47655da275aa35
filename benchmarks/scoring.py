"""What the prefix trie saves: it against padded batches, in one process, interleaved.

    python benchmarks/scoring.py --model DIR --requests resources/tasks/memo_trap_proverbs.parquet

Prints a table (and writes it with `--to`): CPU seconds (median over repeats, one thread), the ratio to padded
batches, tokens forwarded and the least possible, useful MFU (FLOPs of the unique tokens and scored heads,
over time and over the matmul peak measured in the same run), and the largest error against float64.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ebbtide.scoring.encoding import Encoded, encode
from ebbtide.scoring.engine import Scorer, load_scorer
from ebbtide.scoring.padded import Counters, TokenScores, score_padded
from ebbtide.scoring.trie import build_trie
from ebbtide.scoring.walk import score_trie
from ebbtide.tables import REQUESTS, read_parquet, write_tsv


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="Hugging Face directory")
    parser.add_argument("--requests", required=True, help="Parquet: example, choice, context, continuation")
    parser.add_argument("--examples", type=int, default=100, help="the first so many examples (default: 100)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch-tokens", type=int, nargs="+", default=[512, 1024, 4096])
    parser.add_argument("--to", help="write the table as TSV too")
    options = parser.parse_args()
    scorer = load_scorer(options.model)
    requests = encoded(scorer, options.requests, options.examples)
    methods: dict[str, Callable[[Any, Counters], list[TokenScores]]] = {
        "trie": lambda model, counters: score_trie(model, requests, counters)
    }
    for size in options.batch_tokens:
        methods[f"padded {size}"] = lambda model, counters, size=size: score_padded(
            model, requests, counters, batch_tokens=size
        )
    table = compare(scorer, requests, methods, options.repeats)
    print(f"{options.model}, {options.examples} examples, {len(requests)} requests, 1 thread")
    print(table.to_string(index=False))
    if options.to:
        write_tsv(table, options.to)


def encoded(scorer: Scorer, path: str, examples: int) -> list[Encoded]:
    """The requests of the first examples, in tokens."""
    frame = read_parquet(Path(path), REQUESTS, foreign=True).to_pandas()
    frame = frame[frame["example"].isin(frame["example"].drop_duplicates().head(examples))]
    return encode(
        scorer.tokenizer,
        frame["context"].tolist(),
        frame["continuation"].tolist(),
        [str(i) for i in frame.index],
        encoding="harness",
        window=int(scorer.model.config.max_position_embeddings),
        vocabulary=int(scorer.model.config.vocab_size),
    )


def compare(
    scorer: Scorer,
    requests: list[Encoded],
    methods: dict[str, Callable[[Any, Counters], list[TokenScores]]],
    repeats: int,
) -> pd.DataFrame:
    """One row per method; methods take turns, so that a slow minute hits all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    forwarded: dict[str, int] = {}
    found: dict[str, list[TokenScores]] = {}
    peaks = []
    for _ in range(repeats):
        peaks.append(matmul_peak())
        for name, method in methods.items():
            counters = Counters()
            started = time.process_time()
            found[name] = method(scorer.model, counters)
            seconds[name].append(time.process_time() - started)
            forwarded[name] = counters.forwarded
    exact = score_trie(scorer.model.double(), requests, Counters())
    trie = build_trie(requests)
    heads = len(set(trie.node.tolist()))
    output = scorer.model.get_output_embeddings().weight.numel()
    useful = 2 * scorer.parameters_non_embedding * len(trie) + 2 * output * heads
    median = {name: statistics.median(times) for name, times in seconds.items()}
    best_padded = min(value for name, value in median.items() if name != "trie")
    return pd.DataFrame(
        {
            "method": list(methods),
            "cpu_seconds": [round(median[name], 3) for name in methods],
            "ratio_to_best_padded": [round(best_padded / median[name], 2) for name in methods],
            "forwarded": [forwarded[name] for name in methods],
            "unique": len(trie),
            "useful_mfu": [round(useful / median[name] / statistics.median(peaks), 3) for name in methods],
            "largest_error": [largest_error(found[name], exact) for name in methods],
        }
    )


def largest_error(found: list[TokenScores], exact: list[TokenScores]) -> float:
    """Largest difference of a request's log-likelihood (nats)."""
    return max(abs(sum(a.loglikelihoods) - sum(b.loglikelihoods)) for a, b in zip(found, exact, strict=True))


def matmul_peak(size: int = 1024) -> float:
    """FLOP/s of a float32 matrix product, the best of five."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    best = float("inf")
    for _ in range(5):
        started = time.process_time()
        a @ b
        best = min(best, time.process_time() - started)
    return 2 * size**3 / best


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
