"""Random level and slope per model: the regression in two stages.

    y_mj = (a_0 + a_1 x_m + u_m) + (b_0 + b_1 x_m + v_m) d_j + e_mj        u, v, e random, m a model

Stage 1 fits a line over tokens d to each model. Stage 2 regresses its height at d = 0 and its slope on its
size x. `parameters` is a_1, `tokens` is b_0, `interaction` is b_1; t has (models − 2) degrees of freedom.

In a complete grid this equals restricted maximum likelihood (REML) of the mixed model if its variances are
positive, and t is exact. REML itself is not used, for two reasons. Its z test rejects P(|t| > 1.96) of the
true nulls, 9.8 % with 8 models. If models do not differ, REML ends at a variance of 0: in 300 such grids
statsmodels converged in 1 %, and with (models − 2) degrees of freedom it rejected 1.3 % at a level of 5 %.

Type-I error of the two stages for the interaction at a nominal 5 % (8 models × 8 checkpoints, 1,500 grids per
situation, benchmarks/simulate_regression.py): 4.8 % with random model effects in level and slope, 5.1 % with
independent noise, 4.3 % with beta-binomial noise, 3.5 % with unequal noise.
"""

import numpy as np

from ebbtide.statistics.regression.covariance import Estimates, least_squares

MIN_MODELS = 3  # leaves one degree of freedom


def random_slopes(y: np.ndarray, size: np.ndarray, tokens: np.ndarray, models: np.ndarray) -> Estimates | str:
    """Estimate `parameters`, `tokens` and `interaction` from arrays (cells,), or return why not.

    Models with a single checkpoint have no slope and are left out.
    """
    _, first, codes = np.unique(models, return_index=True, return_inverse=True)
    count = np.bincount(codes)
    centre = np.bincount(codes, tokens) / count
    off = tokens - centre[codes]
    spread = np.bincount(codes, off**2)
    kept = spread > 0
    if kept.sum() < MIN_MODELS:
        return f"{kept.sum()} models with several checkpoints, {MIN_MODELS} needed"
    if np.ptp(size[first][kept]) == 0:
        return "one model size only"
    slope = (np.bincount(codes, off * y)[kept]) / spread[kept]
    height = np.bincount(codes, y)[kept] / count[kept] - slope * centre[kept]
    design = np.column_stack([np.ones(kept.sum()), size[first][kept]])
    heights, slopes = (least_squares(v, design) for v in (height, slope))
    alone = len(kept) - kept.sum()
    return Estimates(
        np.array([heights.estimate[1], slopes.estimate[0], slopes.estimate[1]]),
        np.array([heights.stderr[1], slopes.stderr[0], slopes.stderr[1]]),
        np.full(3, float(kept.sum() - 2)),
        f"{alone} models with one checkpoint are left out" if alone else "",
    )
