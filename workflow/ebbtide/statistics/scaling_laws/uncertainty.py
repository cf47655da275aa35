"""Uncertainty of a fit: linearised law, profile likelihood, residual bootstrap, and leave-one-out.

Coverage of 95 % intervals in simulation, for Eq. 4 on 6 budgets × 4 ratios with normal homoscedastic
residuals (`benchmarks/simulate_scaling.py`), in percent:

profile likelihood   93 to 98 for E, a, b and η, on 6 to 24 runs with noise of 0.003 or 0.03 nats
linearised law       93 to 97; on 6 or 8 runs with noise of 0.03, 90 to 93 for a and b, 89 to 96 for E and η
residual bootstrap   90 to 93; on 8 runs with noise of 0.03, 87 to 90

The profile likelihood is recommended. The bootstrap is only used for bands of trends.
"""

from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import leastsq
from scipy.stats import t as student

from ebbtide.errors import ScalingError
from ebbtide.statistics.scaling_laws.fits import Fit, fit, resolve
from ebbtide.statistics.scaling_laws.laws import Array

_MAX_STANDARD_ERRORS = 1e4  # a profile that is still below its limit there is unbounded


def linear_intervals(fitted: Fit, level: float = 0.95) -> dict[str, tuple[float, float]]:
    """Return estimate ± t·standard error by parameter; NaN without degrees of freedom."""
    reach = quantile(fitted.df, level)
    return {
        name: (value - reach * fitted.stderr[name], value + reach * fitted.stderr[name])
        for name, value in fitted.values.items()
    }


def profile_interval(fitted: Fit, name: str, level: float = 0.95) -> tuple[float, float]:
    """Return the profile-likelihood interval of one parameter; an end is infinite if it is unbounded.

    The other parameters are refitted at every value: {θ : S(θ) ≤ S(θ̂)·(1 + t²/df)}, with t the Student
    quantile (Bates & Watts 1988, Sec. 6.1). An interval that reaches a bound of the parameter ends there.
    Raises `ScalingError` for a robust fit, or without degrees of freedom.
    """
    if fitted.objective != "least_squares" or fitted.df <= 0:
        raise ScalingError(
            f"law {fitted.law.name}: a profile needs least squares and degrees of freedom (found: "
            f"{fitted.objective}, {fitted.points} points for {len(fitted.values)} parameters)."
        )
    profile = _Profile(fitted, fitted.law.names.index(name), quantile(fitted.df, level))
    return profile.end(-1), profile.end(+1)


def leave_one_out(fitted: Fit) -> pd.DataFrame:
    """Refit without each point: columns `left_out` (index from 0), the parameters, `missed_by` and `note`.

    `missed_by` is observed − predicted for the point left out. Each fit starts at the full fit. If it fails,
    values are NaN and `note` gives the reason.
    """
    rows: list[dict[str, Any]] = []
    for i in range(fitted.points):
        keep = np.arange(fitted.points) != i
        try:
            part = refit(fitted, fitted.observed[keep], {k: v[keep] for k, v in fitted.inputs.items()})
            note = "" if part.df else "the law passes through every remaining point"
            missed = fitted.observed[i] - part.predict(**{k: v[i] for k, v in fitted.inputs.items()})
            rows.append({"left_out": i, **part.values, "missed_by": float(missed), "note": note})
        except ScalingError as error:
            unknown = dict.fromkeys((*fitted.values, "missed_by"), np.nan)
            rows.append({"left_out": i, **unknown, "note": error.args[0]})
    return pd.DataFrame(rows)


def residual_bootstrap(fitted: Fit, draws: int, seed: int) -> Array:
    """Return the parameters fitted to `draws` resampled sets of residuals, (draws, parameters).

    Residuals are scaled by 1/√(1 − leverage) and centred, so that their variance is that of the errors.
    Raises `ScalingError` without degrees of freedom, or if a fit does not converge.
    """
    if fitted.df <= 0:
        raise ScalingError(
            f"law {fitted.law.name}: {fitted.points} points for {len(fitted.values)} parameters leave no "
            "residuals to draw from."
        )
    generator = np.random.default_rng(seed)
    residuals = inflated_residuals(fitted)
    smooth = fitted.observed - fitted.residuals
    samples = smooth + generator.choice(residuals, (draws, fitted.points))
    return np.array([resolve(fitted, sample) for sample in samples])


def inflated_residuals(fitted: Fit) -> Array:
    """Return residuals / √(1 − leverage), centred, (points,)."""
    jacobian = fitted.law.jacobian(fitted.values, **fitted.inputs)
    q, _ = np.linalg.qr(jacobian / np.linalg.norm(jacobian, axis=0))
    leverage = np.clip(np.sum(q**2, axis=1), 0.0, 0.99)
    scaled = fitted.residuals / np.sqrt(1 - leverage)
    return np.asarray(scaled - scaled.mean())


def refit(fitted: Fit, observed: Array, inputs: Any) -> Fit:
    """Fit the same law with the same objective to other points, started at the fit."""
    start = [list(fitted.values.values())]
    return fit(
        fitted.law,
        observed,
        objective=fitted.objective,
        bounded=fitted.bounded,
        starts=start,
        **inputs,
    )


def quantile(df: float, level: float) -> float:
    """Return the two-sided Student quantile of a level; NaN without degrees of freedom."""
    return float(student.ppf((1 + level) / 2, df)) if df > 0 else float("nan")


class _Profile:
    """Sum of squares as a function of one parameter, with the others refitted."""

    def __init__(self, fitted: Fit, index: int, reach: float) -> None:
        self.fitted, self.index, self.reach = fitted, index, reach
        self.best = np.array(list(fitted.values.values()))
        stderr = list(fitted.stderr.values())[index]
        usable = np.isfinite(stderr) and stderr > 0
        self.step = stderr if usable else max(abs(self.best[index]), 1e-6) * 0.1
        self.free = np.arange(len(self.best)) != index
        self.target = fitted.cost * (1 + reach**2 / fitted.df)

    def end(self, side: int) -> float:
        """Return where the profile crosses its limit, below (−1) or above (+1) the estimate."""
        parameter = self.fitted.law.parameters[self.index]
        centre, start = self.best[self.index], self.best[self.free]
        bound = parameter.low if side < 0 else parameter.high
        outside = side * (centre - bound) >= 0
        inner, distance = centre, self.step * self.reach / 2
        while distance < _MAX_STANDARD_ERRORS * self.step:
            at = centre + side * distance
            beyond = not outside and side * (at - bound) >= 0
            at = bound if beyond else at
            excess, others = self._excess(at, start)
            if excess > 0:
                return self._crossing(inner, at, start)
            if beyond:
                return float(bound)
            inner, start, distance = at, others, 1.6 * distance
        return side * float("inf")

    def _crossing(self, inner: float, outer: float, start: Array) -> float:
        # Bisection, started from the last values within the limit, so a jump between optima is harmless.
        for _ in range(14):
            middle = (inner + outer) / 2
            excess, others = self._excess(middle, start)
            if excess > 0:
                outer = middle
            else:
                inner, start = middle, others
        return float(inner)

    def _excess(self, value: float, start: Array) -> tuple[float, Array]:
        """Return the sum of squares minus the limit, and the refitted values of the other parameters."""

        def whole(others: Array) -> Array:
            values = np.insert(others, self.index, value)
            predicted = self.fitted.law.function(self.fitted.inputs, values)
            return np.asarray(np.nan_to_num(predicted - self.fitted.observed, nan=1e6))

        def slopes(others: Array) -> Array:
            values = list(np.insert(others, self.index, value))
            return np.nan_to_num(self.fitted.law.jacobian(values, **self.fitted.inputs)[:, self.free])

        with np.errstate(all="ignore"):
            found, _, info, _, _ = leastsq(
                whole, start, Dfun=slopes, full_output=True, ftol=1e-12, xtol=1e-12
            )
        with np.errstate(
            over="ignore"
        ):  # far away, the law overflows to infinity, which is above every limit
            cost = float(np.sum(info["fvec"] ** 2))
        return cost - self.target, found
