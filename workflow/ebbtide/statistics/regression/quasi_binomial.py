"""Shares of right answers as shares: a binomial regression whose variance is larger than binomial.

    logit E(y) = b_0 + b_1 z(log10 N) + b_2 z(log10 D) + b_3 z(log10 N) z(log10 D)
    var(y) = φ E(y) (1 − E(y)) / n

n is the number of examples of a cell; φ, the dispersion, is Pearson's χ² over (cells − 4) degrees of freedom,
and t has as many (McCullagh and Nelder 1989, 4.5). φ = 1 is a coin's noise; a curve that no straight line
follows makes it tens or hundreds. The interaction is one of logits: near 0 or 1 it asks another question than
that of shares.

How often, in percent, it rejects a true null of no interaction at 5 % (8 models × 8 checkpoints, 1,500 grids
per situation, benchmarks/simulate_regression.py): 5.1 with binomial noise in excess, for which it is meant;
5.0 where every cell strays alone; 36.8 where models stray, each with a level and slope of its own.
"""

import warnings

import numpy as np

from ebbtide.metrics.direction import is_share
from ebbtide.statistics.regression.covariance import Estimates


def reason_for_no_shares(metric: str, y: np.ndarray, n: np.ndarray) -> str:
    """Why these values (cells,) of n examples each are no shares; empty when they are."""
    if not is_share(metric, y) or y.min() < 0 or y.max() > 1:
        return f"{metric} is not a share of examples"
    if not (n > 0).all():
        return "the number of examples is unknown"
    return ""


def quasi_binomial(y: np.ndarray, n: np.ndarray, design: np.ndarray) -> Estimates | str:
    """Estimates, in logits, of every column of `design`, the dispersion in `note`; or why there are none."""
    import statsmodels.api as sm

    with warnings.catch_warnings():
        # Separation and divergence are judged below, by their result.
        warnings.simplefilter("ignore")
        fit = sm.GLM(y, design, family=sm.families.Binomial(), var_weights=n).fit(scale="X2")
    fitted = fit.fittedvalues
    if not fit.converged or fitted.min() < 1e-8 or fitted.max() > 1 - 1e-8 or not np.isfinite(fit.bse).all():
        return "did not converge: some shares are 0 or 1, and size and tokens alone tell which"
    df = np.full(len(fit.params), float(fit.df_resid))
    return Estimates(fit.params, fit.bse, df, f"dispersion {fit.scale:.3g}; estimates in logits")
