"""Configuration search: select small runs on the trend of loss against compute.

Gadre et al. 2024, Sec. 3.2: train a grid of configurations at 20 tokens per parameter, keep the Pareto front
of loss and compute, leave out a range of compute where the front is poor, and fit L = E + λC^−η. The study
uses configurations on this trend.
"""

from collections.abc import Sequence
from zlib import crc32

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from ebbtide.errors import ScalingError
from ebbtide.statistics.scaling_laws.fits import Fit, fit
from ebbtide.statistics.scaling_laws.laws import COMPUTE, Array
from ebbtide.statistics.scaling_laws.predictions import out_of_range
from ebbtide.statistics.scaling_laws.runs import LOSS_PREFIX
from ebbtide.statistics.scaling_laws.uncertainty import inflated_residuals, residual_bootstrap


def pareto_front(cost: ArrayLike, value: ArrayLike) -> Array:
    """Return which points have a lower value than all points of equal or lower cost, (points,) of bool.

    Raises `ScalingError` for a run without compute or loss.
    """
    cost, value = np.asarray(cost, dtype=float), np.asarray(value, dtype=float)
    if not (np.all(np.isfinite(cost)) and np.all(np.isfinite(value))):
        raise ScalingError("search: a run has no compute or no loss; every run needs both.")
    order = np.lexsort((value, cost))
    sorted_values = value[order]
    before = np.concatenate([[np.inf], np.minimum.accumulate(sorted_values)[:-1]])
    front = np.zeros(len(cost), dtype=bool)
    front[order] = sorted_values < before
    return front


def configurations(
    grid: pd.DataFrame,
    *,
    drop: tuple[float, float] | None,
    chosen: Sequence[str] = (),
    level: float = 0.95,
    draws: int = 400,
) -> tuple[pd.DataFrame, Fit]:
    """Classify every run of the search, and fit the trend.

    Parameters
    ----------
    grid
        One row per run: configuration, parameters, tokens, C, loss.
    drop
        Range of C, in FLOPs, that is left out of the trend.
    chosen
        Configurations used by the study.
    level
        Level of the bands.
    draws
        Number of draws of the residual bootstrap.

    Returns
    -------
    `grid` with columns `front`, `kept` (on the front, outside `drop`), `trend` (fitted loss), `low` and
    `high` (prediction interval of a new run), `band_low` and `band_high` (band of the trend), `on_trend` (on
    the front and between low and high) , `chosen` and `note`; and the fitted trend.

    Raises
    ------
    ScalingError
        A run without compute or loss, or too few runs on the front.
    """
    front = pareto_front(grid["C"], grid["loss"])
    dropped = grid["C"].between(*drop) if drop else pd.Series(False, index=grid.index)
    kept = front & ~dropped.to_numpy()
    runs = grid[kept]
    trend = fit(COMPUTE, runs["loss"].to_numpy(), C=runs["C"].to_numpy())
    seed = crc32(b"configurations")
    samples = residual_bootstrap(trend, draws, seed)
    at = grid["C"].to_numpy()
    lines = np.stack([COMPUTE.predict(sample, C=at) for sample in samples])  # (draws, runs)
    scatter = np.random.default_rng(seed + 1).choice(inflated_residuals(trend), (draws, 1))
    ends = [(1 - level) / 2, (1 + level) / 2]
    band, reach = np.quantile(lines, ends, axis=0), np.quantile(lines + scatter, ends, axis=0)
    trend_at = trend.predict(C=at)
    table = grid.assign(
        front=front,
        kept=kept,
        trend=trend_at,
        low=reach[0],
        high=reach[1],
        band_low=band[0],
        band_high=band[1],
        on_trend=front & grid["loss"].between(reach[0], reach[1]).to_numpy(),
        chosen=grid["configuration"].isin(list(chosen)).to_numpy() & front,
        note=out_of_range(LOSS_PREFIX, trend_at, np.nan),
    )
    return table, trend
