"""How often each choice of the robustness table finds an effect, where there is none and where there is one.

    python benchmarks/simulate_regression.py [--runs 2000] [--effect 0.4] > rates.tsv
    python benchmarks/simulate_regression.py --replicates [--runs 2000] [--effect 1] > rates.tsv

Each run is a grid of 8 models × 8 checkpoints (Pythia's), in one of four situations:

    independent      every cell strays alone, normal noise
    by model         every model has its own level and slope over tokens, beside that
    beta-binomial    every cell has its own chance, and n = 500 examples are drawn with it
    unequal          every cell strays alone, the larger the model and the longer its training, the more

`effect` is the interaction, in standard deviations of the noise; the main effects are 0.

With `--replicates`, several runs of every size have levels and slopes of their own (sd 1, noise of cells 1),
and so have sizes (sd 0, 0.5 or 1). Beside the choices of the table: the mixed model (REML, with
Satterthwaite's degrees of freedom), and means of sizes weighted by their runs. `effect` is in standard
deviations of the slopes of runs.
"""

import argparse
import sys
import zlib
from collections.abc import Iterator, Sequence
from itertools import product, takewhile

import numpy as np
import pandas as pd
from scipy.stats import t as student

from ebbtide.statistics.regression.choices import LEAST_SQUARES, Outcome, outcomes
from ebbtide.statistics.regression.covariance import least_squares
from ebbtide.statistics.regression.design import TERMS, standardise
from ebbtide.statistics.regression.mixed import compare_lines, random_slopes

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


# Sizes × runs of each, and sizes with unequally many.
BALANCED = tuple((seeds,) * sizes for sizes, seeds in product((3, 5, 8), (2, 3, 9)))
UNBALANCED = ((9, 1, 1, 1, 1), (3, 3, 3, 1), (1, 9, 1), (9, 1, 9))
SIZE_SDS = (0.0, 0.5, 1.0)  # of levels and slopes of sizes, in those of runs
NESTED_CHECKPOINTS = 4
CR2_RUNS = 300  # CR2 takes most of the time, and needs fewer: it keeps its level or clearly does not


def nested_rates(
    seeds: Sequence[int], size_sd: float, effect: float, runs: int, alpha: float = 0.05
) -> pd.DataFrame:
    """Share of runs in which the interaction has p < `alpha`.

    Columns `seeds, size_sd, effect, choice, rate, runs`. The seed follows from the arguments.

    Parameters
    ----------
    seeds
        Number of runs of each size, from the smallest.
    size_sd
        Standard deviation of the levels and slopes of sizes.
    effect
        Interaction.
    """
    rng = np.random.default_rng(zlib.crc32(f"{seeds} {size_sd} {effect} {runs}".encode()))
    of_run = np.repeat(np.arange(len(seeds)), seeds)  # (models,)
    model = np.repeat(np.arange(len(of_run)), NESTED_CHECKPOINTS)  # (cells,)
    tokens = np.tile(np.arange(NESTED_CHECKPOINTS), len(of_run))
    size, tokens = standardise(np.column_stack([of_run[model], tokens]).astype(float)).T
    design = np.column_stack([np.ones(len(model)), size, tokens, size * tokens])
    sizes = of_run[model]
    found: dict[str, list[float]] = {}
    for draw in range(runs):
        level, slope = size_sd * rng.standard_normal((2, len(seeds)))[:, of_run] + rng.standard_normal(
            (2, len(of_run))
        )
        y = rng.standard_normal(len(model)) + level[model] + (slope[model] + effect * size) * tokens
        lines = np.polyfit(tokens[:NESTED_CHECKPOINTS], y.reshape(-1, NESTED_CHECKPOINTS).T, 1)[::-1].T
        by_size = compare_lines(lines, size[::NESTED_CHECKPOINTS], of_run).estimates
        by_run = random_slopes(y, size, tokens, model)
        assert not isinstance(by_run, str)
        fits = {
            "base (by size)": by_size.p[2],
            "random slopes by run": by_run.p[2],
            LEAST_SQUARES: least_squares(y, design).p[3],
            "REML": _reml(lines[:, 1], size[::NESTED_CHECKPOINTS], of_run),
            "weighted means": _weighted(lines[:, 1], size[::NESTED_CHECKPOINTS], of_run),
        }
        if draw < CR2_RUNS:
            fits["CR2 by size"] = least_squares(y, design, "CR2", clusters=sizes).p[3]
            fits["CR2 by run"] = least_squares(y, design, "CR2", clusters=model).p[3]
        for choice, p in fits.items():
            found.setdefault(choice, []).append(float(p))
    rows = [
        {"choice": choice, "rate": np.mean(np.array(p) < alpha), "runs": len(p)}
        for choice, p in found.items()
        if not np.isnan(p).any()
    ]
    named = {"seeds": " ".join(map(str, seeds)), "size_sd": size_sd, "effect": effect}
    return pd.DataFrame(rows).assign(**named)[["seeds", "size_sd", "effect", "choice", "rate", "runs"]]


def _reml(slopes: np.ndarray, size: np.ndarray, of_run: np.ndarray) -> float:
    """P of the interaction by the mixed model with Satterthwaite df, in closed form; NaN if unbalanced.

    Where the mean square of sizes is below that of runs, the variance of sizes is 0, and both are pooled.
    """
    count = np.bincount(of_run)
    if np.ptp(count):
        return np.nan
    means = np.bincount(of_run, slopes) / count
    x = np.bincount(of_run, size) / count
    fit = least_squares(means, np.column_stack([np.ones(len(x)), x]))
    spread = count[0] * ((x - x.mean()) ** 2).sum()
    of_sizes, df_sizes = fit.stderr[1] ** 2 * spread, len(x) - 2
    df_runs = len(slopes) - len(x)
    of_runs = ((slopes - means[of_run]) ** 2).sum() / df_runs
    df = df_sizes
    if of_sizes < of_runs:
        df = df_sizes + df_runs
        of_sizes = (of_sizes * df_sizes + of_runs * df_runs) / df
    return float(2 * student.sf(abs(fit.estimate[1]) / np.sqrt(of_sizes / spread), df))


def _weighted(slopes: np.ndarray, size: np.ndarray, of_run: np.ndarray) -> float:
    """P of the interaction by a regression of means over sizes, weighted by their runs."""
    count = np.bincount(of_run)
    means, x = (np.bincount(of_run, values) / count for values in (slopes, size))
    root = np.sqrt(count)
    return float(least_squares(root * means, root[:, None] * np.column_stack([np.ones(len(x)), x])).p[1])


def nested_table(runs: int, effect: float) -> pd.DataFrame:
    """Rates of all grids with replicates, under no effect, and if balanced under `effect`."""
    settings = (
        *product(BALANCED, SIZE_SDS, (0.0, effect)),
        *product(UNBALANCED, SIZE_SDS, (0.0,)),
    )
    return pd.concat(nested_rates(seeds, size_sd, of, runs) for seeds, size_sd, of in settings)


def main() -> None:
    """Print the rates of all situations, under no effect and under the one asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--effect", type=float, help="0.4, with --replicates 1")
    parser.add_argument("--replicates", action="store_true")
    asked = parser.parse_args()
    if asked.replicates:
        table = nested_table(asked.runs, asked.effect or 1.0)
    else:
        effects = (0.0, asked.effect or 0.4)
        table = pd.concat(rates(s, effect, asked.runs) for s in SITUATIONS for effect in effects)
    table.to_csv(sys.stdout, sep="\t", index=False, float_format="%.4f")


if __name__ == "__main__":
    main()
