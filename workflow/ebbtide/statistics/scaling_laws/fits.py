"""Fit scaling laws from several starts, and report how many starts agree.

Two objectives:

least_squares   Σ (L − L̂)² by Levenberg–Marquardt without bounds, as in Gadre et al. 2024
robust          Σ Huber_δ(ln L − ln L̂), δ = 10⁻³, as in Hoffmann et al. 2022
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import least_squares, leastsq

from ebbtide.errors import ScalingError
from ebbtide.statistics.scaling_laws.laws import Array, Law

Objective = Literal["least_squares", "robust"]
HUBER_DELTA = 1e-3  # of ln L; Hoffmann et al. 2022, appendix D.2
SAME_OPTIMUM = 1e-6  # relative difference of objectives below which two optima are equal
_TOLERANCE = 1e-14
_SMALLEST_PREDICTION = 1e-300  # negative predictions get a huge residual, so the step is rejected
_MAX_EVALUATIONS = 500  # converging fits need far fewer


@dataclass(frozen=True)
class Fit:
    """A fitted law.

    Attributes
    ----------
    values, stderr
        By parameter. Standard errors are NaN without degrees of freedom, and for parameters at a bound.
    covariance
        Covariance of the values, (parameters, parameters).
    residuals
        (points,) observed − fitted, in the unit of the output.
    sigma
        Standard deviation of the residuals: √(Σr²/df); NaN without degrees of freedom.
    df
        Points − parameters.
    starts, converged, agreeing
        Number of starts, of converged starts, and of starts that reached the best optimum.
    cost
        Value of the objective at the best optimum.
    """

    law: Law
    objective: Objective
    bounded: bool
    inputs: Mapping[str, Array]
    observed: Array
    values: Mapping[str, float]
    stderr: Mapping[str, float]
    covariance: Array
    residuals: Array
    sigma: float
    df: int
    starts: int
    converged: int
    agreeing: int
    cost: float

    def predict(self, **inputs: ArrayLike) -> Array:
        """Evaluate the fitted law at these inputs."""
        return self.law.predict(self.values, **inputs)

    @property
    def points(self) -> int:
        """Number of runs in the fit."""
        return len(self.observed)

    def agreement(self) -> str:
        """Describe how many starts agree."""
        return f"{self.agreeing} of {self.starts} starts reach the best optimum"


def fit(
    law: Law,
    observed: ArrayLike,
    *,
    objective: Objective = "least_squares",
    bounded: bool = False,
    starts: Sequence[Sequence[float]] | None = None,
    **inputs: ArrayLike,
) -> Fit:
    """Fit `law` to `observed` (points,) at `inputs`, from every start, and return the best optimum.

    Parameters
    ----------
    objective
        `least_squares` or `robust`.
    bounded
        Keep the parameters within their physical ranges, with a trust region instead of Levenberg–Marquardt.
    starts
        Starting values, in the order of the parameters; the default is `law.starts()`.
    inputs
        (points,) arrays by input of the law.

    Returns
    -------
    Standard errors are those of the linearised law, σ²(JᵀJ)⁻¹; for the robust objective, with the variance of
    an M-estimator.

    Raises
    ------
    ScalingError
        Fewer points than parameters; missing or nonpositive values; constant inputs (a single M, a single
        size), for which the parameters are not identifiable; duplicate runs; no start converged.
    """
    arrays = law.arrays(inputs)
    y = np.asarray(observed, dtype=float)
    check(law, y, arrays)
    problem = _Problem(law, arrays, y, objective, bounded)
    begin = [np.asarray(s, dtype=float) for s in (law.starts() if starts is None else starts)]
    ends = [end for end in map(problem.solve, begin) if end is not None]
    if not ends:
        raise ScalingError(
            f"law {law.name}: none of {len(begin)} starts converged on {len(y)} points; the runs do not "
            f"follow {law.formula}, or the starts are far off."
        )
    costs = np.array([cost for cost, _ in ends])
    best = ends[int(costs.argmin())]
    # The objective of a perfect fit is rounding noise, which differs between starts.
    noise = 1e-20 * float(np.sum(y**2))
    same = costs <= costs.min() * (1 + SAME_OPTIMUM) + noise
    return _result(problem, best[1], (len(begin), len(ends), int(same.sum())), float(costs.min()))


def check(law: Law, y: Array, inputs: Mapping[str, Array]) -> None:
    """Raise `ScalingError` for points to which the law cannot be fitted."""
    sizes = {name: len(np.atleast_1d(values)) for name, values in {law.output: y, **inputs}.items()}
    if len(set(sizes.values())) > 1:
        raise ScalingError(
            f"law {law.name}: lengths differ ({', '.join(f'{k} {v}' for k, v in sizes.items())})."
        )
    for name, values in {law.output: y, **inputs}.items():
        wrong = ~np.isfinite(values)
        if wrong.any():
            raise ScalingError(
                f"law {law.name}: {name} is {values[wrong][0]} at point {int(wrong.argmax()) + 1} of "
                f"{len(values)}; every point needs a finite number."
            )
        low = values < 0 if name == "Err" else values <= 0
        if low.any():
            raise ScalingError(
                f"law {law.name}: {name} is {values[low][0]:g} at point {int(low.argmax()) + 1} of "
                f"{len(values)}; allowed: {'0 and above' if name == 'Err' else 'above 0'}."
            )
    if len(y) < len(law.parameters):
        raise ScalingError(
            f"law {law.name}: found {len(y)} points for {len(law.parameters)} parameters "
            f"({', '.join(law.names)}); add runs, or choose a law with fewer parameters."
        )
    for name, values in inputs.items():
        if len(np.unique(values)) < 2:
            raise ScalingError(
                f"law {law.name}: every point has {name} = {values[0]:g}, so the parameters of "
                f"{law.formula} are not identifiable; add runs with another {name}."
            )
    points = pd.DataFrame({law.output: y, **inputs})
    twice = points.duplicated()
    if twice.any():
        point = points[twice].iloc[0]
        raise ScalingError(
            f"law {law.name}: a point occurs twice "
            f"({', '.join(f'{k} = {v:g}' for k, v in point.items())}); each run may count once."
        )


class _Problem:
    """Residuals and derivatives of one fit, and its solution from one start."""

    def __init__(
        self, law: Law, inputs: Mapping[str, Array], y: Array, objective: Objective, bounded: bool
    ) -> None:
        self.law, self.inputs, self.y = law, inputs, y
        self.objective, self.bounded = objective, bounded
        self.low = np.array([p.low for p in law.parameters])
        self.high = np.array([p.high for p in law.parameters])

    def residuals(self, values: Array) -> Array:
        """Predicted − observed, (points,); of logarithms if robust."""
        predicted = self.law.function(self.inputs, values)
        if self.objective == "robust":
            return np.asarray(np.log(np.maximum(predicted, _SMALLEST_PREDICTION)) - np.log(self.y))
        return np.asarray(predicted - self.y)

    def slopes(self, values: Array) -> Array:
        """Derivatives of the residuals, (points, parameters)."""
        slopes = self.law.jacobian(list(values), **self.inputs)
        if self.objective == "robust":
            predicted = np.maximum(self.law.function(self.inputs, values), _SMALLEST_PREDICTION)
            return np.asarray(slopes / predicted[:, None])
        return slopes

    def roots(self, values: Array) -> Array:
        """Terms whose sum of squares is twice the objective, so that LM can minimise Huber's function."""
        r = self.residuals(values)
        if self.objective != "robust":
            return r
        size = np.abs(r)
        far = np.sqrt(HUBER_DELTA * np.maximum(2 * size - HUBER_DELTA, HUBER_DELTA))
        return np.asarray(np.where(size <= HUBER_DELTA, r, np.sign(r) * far))

    def root_slopes(self, values: Array) -> Array:
        """Derivatives of `roots`, (points, parameters)."""
        slopes = self.slopes(values)
        if self.objective != "robust":
            return slopes
        size = np.abs(self.residuals(values))
        far = HUBER_DELTA / np.sqrt(HUBER_DELTA * np.maximum(2 * size - HUBER_DELTA, HUBER_DELTA))
        return np.asarray(np.where(size <= HUBER_DELTA, 1.0, far)[:, None] * slopes)

    def solve(self, start: Array) -> tuple[float, Array] | None:
        """Return (objective, values) at the optimum reached from `start`; None if it does not converge."""
        # LM gets no closer at the corners of Huber's function, and log losses need no more precision.
        exact = 1e-8 if self.objective == "robust" else _TOLERANCE
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the status reports failures
            try:
                x, status = self._trust_region(start, exact) if self.bounded else self._lm(start, exact)
            except (ValueError, np.linalg.LinAlgError):  # diverged to where the law is NaN
                return None
            cost = float(np.sum(self.roots(x) ** 2))
        return (cost, x) if status and np.isfinite(cost) else None

    def _lm(self, start: Array, exact: float) -> tuple[Array, bool]:
        # MINPACK directly: `least_squares` takes three times as long with the same code.
        x, _, _, _, status = leastsq(
            self.roots,
            start,
            Dfun=self.root_slopes,
            full_output=True,
            ftol=exact,
            xtol=exact,
            gtol=0.0,
            maxfev=_MAX_EVALUATIONS,
        )
        return np.asarray(x), status in (1, 2, 3, 4, 6, 7, 8)  # 6 to 8: no further progress in floating point

    def _trust_region(self, start: Array, exact: float) -> tuple[Array, bool]:
        margin = 1e-10 * np.maximum(1.0, np.abs(start))
        found = least_squares(
            self.roots,
            np.clip(start, self.low + margin, self.high - margin),
            self.root_slopes,
            bounds=(self.low, self.high),
            x_scale="jac",
            ftol=exact,
            xtol=exact,
            gtol=exact,
            max_nfev=_MAX_EVALUATIONS,
        )
        return np.asarray(found.x), found.status > 0


def resolve(fitted: Fit, observed: Array) -> Array:
    """Refit to other observations (points,) at the same inputs, started at the fit; returns (parameters,).

    Cheap enough for many bootstrap draws. Raises `ScalingError` if the fit does not converge.
    """
    problem = _Problem(fitted.law, fitted.inputs, observed, fitted.objective, fitted.bounded)
    end = problem.solve(np.array(list(fitted.values.values())))
    if end is None:
        raise ScalingError(f"law {fitted.law.name}: a fit to resampled residuals does not converge.")
    return end[1]


def _result(problem: _Problem, x: Array, counts: tuple[int, int, int], cost: float) -> Fit:
    law, y = problem.law, problem.y
    starts, converged, agreeing = counts
    if problem.bounded:  # a trust region stops just short of a bound
        nearest = np.where(x - problem.low < problem.high - x, problem.low, problem.high)
        x = np.where(at_bound(law, x), nearest, x)
    df = len(y) - len(x)
    residuals = y - law.function(problem.inputs, x)
    sigma = float(np.sqrt(np.sum(residuals**2) / df)) if df > 0 else float("nan")
    covariance = _covariance(problem, x, df)
    if problem.bounded:  # the linearised law is invalid at a bound
        pinned = at_bound(law, x)
        covariance[pinned, :] = covariance[:, pinned] = np.nan
    with np.errstate(invalid="ignore"):
        stderr = np.sqrt(np.diag(covariance))
    return Fit(
        law,
        problem.objective,
        problem.bounded,
        problem.inputs,
        y,
        dict(zip(law.names, map(float, x), strict=True)),
        dict(zip(law.names, map(float, stderr), strict=True)),
        covariance,
        residuals,
        sigma,
        df,
        starts,
        converged,
        agreeing,
        cost,
    )


def at_bound(law: Law, x: Array) -> Array:
    """Return which values are at a finite bound of their range, (parameters,)."""
    low = np.array([p.low for p in law.parameters])
    high = np.array([p.high for p in law.parameters])
    near = 1e-6 * np.maximum(1.0, np.abs(x))
    return np.asarray((x - low < near) | (high - x < near))


def _covariance(problem: _Problem, x: Array, df: int) -> Array:
    """Return σ²(JᵀJ)⁻¹. For an M-estimator, σ² is mean ψ² / (mean ψ′)², corrected for degrees of freedom."""
    if df <= 0:
        return np.full((len(x), len(x)), np.nan)
    residuals, jacobian = problem.residuals(x), problem.slopes(x)
    free = ~at_bound(problem.law, x) if problem.bounded else np.ones(len(x), dtype=bool)
    inner = (
        np.abs(residuals) <= HUBER_DELTA if problem.objective == "robust" else np.ones(len(residuals), bool)
    )
    influence = np.where(inner, residuals, HUBER_DELTA * np.sign(residuals))
    share = max(float(inner.mean()), 1.0 / len(residuals))
    variance = float(np.sum(influence**2)) / df / share**2
    scale = np.linalg.norm(jacobian[:, free], axis=0)
    scale[scale == 0] = 1.0
    covariance = np.full((len(x), len(x)), np.nan)
    # Scale the columns: λ is about 10³ and η about 10⁻¹, so JᵀJ would be ill-conditioned.
    inverse = np.linalg.pinv(jacobian[:, free] / scale, rcond=1e-12)
    covariance[np.ix_(free, free)] = variance * (inverse @ inverse.T) / np.outer(scale, scale)
    return covariance
