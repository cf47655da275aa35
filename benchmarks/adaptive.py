"""Estimates of accuracy from a sample of the examples: coverage of their intervals, and what they save.

    PYTHONPATH=workflow python benchmarks/adaptive.py --parts made_up    # one minute
    PYTHONPATH=workflow python benchmarks/adaptive.py --parts trained    # trains three models, five minutes

`trained`: models of the toy language with 48 checkpoints each, of which the last 16 are estimated, from the
cells of all checkpoints before (lag 1), or only of the first two thirds (lag 1 to 16). `made_up`: a
probit model with known persistence of answers.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.special import ndtri

from ebbtide.corpus.documents import story
from ebbtide.corpus.draw import Draw
from ebbtide.corpus.items import toy_requests
from ebbtide.corpus.words import NAMES, NOUNS
from ebbtide.corpus.world import World, sentence
from ebbtide.logs import Progress
from ebbtide.schema import read_yaml
from ebbtide.statistics.resampling import named_rng
from ebbtide.statistics.small_evaluation.sampling import Sample, strata_of
from simulated import autoregressive

Row = dict[str, Any]
Item = tuple[str, str, str]  # prompt, right word, wrong word

HALF_WIDTH = 0.01
CHECKPOINTS, EVERY = 48, 32  # steps
HELD_OUT = CHECKPOINTS // 3
EARLIER = 6  # checkpoints that predictions use
LADDER = Path(__file__).parents[1] / "workflow/series/ladder.yaml"
WORLD = {"seed": 0, "proverbs": 96, "zipf": 0.7}  # enough proverbs for 2,800 traps
MODELS = ("ladder-d16", "ladder-d32", "ladder-d64")


@dataclass
class Tally:
    """What the samples of one setting found."""

    hits: list[bool]
    scored: list[int]
    errors: list[float]
    tokens: list[int]

    @classmethod
    def empty(cls) -> "Tally":
        """No samples."""
        return cls([], [], [], [])

    def add(
        self, margins: np.ndarray, after: np.ndarray, half_width: float, seed: str, nodes: Any = None
    ) -> None:
        """Sample the checkpoint with margins `after` (n,), predicted by those of `margins` (T, n)."""
        values, truth = (after > 0).astype(float), float((after > 0).mean())
        sample = Sample(strata_of(margins, (margins > 0).astype(float)), half_width, named_rng(seed))
        tokens = 0
        while len(drawn := sample.draw()):
            sample.add(values[drawn])
            tokens += len(np.unique(np.concatenate([nodes[i] for i in drawn]))) if nodes else 0
        found = sample.estimate()
        self.hits.append(abs(found.value - truth) <= found.half_width + 1e-12)
        self.scored.append(found.scored)
        self.errors.append(found.value - truth)
        self.tokens.append(tokens)

    def row(self, n: int) -> Row:
        """Coverage, how many times fewer examples are scored, and the bias."""
        return {
            "samples": len(self.hits),
            "coverage": np.mean(self.hits),
            "times_fewer_examples": n / np.mean(self.scored),
            "bias": np.mean(self.errors),
        }


def made_up(draws: int) -> Iterator[Row]:
    """Settings with known persistence, with and without a checkpoint that is unlike the earlier ones."""
    for accuracy, spread in ((0.9, 2.0), (0.6, 2.0), (0.6, 0.5)):
        for persistence in (0.99, 0.95, 0.8):
            for n in (2000, 4000, 10_000):
                yield _made_up(draws, n, accuracy, spread, persistence)
    for half_width in (0.02, 0.03):
        yield _made_up(draws, 2000, 0.6, 2.0, 0.95, half_width=half_width)
    for change in ("drop of 0.2", "reversed"):
        for n in (2000, 10_000):
            yield _made_up(draws, n, 0.9, 2.0, 0.95, change=change)


def _made_up(
    draws: int,
    n: int,
    accuracy: float,
    spread: float,
    persistence: float,
    *,
    half_width: float = HALF_WIDTH,
    change: str = "none",
) -> Row:
    tally, changed = Tally.empty(), []
    for draw in range(draws):
        seed = f"{n} {accuracy} {spread} {persistence} {half_width} {change} {draw}"
        rng = named_rng(seed)
        means = np.full(EARLIER + 1, accuracy)
        if change.startswith("drop"):
            means[-1] -= 0.2
        thresholds = ndtri(means)[:, None] * np.sqrt(1 + spread**2)
        noise = autoregressive(rng, EARLIER + 1, n, persistence)
        margins = thresholds - spread * rng.standard_normal(n) - noise
        if change == "reversed":
            margins[-1] *= -1
        changed.append(((margins[-1] > 0) != (margins[-2] > 0)).mean())
        tally.add(margins[:-1], margins[-1], half_width, f"sample {seed}")
    setting = {"accuracy": accuracy, "spread": spread, "persistence": persistence}
    setting |= {"half_width": half_width, "change": change, "n": n}
    return {**setting, "changed_answers": np.mean(changed), **tally.row(n)}


def trained(draws: int) -> Iterator[Row]:
    """Models of the embedded ladder, trained here; `draws` samples per checkpoint."""
    for model in MODELS:
        for task, items, margins in _margins_of(model):
            nodes = _nodes(items)
            every = len(np.unique(np.concatenate(nodes)))
            for lag in ("1", f"1 to {HELD_OUT}"):
                tally = Tally.empty()
                for t in range(EARLIER, len(margins)):
                    last = t if lag == "1" else EARLIER
                    for draw in range(draws):
                        name = f"{model} {task} {lag} {t} {draw}"
                        tally.add(margins[last - EARLIER : last], margins[t], HALF_WIDTH, name, nodes)
                right = margins > 0
                yield {
                    "model": model,
                    "task": task,
                    "n": len(items),
                    "lag": lag,
                    "accuracy": right[EARLIER:].mean(),
                    "changed_answers": (right[EARLIER:] != right[EARLIER - 1 : -1]).mean(),
                    **tally.row(len(items)),
                    "times_fewer_tokens": every / np.mean(tally.tokens),
                }


def _margins_of(model: str) -> Iterator[tuple[str, list[Item], np.ndarray]]:
    """Train a model; yield tasks, and margins (EARLIER + HELD_OUT, n) of the last checkpoints."""
    from ebbtide.scoring.encoded_task import encode_task
    from ebbtide.scoring.engine import load_scorer
    from ebbtide.training.train import train

    series = read_yaml(LADDER)
    steps = [EVERY * (k + 1) for k in range(CHECKPOINTS)]
    spec = {
        "corpus": {**series["corpus"], "world": WORLD},
        "recipe": {**series["recipe"], "steps": steps[-1]},
        "model": {k: float(v) if k == "learning_rate" else v for k, v in series["models"][model].items()},
        "checkpoints": steps[-EARLIER - HELD_OUT :],
    }
    tasks = _tasks()
    encoded: dict[str, Any] = {}
    margins: dict[str, list[np.ndarray]] = {name: [] for name in tasks}
    with tempfile.TemporaryDirectory() as directory:
        train(spec, Path(directory), Progress())
        for step in spec["checkpoints"]:
            scorer = load_scorer(f"{directory}/step{step}")
            for name, items in tasks.items():
                if name not in encoded:
                    encoded[name] = encode_task(scorer, _table(items), name, window=scorer.window).requests
                scores = scorer.score(encoded[name])
                right, wrong = np.add.reduceat(scores.loglikelihood, scores.bounds[:-1]).reshape(-1, 2).T
                margins[name].append(right - wrong)
    for name, items in tasks.items():
        yield name, items, np.stack(margins[name])


def _tasks() -> dict[str, list[Item]]:
    """Two tasks of the ladder, sums that somebody says, and two that are not learned."""
    world = World(**WORLD)
    found = {name: _items(name, world, 2800) for name in ("memo_trap", "quote_repetition")}
    sums = [(f"{n} says : {c}", r, w) for c, r, w in _items("arithmetic", world, 580) for n in NAMES]
    picked = np.random.default_rng(5).permutation(len(sums))[:4000]
    found["sums"] = [sums[i] for i in picked]
    draw, stories, endings = Draw("adaptive", 7), [], []
    while len(stories) < 4000:
        words = story(world, draw)
        stories.append((" ".join(words[:-2]), words[-2], words[6] if words[-2] == words[0] else words[0]))
    while len(endings) < 4000:
        words, other = list(sentence(draw)), draw.pick(NOUNS)
        if other not in words:
            endings.append((" ".join(words[:-1]), words[-1], other))
    return {**found, "stories": stories, "endings": endings}


def _items(name: str, world: World, examples: int) -> list[Item]:
    rows = toy_requests(name, world, examples, 1).sort_values(["example", "gold"], ascending=[True, False])
    right, wrong = rows[rows["gold"]], rows[~rows["gold"]]
    words = (rows["continuation"].str.strip() for rows in (right, wrong))
    return list(zip(right["context"], *words, strict=True))


def _table(items: list[Item]) -> pa.Table:
    columns = {
        "example": [str(i) for i in range(len(items)) for _ in range(2)],
        "choice": [0, 1] * len(items),
        "context": [prompt for prompt, *_ in items for _ in range(2)],
        "continuation": [f" {word}" for _, *words in items for word in words],
    }
    return pa.table(columns)


def _nodes(items: list[Item]) -> list[np.ndarray]:
    """Numbers of the distinct beginnings of each prompt: the tokens that must be forwarded."""
    numbers: dict[tuple[str, ...], int] = {}
    words = [prompt.split() for prompt, *_ in items]
    return [
        np.array([numbers.setdefault(tuple(w[:k]), len(numbers)) for k in range(len(w) + 1)]) for w in words
    ]


PARTS = {"made_up": (made_up, 200), "trained": (trained, 20)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, help="samples per setting or checkpoint")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    for part in options.parts:
        rows, draws = PARTS[part]
        table = pd.DataFrame(rows(options.draws or draws))
        print(table.to_csv(sep="\t", index=False, float_format="%.3g"), flush=True)
