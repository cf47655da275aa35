"""Log odds of cells by conditional maximum likelihood, without the effects of examples (Rasch model).

    logit P(example i is right in cell c) = u_i + δ_c

Given the number of cells k_i in which example i is right, its answers do not depend on u_i. So the
conditional log-likelihood Σ_c r_c δ_c - Σ_k n_k log e_k(δ) is valid for any distribution of u (Andersen 1970,
J. R. Stat. Soc. B 32: 283). r_c is the number of right answers of cell c, n_k the number of examples that are
right k times, and e_k the elementary symmetric polynomial of degree k in the exp(δ_c).
"""

from typing import NamedTuple

import numpy as np


class Cells(NamedTuple):
    """Log odds of every cell, (cells,), for an average example (u = 0), and the sd of u over examples."""

    log_odds: np.ndarray
    example_sd: float


def cell_log_odds(right: np.ndarray) -> Cells:
    """Estimate δ of cells and the sd of examples from answers (cells, n) of zeros and ones.

    Each cell also gets half a right and half a wrong answer of an example with u = 0. This fixes the location
    of δ, and keeps it finite if all answers of a cell are equal. The sd of u is estimated by maximum
    likelihood for normal u, given δ.
    """
    from scipy.optimize import minimize

    cells, n = right.shape
    totals = right.sum(axis=1).astype(float)
    times = np.bincount(right.sum(axis=0).astype(int), minlength=cells + 1).astype(float)

    def loss(delta: np.ndarray) -> tuple[float, np.ndarray]:
        log_e, slope = _symmetric(delta, times)
        share = 1 / (1 + np.exp(-delta))
        value = log_e - totals @ delta + np.sum(np.logaddexp(0, delta) - 0.5 * delta)
        return value / n, (slope - totals + share - 0.5) / n

    start = np.log((totals + 0.5) / (n - totals + 0.5))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500, "ftol": 1e-12})
    return Cells(found.x, _example_sd(found.x, times))


def _symmetric(delta: np.ndarray, times: np.ndarray) -> tuple[float, np.ndarray]:
    """Return Σ_k n_k log e_k(δ) and its gradient, by a forward and a backward pass in logarithms."""
    cells = len(delta)
    log_e = np.full((cells + 1, cells + 1), -np.inf)
    log_e[0, 0] = 0.0
    for c in range(cells):
        log_e[c + 1, 0] = 0.0
        np.logaddexp(log_e[c, 1 : c + 2], log_e[c, : c + 1] + delta[c], out=log_e[c + 1, 1 : c + 2])
    slope = np.empty(cells)
    weight = times.copy()
    for c in range(cells - 1, -1, -1):
        # The part of e_k over c + 1 cells that includes cell c, and k - 1 of the cells before it.
        taken = np.exp(log_e[c, : c + 1] + delta[c] - log_e[c + 1, 1 : c + 2])
        with_c = weight[1 : c + 2] * taken
        slope[c] = with_c.sum()
        weight[1 : c + 2] -= with_c
        weight[: c + 1] += with_c
    occurring = times > 0
    return float(times[occurring] @ log_e[cells, occurring]), slope


def _example_sd(delta: np.ndarray, times: np.ndarray) -> float:
    """Return the maximum-likelihood sd of normal u for the numbers of right answers per example, given δ."""
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    u = np.linspace(-12, 12, 961)
    k = np.flatnonzero(times)
    answers = u[None, :] * k[:, None] - np.logaddexp(0, u[:, None] + delta[None, :]).sum(axis=1)[None, :]

    def loss(log_sd: float) -> float:
        prior = -0.5 * (u / np.exp(log_sd)) ** 2
        return -float(times[k] @ logsumexp(answers + prior - logsumexp(prior), axis=1))

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(4.0)), method="bounded").x))
