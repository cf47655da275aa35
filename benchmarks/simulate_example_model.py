"""Level, coverage, bias and time of estimators of the interaction of size and tokens, from single answers.

    python benchmarks/simulate_example_model.py --draws 400
    python benchmarks/simulate_example_model.py --draws 100 --estimators gpboost statsmodels

The truth is `answers`; the known interaction is 0 (level) or 0.15 (coverage, power). Estimators other
than Ebbtide's are compared where their package is installed: gpboost (Laplace approximation, maximum
likelihood) and statsmodels' BinomialBayesMixedGLM (variational), with effects of examples and models and
slopes of models, t with (models - 2) degrees of freedom; and the regression of cells by least squares.
"""

import argparse
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import t as student

from ebbtide.statistics.regression.example_model import example_model

SITUATIONS: Mapping[str, Mapping[str, float]] = {
    "models differ in level and slope": {"levels": 0.4, "slopes": 0.2},
    "models differ in level only": {"levels": 0.4, "slopes": 0.0},
    "also each example in each model, and in its slope": {
        "levels": 0.4,
        "slopes": 0.2,
        "own": 0.7,
        "drifts": 0.5,
    },
}


class Answers(NamedTuple):
    """z of log size (M,), z of log tokens (T,), answers (M, T, n)."""

    size: np.ndarray
    tokens: np.ndarray
    right: np.ndarray


class Found(NamedTuple):
    """The interaction, its standard error, and degrees of freedom."""

    estimate: float
    stderr: float
    df: int


def answers(
    rng: np.random.Generator,
    interaction: float,
    *,
    models: int = 8,
    checkpoints: int = 8,
    n: int = 300,
    levels: float = 0.4,
    slopes: float = 0.2,
    own: float = 0.0,
    drifts: float = 0.0,
) -> Answers:
    """Answers of the mixed model; sds in log odds of model levels and slopes, of examples within a model, and
    of examples' own slopes over tokens. Examples have sd 1."""
    size, tokens = (_z(np.arange(count, dtype=float)) for count in (models, checkpoints))
    scale = np.sqrt((models * checkpoints - 1) / (models * checkpoints))  # z over all cells, ddof 1
    size, tokens = size * scale, tokens * scale
    cells = 0.2 * size[:, None] + 0.2 * tokens + interaction * size[:, None] * tokens
    cells = cells + rng.normal(0, levels, (models, 1)) + rng.normal(0, slopes, (models, 1)) * tokens
    each = rng.normal(0, 1, n) + own * rng.normal(size=(models, 1, n))
    each = each + drifts * rng.normal(size=n) * tokens[:, None]
    return Answers(
        size, tokens, (rng.random((models, checkpoints, n)) < expit(cells[..., None] + each)) * 1.0
    )


def conditional(found: Answers) -> Found:
    """Ebbtide's."""
    task = {
        "task": "simulated",
        "metric": "accuracy",
        "sizes": 10.0 ** (8 + found.size),
        "tokens": [10.0 ** (10 + found.tokens)] * len(found.size),
        "answers": list(found.right),
    }
    row = example_model([task]).set_index("term").loc["interaction"]
    return Found(row["estimate"], row["stderr"], int(row["df"]))


def cells(found: Answers) -> Found:
    """Least squares of the log odds of cells' shares, every cell a case, as `regression` has it."""
    share = (found.right.sum(axis=2) + 0.5) / (found.right.shape[2] + 1)
    y = np.log(share / (1 - share)).ravel()
    size, tokens = (x.ravel() for x in np.meshgrid(found.size, found.tokens, indexing="ij"))
    design = np.column_stack([np.ones_like(y), size, tokens, size * tokens])
    inverse = np.linalg.inv(design.T @ design)
    beta = inverse @ design.T @ y
    df = len(y) - 4
    return Found(beta[3], float(np.sqrt(inverse[3, 3] * np.sum((y - design @ beta) ** 2) / df)), df)


def gpboost(found: Answers) -> Found:
    """Laplace approximation, maximum likelihood, effects of examples and models, slopes of models."""
    import gpboost as gpb

    y, design, model, example = _long(found)
    fit = gpb.GPModel(
        group_data=np.column_stack([example, model]),
        group_rand_coef_data=design[:, 2],
        ind_effect_group_rand_coef=[2],
        likelihood="bernoulli_logit",
        num_parallel_threads=1,
    )
    fit.fit(y=y, X=design)
    estimate, stderr = np.asarray(fit.get_coef(std_err=True))[:, 3]
    return Found(float(estimate), float(stderr), len(found.size) - 2)


def statsmodels(found: Answers) -> Found:
    """Variational Bayes, mean-field, with the same effects."""
    from scipy import sparse
    from statsmodels.genmod.bayes_mixed_glm import BinomialBayesMixedGLM

    y, design, model, example = _long(found)
    rows = np.arange(len(y))
    parts = [
        sparse.csr_matrix((np.ones(len(y)), (rows, example))),
        sparse.csr_matrix((np.ones(len(y)), (rows, model))),
        sparse.csr_matrix((design[:, 2], (rows, model))),
    ]
    ident = np.repeat([0, 1, 2], [part.shape[1] for part in parts])
    fit = BinomialBayesMixedGLM(y, design, sparse.hstack(parts).tocsr(), ident, vcp_p=1, fe_p=10).fit_vb()
    return Found(float(fit.fe_mean[3]), float(fit.fe_sd[3]), len(found.size) - 2)


ESTIMATORS: Mapping[str, Callable[[Answers], Found]] = {
    "conditional": conditional,
    "cells": cells,
    "gpboost": gpboost,
    "statsmodels": statsmodels,
}


def simulate_example_model(draws: int, estimators: list[str]) -> pd.DataFrame:
    """One row per estimator and situation: level at 5 %, bias, coverage of 95 %, power, median seconds."""
    return pd.DataFrame(list(_rows(draws, estimators)))


def _rows(draws: int, estimators: list[str]) -> Iterator[dict[str, object]]:
    for situation, sds in SITUATIONS.items():
        for name in estimators:
            results, seconds = {}, []
            for truth in (0.0, 0.15):
                rng = np.random.default_rng(zlib.crc32(f"{situation} {truth}".encode()))
                found = []
                for _ in range(draws):
                    data = answers(rng, truth, **sds)
                    started = time.perf_counter()
                    found.append(ESTIMATORS[name](data))
                    seconds.append(time.perf_counter() - started)
                results[truth] = np.array(found)
            (e0, s0, df), (e1, s1, _) = results[0.0].T, results[0.15].T
            critical = student.ppf(0.975, df)
            yield {
                "estimator": name,
                "situation": situation,
                "level": np.mean(np.abs(e0) > critical * s0),
                "bias": np.mean(e1) - 0.15,
                "coverage": np.mean(np.abs(e1 - 0.15) <= critical * s1),
                "power": np.mean(np.abs(e1) > critical * s1),
                "stderr_over_sd": np.mean(s1) / np.std(e1),
                "seconds": np.median(seconds),
                "draws": draws,
            }


def _long(found: Answers) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    model, checkpoint, example = (index.ravel() for index in np.indices(found.right.shape))
    size, tokens = found.size[model], found.tokens[checkpoint]
    design = np.column_stack([np.ones_like(size), size, tokens, size * tokens])
    return found.right.ravel(), design, model, example


def _z(x: np.ndarray) -> np.ndarray:
    return (x - x.mean()) / x.std()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--estimators", nargs="+", choices=list(ESTIMATORS), default=["conditional", "cells"])
    given = parser.parse_args()
    print(
        simulate_example_model(given.draws, given.estimators).to_csv(
            sep="\t", index=False, float_format="%.3g"
        )
    )
