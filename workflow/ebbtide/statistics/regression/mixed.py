"""Models that differ in level and slope: the regression in two stages.

    y_mj = (a_0 + a_1 x_m + u_m) + (b_0 + b_1 x_m + v_m) d_j + e_mj        u, v, e random, m a model

First, every model gets its own line over tokens d; then its height at d = 0 and its slope are regressed on
its size x. `parameters` is a_1, `tokens` b_0, `interaction` b_1, with t on models − 2 degrees of freedom.

In a grid without holes this is what restricted maximum likelihood of the mixed model gives, wherever its
variances are above zero, and t is exact. The likelihood itself is not used. Its z, read as normal, rejects
P(|t| > 1.96) of the true nulls, 9.8 % with 8 models; and where models do not differ it ends at the border, a
variance of 0: in 300 such grids statsmodels converged in 1 %, and with models − 2 degrees of freedom rejected
1.3 % at a level of 5 %.

How often, in percent, the two stages reject a true null of no interaction at 5 % (8 models × 8 checkpoints,
1,500 grids per situation, benchmarks/simulate_regression.py): 4.8 where models stray, each with a level and
slope of its own; 5.1 where every cell strays alone, 4.3 with binomial noise in excess, 3.5 with unequal
noise.
"""

import numpy as np

from ebbtide.statistics.regression.covariance import Estimates, least_squares

FEWEST = 3  # models, to leave a degree of freedom


def random_slopes(y: np.ndarray, size: np.ndarray, tokens: np.ndarray, models: np.ndarray) -> Estimates | str:
    """Estimates of `parameters`, `tokens`, `interaction` from all cells (cells,); or why there are none.

    Models with one checkpoint have no slope and are left out.
    """
    _, first, codes = np.unique(models, return_index=True, return_inverse=True)
    count = np.bincount(codes)
    centre = np.bincount(codes, tokens) / count
    off = tokens - centre[codes]
    spread = np.bincount(codes, off**2)
    kept = spread > 0
    if kept.sum() < FEWEST:
        return f"{kept.sum()} models with several checkpoints, {FEWEST} needed"
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
