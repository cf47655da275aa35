"""Metrics tables of one task, with and without noise."""

import numpy as np
import pandas as pd


def table(
    task: str, value: np.ndarray, parameters: np.ndarray, tokens: np.ndarray, metric: str = "accuracy"
) -> pd.DataFrame:
    """A metrics table of one task, one row per cell."""
    parameters, tokens = np.asarray(parameters).astype(np.int64), np.asarray(tokens).astype(np.int64)
    return pd.DataFrame(
        {
            "model": [f"m{p}" for p in parameters],
            "checkpoint": [f"t{t}" for t in tokens],
            "step": tokens,
            "tokens": tokens,
            "parameters_total": parameters,
            "parameters_non_embedding": parameters // 2,
            "task": task,
            "metric": metric,
            "value": value,
        }
    )


def grid(sizes: int = 4, steps: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Parameters and tokens of every cell of a ladder."""
    parameters, tokens = np.meshgrid(10.0 ** np.arange(6, 6 + sizes), 2.0 ** np.arange(20, 20 + steps))
    return parameters.ravel(), tokens.ravel()


def noisy(rng: np.random.Generator, effect: float = 0.0, task: str = "t") -> pd.DataFrame:
    """Accuracy = 0.5 + effect · (centred log sizes) · (centred log tokens) + noise."""
    parameters, tokens = grid()
    x, d = (np.log10(v) - np.log10(v).mean() for v in (parameters, tokens))
    return table(task, 0.5 + effect * x * d + rng.normal(0, 0.05, len(x)), parameters, tokens)
