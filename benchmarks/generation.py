"""Generation against `transformers.generate`: tokens per CPU second, one process, one thread, float32.

    EBBTIDE_MIRRORS=MIRROR python benchmarks/generation.py
    python benchmarks/generation.py --prompts 8 --batch-sizes 50 100

Samples at temperature 1 with top-p 0.9 to prompts of MemoTrap, by SmolLM2-135M. Nothing ends a sample before
its last token, so both sides generate the same number. `transformers.generate` gets left-padded batches of
similar length, `--batch-sizes` sequences each. The ratio is its CPU time at the best of them over ours,
median over rounds that take turns.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ebbtide.checkpoints.load import load_model
from ebbtide.scoring.engine import load_scorer
from ebbtide.scoring.generation.decoding import Decoding, generation_key
from ebbtide.scoring.generation.prompts import encode_prompts
from ebbtide.scoring.scorer import Counters, Scorer
from ebbtide.tables import write_tsv
from machine import describe, run
from measure import interleave, verdict
from models import model_directory, named_directories
from workloads import Data

MODEL = "smollm2"
MUST, STRETCH = 2.0, 3.0  # times faster


def main() -> int:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=100, help="default: 100; no verdict with fewer")
    parser.add_argument("--samples", type=int, default=25, help="per prompt (default: 25)")
    parser.add_argument("--tokens", type=int, default=20, help="per sample (default: 20)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds (default: 3)")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[25, 50, 100, 200], metavar="SEQUENCES")
    parser.add_argument("--model-dir", nargs="+", default=[], metavar="NAME=DIR", help="an own copy")
    parser.add_argument("--to", type=Path, default=Path("results/benchmarks/generation.tsv"))
    return run(_run, parser.parse_args())


def _run(options: argparse.Namespace) -> None:
    directory = model_directory(MODEL, named_directories(options.model_dir))
    decoding = Decoding(options.tokens, samples=options.samples, temperature=1.0, top_p=0.9)
    scorer = load_scorer(directory)
    prompts = _prompts(scorer, options.prompts, decoding)
    model = load_model(directory, "float32")
    model.generation_config.eos_token_id = None
    counters: list[Counters] = []

    def ours(asked: Sequence[list[int]] = prompts) -> int:
        keys = [generation_key("benchmark", str(number)) for number in range(len(asked))]
        counters.append(Counters())
        found = scorer.generate(asked, decoding, keys=keys, eos=frozenset(), counters=counters[-1])
        return len(found.tokens)

    def theirs(size: int, asked: Sequence[list[int]] = prompts) -> int:
        return peer(model, asked, decoding, max(1, size // decoding.samples))

    ours(prompts[:1]), theirs(1, prompts[:1])  # both sides set things up lazily
    methods: dict[str, Callable[[], object]] = {"Ebbtide": ours}
    methods |= {f"{size}": lambda size=size: theirs(size) for size in options.batch_sizes}  # type: ignore[misc]
    seconds, _ = interleave(methods, options.repeats, time.process_time, lambda: 0.0)
    table = compared(seconds, options, counters[-1])
    print(describe())
    print(table.to_string(index=False))
    write_tsv(table.assign(machine=describe()), options.to)


def _prompts(scorer: Scorer, count: int, decoding: Decoding) -> list[list[int]]:
    """Different prompts of MemoTrap in tokens."""
    texts = list(dict.fromkeys(request.context for request in Data(None).proverbs(10**6)))[:count]
    names = [f"prompt {number}" for number in range(len(texts))]
    limits = {"window": scorer.window, "vocabulary": scorer.vocabulary, "max_tokens": decoding.max_tokens}
    ids, _ = encode_prompts(scorer.tokenizer, texts, names, bos="tokenizer", truncation="refuse", **limits)
    return ids


def peer(model: Any, prompts: Sequence[list[int]], decoding: Decoding, size: int) -> int:
    """Sample with `transformers.generate`, `size` prompts at a time. Returns the number of tokens."""
    count = 0
    ordered = sorted(prompts, key=len)
    for start in range(0, len(ordered), size):
        batch = ordered[start : start + size]
        longest = max(map(len, batch))
        ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in batch])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in batch])
        with torch.inference_mode():
            found = model.generate(
                ids,
                attention_mask=mask,
                do_sample=True,
                temperature=decoding.temperature,
                top_p=decoding.top_p,
                top_k=0,
                num_return_sequences=decoding.samples,
                max_new_tokens=decoding.max_tokens,
                pad_token_id=0,
            )
        count += found[:, longest:].numel()
    return count


def compared(
    seconds: dict[str, list[float]], options: argparse.Namespace, counters: Counters
) -> pd.DataFrame:
    """One row per side and batch size; ratios over the rounds."""
    tokens = options.prompts * options.samples * options.tokens
    median = {name: statistics.median(times) for name, times in seconds.items()}
    best = min((name for name in median if name != "Ebbtide"), key=median.__getitem__)
    rows = []
    for name, times in seconds.items():
        ratios = [theirs / ours for theirs, ours in zip(times, seconds["Ebbtide"], strict=True)]
        judged = name == best and options.prompts >= 100
        rows.append(
            {
                "side": name if name == "Ebbtide" else f"transformers.generate, {name} sequences",
                "cpu_seconds": round(median[name], 2),
                "tokens": tokens,
                "tokens_per_second": round(tokens / median[name], 1),
                "ratio": round(statistics.median(ratios), 2),
                "ratio_low": round(min(ratios), 2),
                "ratio_high": round(max(ratios), 2),
                "forwarded_per_unique": round(counters.forwarded / counters.unique, 3)
                if name == "Ebbtide"
                else None,
                "met": verdict(statistics.median(ratios), MUST, STRETCH) if judged else "",
            }
        )
    return pd.DataFrame(rows)


if __name__ == "__main__":
    sys.exit(main())
