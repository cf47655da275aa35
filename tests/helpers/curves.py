"""Trajectories with a known curve, drawn example by example."""

import numpy as np
import pandas as pd

from ebbtide.statistics.panel import Trajectory

N = 1000  # examples


def drawn(means: np.ndarray, n: int = N, seed: int = 0) -> np.ndarray:
    """0/1 values (T, n): examples keep a difficulty, half of what decides."""
    rng = np.random.default_rng(seed)
    hard = rng.random(n)
    fresh = rng.random((len(means), n)) < means[:, None]
    return np.where(rng.random((len(means), n)) < 0.5, hard < means[:, None], fresh).astype(float)


def trajectory(
    values: np.ndarray,
    model: str = "m",
    parameters: int = 7,
    metric: str = "accuracy",
    tokens: np.ndarray | None = None,
    **more: np.ndarray,
) -> Trajectory:
    places = len(values)
    steps = 2 ** np.arange(places)
    frame = pd.DataFrame(
        {
            "checkpoint": [f"step{step}" for step in steps],
            "step": steps,
            "tokens": 1024 * steps if tokens is None else tokens,
        }
    )
    examples = np.array([f"e{i:05}" for i in range(values.shape[1])])
    sizes = dict.fromkeys(("total", "non_embedding", "active", "nominal"), parameters)
    return Trajectory(model, "t", frame, sizes, examples, np.arange(len(examples)), {metric: values, **more})
