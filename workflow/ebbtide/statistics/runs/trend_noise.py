"""Checkpoint noise: how much a curve scatters around its local trend, beyond the noise of its examples.

W neighbouring checkpoints y of a curve follow a straight line over log tokens, plus two kinds of noise:

    y = Xβ + c + e,   Cov(c) = σ² R(ρ), R_st = ρ^|s - t|,   Cov(e) = Σ

Single examples change from checkpoint to checkpoint; Σ, the covariance over examples, is known from them.
What checkpoints add is c, and neighbours may be alike (persistence ρ). A few checkpoints tell little of σ and
ρ. So the standard deviation σ √(a'R(ρ)a) of a weighted mean a'y is averaged over both, weighted by the
restricted likelihood (REML; Patterson & Thompson 1971, Biometrika 58:545) and by a prior: σ uniform, and ρ
with density 2(1 - ρ). It has the W - 2 degrees of freedom of the line.

The line holds only nearby: over a whole run, learning would count as noise. So W checkpoints span at most
half of the tokens at their end, unless those that are averaged, or `FEWEST`, span more (`is_long`).

Noise that persists for longer than W checkpoints looks like a trend and is not in c; only further runs show
it.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

FEWEST = 4  # checkpoints: a line, and two that scatter around it
WIDTH = 24  # most checkpoints of a trend
LONG_SPAN = 0.5  # share of the tokens at its end that a trend spans, above which it is not local
LONG = "the checkpoints behind checkpoint noise span more than half of training, so learning counts as noise"
_RHO = np.array([0.0, 0.15, 0.3, 0.45, 0.6, 0.7, 0.8, 0.9, 0.95])
_SIGMA = np.linspace(0.0, 3.0, 25)  # in units of the scatter around the line


@dataclass(frozen=True)
class CheckpointNoise:
    """What checkpoints add to the variance of a mean over checkpoints of a curve.

    Attributes
    ----------
    variance
        NaN if the curve has fewer than `FEWEST` checkpoints.
    df
        Degrees of freedom of `variance`; infinite if that is 0.
    persistence
        Mean of ρ; NaN without noise.
    """

    variance: float
    df: float
    persistence: float


UNKNOWN = CheckpointNoise(np.nan, np.nan, np.nan)
NO_NOISE = CheckpointNoise(0.0, np.inf, np.nan)


def checkpoint_noise(
    tokens: np.ndarray, curve: np.ndarray, covariance: np.ndarray, at: np.ndarray
) -> CheckpointNoise:
    """Return the noise of the mean of a curve over the checkpoints `at`.

    Parameters
    ----------
    tokens
        (T,) training tokens, above 0 and ascending.
    curve
        (T,) values.
    covariance
        (T, T) covariance of the values over examples; NaN counts as 0.
    at
        Indices of the averaged checkpoints, ascending.
    """
    local = _residual(tokens, curve, covariance, at)
    if local is None:
        return UNKNOWN
    line, residual, examples = local
    scatter = float(np.sqrt(np.mean(residual**2)))
    if scatter <= 1e-12 * max(1.0, float(np.abs(curve).max())):
        return NO_NOISE
    known = examples / scatter**2
    # For every ρ, axes in which both R and Σ are diagonal: variance σ² + λ.
    values, axes = np.linalg.eigh(line.whiten @ known @ line.whiten.swapaxes(1, 2))
    squares = np.einsum("rji,rjk,k->ri", axes, line.whiten, residual / scatter) ** 2
    variances = _SIGMA[:, None, None] ** 2 + np.maximum(values, 0.0) + 1e-9  # (S, ρ, W - 2)
    log_weights = -0.5 * (np.log(variances) + squares / variances).sum(axis=2)
    log_weights += line.log_volumes + np.log(1 - _RHO)
    weights = np.exp(log_weights - log_weights.max())
    weights /= weights.sum()
    of_mean = _SIGMA[:, None] * np.sqrt(line.spreads)
    return CheckpointNoise(
        (float((weights * of_mean).sum()) * scatter) ** 2,
        float(len(residual)),
        float(weights.sum(axis=0) @ _RHO),
    )


def local_scatter(tokens: np.ndarray, curve: np.ndarray, covariance: np.ndarray, at: np.ndarray) -> float:
    """Return the variance of a single checkpoint around the line, RSS / (W - 2), less that of examples.

    Parameters as for `checkpoint_noise`. Unbiased if neighbours are independent, and too small if they are
    alike; it may be negative. NaN if the curve has fewer than `FEWEST` checkpoints.
    """
    local = _residual(tokens, curve, covariance, at)
    if local is None:
        return np.nan
    _, residual, examples = local
    return float(np.mean(residual**2) - np.trace(examples) / len(examples))


def _residual(
    tokens: np.ndarray, curve: np.ndarray, covariance: np.ndarray, at: np.ndarray
) -> tuple["_Line", np.ndarray, np.ndarray] | None:
    """Return the line, and curve (W - 2,) and covariance (W - 2, W - 2) without it; None if W is small."""
    near = trend_window(tokens, at)
    y = curve[near]
    if len(y) < FEWEST:
        return None
    average = np.zeros(len(y))
    average[at - near.start] = 1 / len(at)
    line = _line(np.log10(tokens[near]).tobytes(), average.tobytes())
    examples = line.contrasts.T @ np.nan_to_num(covariance[near, near]) @ line.contrasts
    return line, y @ line.contrasts, examples


def trend_window(tokens: np.ndarray, at: np.ndarray) -> slice:
    """Return the checkpoints of the trend: `at` in the middle, if it can, and as many neighbours as are near.

    Parameters as for `checkpoint_noise`. There are at most `WIDTH` that are not `is_long`, but at least `at`
    and `FEWEST`, as far as there are any.
    """
    count, averaged = len(tokens), int(at[-1] - at[0]) + 1
    middle = (at[0] + at[-1] + 1) / 2
    least = min(count, max(FEWEST, averaged))
    for width in range(min(count, max(WIDTH, averaged)), least - 1, -1):
        first = int(np.clip(np.floor(middle - width / 2), 0, count - width))
        if width == least or not is_long(tokens[first : first + width]):
            break
    return slice(first, first + width)


def is_long(tokens: np.ndarray) -> bool:
    """Whether checkpoints at ascending `tokens` span so much of training that learning counts as noise."""
    return bool(tokens[-1] - tokens[0] > LONG_SPAN * tokens[-1])


@dataclass(frozen=True)
class _Line:
    """What the places of W checkpoints determine.

    `contrasts` (W, W - 2) are orthonormal and remove lines. For every ρ: `whiten` (W - 2, W - 2) makes the
    contrasts of R uncorrelated, `log_volumes` is the log of its determinant, `spreads` is a'Ra.
    """

    contrasts: np.ndarray
    whiten: np.ndarray
    log_volumes: np.ndarray
    spreads: np.ndarray


@lru_cache(maxsize=4096)
def _line(places: bytes, average: bytes) -> _Line:
    x, a = np.frombuffer(places), np.frombuffer(average)
    order = np.arange(len(x))
    design = np.column_stack([np.ones(len(x)), x - x.mean()])
    contrasts = np.linalg.qr(design, mode="complete")[0][:, 2:]
    correlations = _RHO[:, None, None] ** np.abs(order[:, None] - order)
    whiten = np.linalg.inv(np.linalg.cholesky(contrasts.T @ correlations @ contrasts))
    volumes = np.log(np.abs(np.diagonal(whiten, axis1=1, axis2=2))).sum(axis=1)
    return _Line(contrasts, whiten, volumes, np.einsum("s,rst,t->r", a, correlations, a))
