"""Made-up trajectories with a known truth: right and wrong answers of every example at every checkpoint.

A probit model: an example is right where difficulty + noise stays below the threshold of the checkpoint.
Examples differ in difficulty; the noise of an example wanders from checkpoint to checkpoint as in training.
`flicker` is the opposite case: answers are drawn anew, and a drop hits right answers whatever their past.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri


def simulate(  # noqa: PLR0917 (the parameters of the model, in its order)
    rng: np.random.Generator, T: int, n: int, means: np.ndarray | float, persistence: float, spread: float
) -> np.ndarray:
    """0/1 values (T, n) whose expectation at checkpoint t is `means[t]`.

    x_ti = 1 where u_i + e_ti < Φ⁻¹(means_t) √(1 + spread²), with difficulties u ~ N(0, spread²) and AR(1)
    noise e of variance 1 and correlation `persistence` between neighbouring checkpoints. Means 0 and 1 are
    exact.
    """
    return _below(spread * rng.standard_normal(n) + autoregressive(rng, T, n, persistence), means, spread)


def flicker(rng: np.random.Generator, n: int, means: Sequence[float], persistence: float) -> np.ndarray:
    """0/1 values (T, n) with expectations `means`.

    From checkpoint to checkpoint, an answer is kept with probability `persistence`, or else drawn anew. Then
    right answers are lost, or wrong ones learned, each with the same probability, whatever its past.
    """
    answers = [rng.random(n) < means[0]]
    for before, mean in itertools.pairwise(means):
        kept = np.where(rng.random(n) < persistence, answers[-1], rng.random(n) < before)
        changed = rng.random(n)
        if mean <= before:
            answers.append(kept & (changed >= 1 - mean / before))
        else:
            answers.append(kept | (changed < (mean - before) / (1 - before)))
    return np.stack(answers).astype(float)


def simulate_clusters(  # noqa: PLR0917
    rng: np.random.Generator,
    T: int,
    n: int,
    means: np.ndarray | float,
    persistence: float,
    spread: float,
    size: int,
    shared: float = 0.5,
) -> tuple[np.ndarray, np.ndarray]:
    """As `simulate`, in clusters of `size` examples; the share `shared` of the noise is the cluster's.

    Returns values (T, n) and clusters (n,). Difficulties and noise are shared alike, so that
    also the *changes* of the examples of a cluster go together.
    """
    clusters = np.arange(n) // size
    groups = int(clusters[-1]) + 1
    own, common = np.sqrt(1 - shared), np.sqrt(shared)
    difficulty = spread * (own * rng.standard_normal(n) + common * rng.standard_normal(groups)[clusters])
    noise = (
        own * autoregressive(rng, T, n, persistence)
        + common * autoregressive(rng, T, groups, persistence)[:, clusters]
    )
    return _below(difficulty + noise, means, spread), clusters


def simulate_runs(
    rng: np.random.Generator,
    means: np.ndarray,
    n: int,
    persistence: float,
    spread: float,
    *,
    binary: bool = True,
) -> np.ndarray:
    """Values (R, T, n) of runs on the same examples, whose expectations are `means` (R, T).

    Difficulties u ~ N(0, spread²) are common to all runs; the AR(1) noise e of variance 1 is each run's own.
    Answers are 0/1 as in `simulate`, or the continuous means + u + e.
    """
    runs, T = means.shape
    noise = autoregressive(rng, T, runs * n, persistence).reshape(T, runs, n).swapaxes(0, 1)
    latent = spread * rng.standard_normal(n) + noise
    if not binary:
        return means[..., None] + latent
    thresholds = ndtri(np.clip(means, 1e-6, 1 - 1e-6)) * np.sqrt(1 + spread**2)
    return (latent < thresholds[..., None]).astype(float)


def _below(latent: np.ndarray, means: np.ndarray | float, spread: float) -> np.ndarray:
    thresholds = ndtri(np.broadcast_to(np.asarray(means, float), latent.shape[0])) * np.sqrt(1 + spread**2)
    return (latent < thresholds[:, None]).astype(float)


def autoregressive(rng: np.random.Generator, T: int, n: int, persistence: float) -> np.ndarray:
    """Stationary AR(1) noise of variance 1, (T, n)."""
    noise = rng.standard_normal((T, n))
    for t in range(1, T):
        noise[t] = persistence * noise[t - 1] + np.sqrt(1 - persistence**2) * noise[t]
    return noise
