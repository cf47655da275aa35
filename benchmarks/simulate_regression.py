"""How often each choice of the robustness table finds an effect, where there is none and where there is one.

    python benchmarks/simulate_regression.py [--runs 2000] [--effect 0.4] > rates.tsv

Each run is a grid of 8 models × 8 checkpoints (Pythia's), in one of four situations:

    independent      every cell strays alone, normal noise
    by model         every model has its own level and slope over tokens, beside that
    beta-binomial    every cell has its own chance, and n = 500 examples are drawn with it
    unequal          every cell strays alone, the larger the model and the longer its training, the more

`effect` is the interaction, in standard deviations of the noise; the main effects are 0.
"""

import argparse
import sys
import zlib
from collections.abc import Iterator
from itertools import takewhile

import numpy as np
import pandas as pd

from ebbtide.statistics.regression.choices import Outcome, outcomes
from ebbtide.statistics.regression.design import TERMS, standardise

SITUATIONS = ("independent", "by model", "beta-binomial", "unequal")
SIZES = (18_915_328, 85_056_000, 302_311_424, 805_736_448, 1_208_602_624, 2_517_652_480, 6_444_163_072)
SIZES = (*SIZES, 11_327_027_200)  # non-embedding, Pythia 70M to 12B
STEPS = np.array([2, 4, 8, 16, 32, 64, 128, 143]) * 1000
N = 500
MEAN, NOISE = 0.5, 0.03


def grid(situation: str, effect: float, rng: np.random.Generator, models: int = 8) -> pd.DataFrame:
    """One simulated grid, as rows of the table of metrics; `effect` in standard deviations of the noise."""
    size = np.repeat(np.array(SIZES)[np.linspace(0, 7, models).round().astype(int)], len(STEPS))
    tokens = np.tile(STEPS * 2_097_152, models)
    x, d = standardise(np.log10(np.column_stack([size, tokens]))).T
    value = MEAN + effect * NOISE * x * d + _noise(situation, x, d, rng)
    if situation == "beta-binomial":
        value = rng.binomial(N, np.clip(value, 0.01, 0.99)) / N
    return pd.DataFrame(
        {
            "model": [f"m{s}" for s in size],
            "checkpoint": [f"t{t}" for t in tokens],
            "step": tokens,
            "tokens": tokens,
            "parameters_non_embedding": size,
            "task": "simulated",
            "metric": "accuracy",
            "value": np.clip(value, 0, 1),
            "n": N,
        }
    )


def _noise(situation: str, x: np.ndarray, d: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    alone = NOISE * rng.standard_normal(len(x))
    if situation == "by model":
        _, model = np.unique(x, return_inverse=True)
        level, slope = NOISE * rng.standard_normal((2, model.max() + 1))
        return alone / 2 + level[model] + slope[model] * d
    if situation == "beta-binomial":
        # Variance of a beta beyond that of the n draws, so that both together have about that of NOISE.
        variance = NOISE**2 - MEAN * (1 - MEAN) / N
        total = MEAN * (1 - MEAN) / variance - 1
        return rng.beta(MEAN * total, (1 - MEAN) * total, len(x)) - MEAN
    if situation == "unequal":
        weight = np.exp(0.5 * (x + d))
        return alone * weight / np.sqrt((weight**2).mean())
    return alone


def rates(situation: str, effect: float, runs: int, alpha: float = 0.05, models: int = 8) -> pd.DataFrame:
    """Share of runs with p < `alpha`, columns `situation, effect, choice, term, rate, runs`.

    Models are not left out one by one: that is the base with fewer models. The seed follows from the
    arguments.
    """
    rng = np.random.default_rng(zlib.crc32(f"{situation} {effect} {runs} {models}".encode()))
    found = [
        (outcome.choice, *outcome.estimates.p)
        for _ in range(runs)
        for outcome in _of_all_models(grid(situation, effect, rng, models))
        if outcome.estimates is not None
    ]
    p = pd.DataFrame(found, columns=["choice", *TERMS]).melt("choice", var_name="term", value_name="p")
    share = (p["p"] < alpha).groupby([p["choice"], p["term"]], sort=False).agg(rate="mean", runs="size")
    return share.reset_index().assign(situation=situation, effect=effect)[
        ["situation", "effect", "choice", "term", "rate", "runs"]
    ]


def _of_all_models(rows: pd.DataFrame) -> Iterator[Outcome]:
    return takewhile(lambda outcome: outcome.group != "left out", outcomes(rows, "accuracy", "non_embedding"))


def main() -> None:
    """Print the rates of all situations, under no effect and under the one asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--effect", type=float, default=0.4)
    asked = parser.parse_args()
    tables = [rates(s, effect, asked.runs) for s in SITUATIONS for effect in (0.0, asked.effect)]
    pd.concat(tables).to_csv(sys.stdout, sep="\t", index=False, float_format="%.4f")


if __name__ == "__main__":
    main()
