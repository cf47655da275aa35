"""Random level and slope per model, or per size and run: the regression in two stages.

    y_mj  = (a_0 + a_1 x_m + u_m) + (b_0 + b_1 x_m + v_m) d_j + e_mj                      m: model
    y_srj = (a_0 + a_1 x_s + u_s + u_sr) + (b_0 + b_1 x_s + v_s + v_sr) d_j + e_srj       s: size, r: run of s

Stage 1 fits a line over tokens d to each model or run. Stage 2 regresses its height at d = 0 and its slope on
its size x. `parameters` is a_1, `tokens` is b_0, `interaction` is b_1; t has (models − 2) degrees of freedom.
Where models differ only by seed (`units`), stage 2 is over sizes, with the mean height and slope of the runs
of each, and t has (sizes − 2) degrees of freedom. More seeds sharpen the mean of a size, and add no size.

In a complete grid, with equally many runs per size, this equals restricted maximum likelihood (REML) of the
mixed model if its variances are positive, and t is exact. REML itself is not used, for three reasons. Its
z test rejects P(|t| > 1.96) of the true nulls, 9.8 % with 8 models. If models do not differ, REML ends at a
variance of 0: in 300 such grids statsmodels converged in 1 %, and with (models − 2) degrees of freedom it
rejected 1.3 % at a level of 5 %. With replicates, Satterthwaite's degrees of freedom jump to (runs − 2) where
the variance of sizes is estimated as 0: with 3 sizes, it rejects up to 12 %.

Means of sizes are not weighted by their runs: with unequally many, rejection of true nulls stays at or below
7 %, weighted it reaches 10 %.

Type-I error of the two stages for the interaction at a nominal 5 % (8 models × 8 checkpoints, 1,500 grids per
situation, benchmarks/simulate_regression.py): 4.8 % with random model effects in level and slope, 5.1 % with
independent noise, 4.3 % with beta-binomial noise, 3.5 % with unequal noise. docs/statistics.md has the rates
with replicates.
"""

from typing import NamedTuple

import numpy as np

from ebbtide.statistics.regression.covariance import Estimates, least_squares
from ebbtide.statistics.regression.units import MIN_UNITS, Units


class Compared(NamedTuple):
    """Estimates of the three terms, and the residual sd of heights and slopes over units."""

    estimates: Estimates
    scatter: tuple[float, float]


def random_slopes(
    y: np.ndarray, size: np.ndarray, tokens: np.ndarray, models: np.ndarray, units: Units | None = None
) -> Estimates | str:
    """Estimate `parameters`, `tokens` and `interaction` from arrays (cells,), or return why not.

    Models with a single checkpoint have no slope and are left out. Without `units`, each model is one.
    """
    _, first, codes = np.unique(models, return_index=True, return_inverse=True)
    count = np.bincount(codes)
    centre = np.bincount(codes, tokens) / count
    off = tokens - centre[codes]
    spread = np.bincount(codes, off**2)
    kept = spread > 0
    names = models[first][kept]
    of = names if units is None else np.array([units.of[name] for name in names])
    if (found := len(np.unique(of))) < MIN_UNITS:
        by = "model" if units is None else units.by
        return f"{found} {by}s with several checkpoints, {MIN_UNITS} needed"
    if np.ptp(size[first][kept]) == 0:
        return "one model size only"
    slope = (np.bincount(codes, off * y)[kept]) / spread[kept]
    height = np.bincount(codes, y)[kept] / count[kept] - slope * centre[kept]
    compared = compare_lines(np.column_stack([height, slope]), size[first][kept], of).estimates
    alone = len(kept) - kept.sum()
    notes = (units.note if units else "", f"{alone} models with one checkpoint are left out" * bool(alone))
    return Estimates(compared.estimate, compared.stderr, compared.df, "; ".join(filter(None, notes)))


def compare_lines(lines: np.ndarray, size: np.ndarray, units: np.ndarray) -> Compared:
    """Regress heights and slopes, the columns of `lines` (models, 2), on sizes over units, (models,)."""
    _, codes = np.unique(units, return_inverse=True)
    count = np.bincount(codes)
    height, slope, x = (np.bincount(codes, values) / count for values in (*lines.T, size))
    design = np.column_stack([np.ones(len(x)), x])
    heights, slopes = (least_squares(values, design) for values in (height, slope))
    df = float(len(x) - 2)
    residuals = (height - design @ heights.estimate, slope - design @ slopes.estimate)
    scatter = tuple(float(np.sqrt(residual @ residual / df)) for residual in residuals)
    estimates = Estimates(
        np.array([heights.estimate[1], slopes.estimate[0], slopes.estimate[1]]),
        np.array([heights.stderr[1], slopes.stderr[0], slopes.stderr[1]]),
        np.full(3, df),
    )
    return Compared(estimates, (scatter[0], scatter[1]))
