"""Ordinary least squares with a choice of standard errors: classical, robust to unequal noise, by cluster.

With X the design (n, k), B = (X'X)⁻¹, H = X B X' and residuals e:

    classical   s² B, s² = e'e / (n − k)                                        t with n − k df
    HC3         B X' diag(e_i² / (1 − h_ii)²) X B                               t with n − k df
    CR2         B Σ_g X_g' A_g e_g e_g' A_g X_g B, A_g = (I − H_gg)^(−1/2)      t with Satterthwaite df

CR2 and its degrees of freedom are those of Bell and McCaffrey (2002), with independent equal noise as the
working model; A_g is the symmetric root of the Moore–Penrose inverse, so that a cluster may have leverage 1
(Pustejovsky and Tipton 2018). With clusters of one row, CR2 is HC2. HC3: MacKinnon and White (1985).

How often, in percent, each rejects a true null of no interaction at 5 % (8 models × 8 checkpoints, 1,500
grids per situation, benchmarks/simulate_regression.py; models that stray do so in level and slope):

                every cell strays alone   binomial with excess   noise unequal   models stray
    classical            5.0                     5.1                  5.8            36.8
    HC3                  4.9                     4.1                  5.6            30.7
    CR2                  3.8                     2.6                  1.9             3.4
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Errors = Literal["classical", "HC3", "CR2"]
SINGULAR = 1e-10  # eigenvalues of I − H_gg below it are zero: all of H's lie between 0 and 1


@dataclass(frozen=True)
class Estimates:
    """Estimates of coefficients, their standard errors, degrees of freedom of their t, and a remark."""

    estimate: np.ndarray
    stderr: np.ndarray
    df: np.ndarray
    note: str = ""

    @property
    def t(self) -> np.ndarray:
        """Estimate over standard error; infinite for a perfect fit, NaN where both are 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            t: np.ndarray = self.estimate / self.stderr
        return t

    @property
    def p(self) -> np.ndarray:
        """Two-sided p of t; NaN where t or its degrees of freedom are."""
        from scipy.special import stdtr

        p: np.ndarray = 2 * stdtr(self.df, -np.abs(self.t))
        return p


def least_squares(
    y: np.ndarray, design: np.ndarray, errors: Errors = "classical", clusters: np.ndarray | None = None
) -> Estimates:
    """Estimates of every column of `design` (n, k), which has full rank and fewer columns than rows.

    `clusters` (n,) names the cluster of each row and is needed by CR2, by nothing else. Where CR2 has no
    degrees of freedom (the clusters do not vary in what a coefficient measures) they are NaN.
    """
    bread = np.linalg.inv(design.T @ design)
    estimate = bread @ design.T @ y
    residual = y - design @ estimate
    df = np.full(len(estimate), float(len(y) - len(estimate)))
    if errors == "classical":
        return Estimates(estimate, np.sqrt(np.diag(bread) * (residual @ residual) / df), df)
    if errors == "HC3":
        leverage = np.einsum("ij,jk,ik->i", design, bread, design)
        with np.errstate(divide="ignore", invalid="ignore"):
            scores = design * (residual / (1 - leverage))[:, None]
        return Estimates(estimate, np.sqrt(np.diag(bread @ scores.T @ scores @ bread)), df)
    if clusters is None:
        raise ValueError("CR2 needs clusters")
    return Estimates(estimate, *_cr2(residual, design, bread, clusters))


def _cr2(
    residual: np.ndarray, design: np.ndarray, bread: np.ndarray, clusters: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Standard errors and degrees of freedom, (k,) each."""
    annihilator = np.eye(len(residual)) - design @ bread @ design.T  # I − H, (n, n)
    # Each coefficient's error is Σ_g w_g'e, w_g = A_g X_g B: (n_g, k).
    of_clusters = [np.flatnonzero(clusters == name) for name in np.unique(clusters)]
    weights = [_root(annihilator[np.ix_(rows, rows)]) @ design[rows] @ bread for rows in of_clusters]
    sums = np.stack([w.T @ residual[rows] for w, rows in zip(weights, of_clusters, strict=True)])  # (G, k)
    # The variance is a quadratic form in the noise; its two moments give the chi-square that is nearest.
    spread = np.stack([annihilator[:, rows] @ w for w, rows in zip(weights, of_clusters, strict=True)])
    omega = np.einsum("gnk,hnk->kgh", spread, spread)
    mean, square = np.einsum("kgg->k", omega), np.einsum("kgh,kgh->k", omega, omega)
    held = mean > SINGULAR * np.diag(bread)
    df = np.where(held, mean**2 / np.where(held, square, 1), np.nan)
    return np.sqrt((sums**2).sum(axis=0)), df


def _root(block: np.ndarray) -> np.ndarray:
    """The symmetric root of the Moore–Penrose inverse of a symmetric block."""
    values, vectors = np.linalg.eigh(block)
    kept = values > SINGULAR
    inverse = np.where(kept, 1 / np.sqrt(np.where(kept, values, 1)), 0)
    root: np.ndarray = (vectors * inverse) @ vectors.T
    return root
