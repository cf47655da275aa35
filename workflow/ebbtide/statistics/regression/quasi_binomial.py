"""Quasi-binomial regression of shares of right answers, with overdispersion.

    logit E(y) = b_0 + b_1 z(log10 N) + b_2 z(log10 D) + b_3 z(log10 N) z(log10 D)
    var(y) = φ E(y) (1 − E(y)) / n

n is the number of examples of a cell. The dispersion φ is Pearson's χ² divided by its (cells − 4) degrees of
freedom, which are also those of t (McCullagh and Nelder 1989, 4.5). φ = 1 is binomial noise; for strongly
nonlinear curves it is in the tens or hundreds. The interaction is on the logit scale, so near 0 or 1 it
differs from that of shares.

Type-I error for the interaction at a nominal 5 % (8 models × 8 checkpoints, 1,500 grids per situation,
benchmarks/simulate_regression.py): 5.1 % with beta-binomial noise, for which the method is intended; 5.0 %
with independent noise; 36.8 % with random model effects in level and slope.
"""

import warnings

import numpy as np

from ebbtide.metrics.direction import is_share
from ebbtide.statistics.regression.covariance import Estimates


def reason_for_no_shares(metric: str, y: np.ndarray, n: np.ndarray) -> str:
    """Return why these values (cells,) of n examples (cells,) are not shares; empty if they are."""
    if not is_share(metric, y) or y.min() < 0 or y.max() > 1:
        return f"{metric} is not a share of examples"
    if not (n > 0).all():
        unknown = int((~(n > 0)).sum())
        return f"the number of examples of {unknown} of {len(n)} cells is unknown (imported: set n)"
    return ""


def quasi_binomial(y: np.ndarray, n: np.ndarray, design: np.ndarray) -> Estimates | str:
    """Fit y (cells,) on `design` (cells, k) in logits, with the dispersion in `note`, or return why not."""
    import statsmodels.api as sm

    with warnings.catch_warnings():
        # Separation and divergence are detected below.
        warnings.simplefilter("ignore")
        fit = sm.GLM(y, design, family=sm.families.Binomial(), var_weights=n).fit(scale="X2")
    fitted = fit.fittedvalues
    if not fit.converged or fitted.min() < 1e-8 or fitted.max() > 1 - 1e-8 or not np.isfinite(fit.bse).all():
        return "did not converge: some shares are 0 or 1, and size and tokens determine which"
    df = np.full(len(fit.params), float(fit.df_resid))
    return Estimates(fit.params, fit.bse, df, f"dispersion {fit.scale:.3g}; estimates in logits")
