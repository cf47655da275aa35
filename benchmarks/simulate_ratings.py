"""Does the interval of the exponent of RMSE = a N^-b cover it, and is a law refused where there is none?

    python benchmarks/simulate_ratings.py --draws 400

Four sizes rate the same films; errors have a part of the user. `scatter` is the standard deviation of log
RMSE of a model about the law.
"""

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.statistics.ratings.predictions import Predictions
from ebbtide.statistics.ratings.tables import rating_tables

SIZES = (1e6, 1e7, 1e8, 1e9)
N, USERS, ITEMS = 800, 100, 60
EXPONENTS, SCATTERS = (0.0, 0.03), (0.0, 0.05)


def world(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Users, items and true ratings of N examples."""
    users, items = rng.integers(0, USERS, N), rng.integers(0, ITEMS, N)
    target = np.clip(np.rint(3 + rng.normal(0, 0.6, ITEMS)[items] + rng.normal(0, 0.8, N)), 1, 5)
    return {"users": users, "items": items, "target": target}


def predictions(
    of: Mapping[str, np.ndarray], rmse: float, rng: np.random.Generator, model: str, **more: Any
) -> Predictions:
    """A model with this RMSE in the mean, a part of whose errors is common to the ratings of a user."""
    error = rng.normal(0, 0.5, USERS)[of["users"]] + rng.normal(0, 1, N)
    rating = of["target"] + rmse * error / np.sqrt(1.25)
    return Predictions(
        {"model": model, "checkpoint": "step100", "step": 100, "tokens": 100},
        "films",
        rating,
        of["target"],
        of["users"],
        of["items"],
        np.arange(1.0, 6.0),
        np.full(N, 0.9),
        more.get("baselines", {"item_mean": np.full(N, 3.0), "global_mean": np.full(N, 3.5)}),
        more.get("parts", {}),
    )


def series(b: float, seed: int = 0, scatter: float = 0.0) -> list[Predictions]:
    """Four models whose RMSE is N^-b, 1 at the smallest size."""
    rng = np.random.default_rng(seed)
    of = world(rng)
    errors = [(size / SIZES[0]) ** -b * np.exp(rng.normal(0, scatter)) for size in SIZES]
    return [predictions(of, error, rng, f"m{i}") for i, error in enumerate(errors)]


def tables(runs: list[Predictions], target: float = 0.5) -> tuple[pd.DataFrame, pd.DataFrame]:
    """ratings.tsv and ratings_law.tsv of these models."""
    places = [(run.place["model"], run.place["checkpoint"]) for run in runs]
    metrics = pd.DataFrame(places, columns=["model", "checkpoint"])
    metrics["parameters_non_embedding"] = [SIZES[int(model[1:])] for model, _ in places]
    return rating_tables(runs, metrics, parameters="non_embedding", target=target, level=0.95)


def simulate_ratings(draws: int) -> pd.DataFrame:
    """One row per exponent and scatter: coverage of the exponent (nominal 0.95), and shares refused."""
    rows = []
    for b in EXPONENTS:
        for scatter in SCATTERS:
            laws = pd.DataFrame([tables(series(b, seed, scatter))[1].iloc[0] for seed in range(draws)])
            covered = (laws["b_low"] <= b) & (b <= laws["b_high"])
            refused = (laws["reason"] != "").mean()
            rows.append({"b": b, "scatter": scatter, "coverage": covered.mean(), "refused": refused})
    return pd.DataFrame(rows).assign(draws=draws)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=100)
    rates = simulate_ratings(parser.parse_args().draws)
    print(rates.to_csv(sep="\t", index=False, float_format="%.3g"))
