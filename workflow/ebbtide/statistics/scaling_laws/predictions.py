"""Predict runs outside the fit, with prediction intervals for the run.

In simulation, at ten times the compute of the fitted runs of Eq. 4, 95 % intervals cover the new run in 93 to
96 % of studies with 8 to 24 runs, and in 91 % with 8 runs and noise of 0.03 nats.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ebbtide.statistics.scaling_laws.fits import Fit
from ebbtide.statistics.scaling_laws.laws import Array
from ebbtide.statistics.scaling_laws.uncertainty import quantile


@dataclass(frozen=True)
class Predicted:
    """Predictions, one per input.

    `stderr` is the standard error of the law. `low` and `high` bound a new run and include its own noise;
    they are NaN if the fit has no degrees of freedom.
    """

    value: Array
    stderr: Array
    low: Array
    high: Array


def predict_runs(fitted: Fit, level: float = 0.95, **inputs: ArrayLike) -> Predicted:
    """Predict with the linearised law: value ± t·√(gᵀΣg + σ²), with g the gradient at the inputs."""
    value = fitted.predict(**inputs)
    variance = _variance(fitted, **inputs)
    reach = quantile(fitted.df, level) * np.sqrt(variance + fitted.sigma**2)
    return Predicted(value, np.sqrt(variance), value - reach, value + reach)


def predict_errors(loss: Fit, error: Fit, level: float = 0.95, **inputs: ArrayLike) -> Predicted:
    """Predict errors through predicted losses: Err(L(inputs)).

    Two independent variances are added: that of the error law at the predicted loss, and that of the
    predicted loss times (dErr/dL)². Degrees of freedom are those of Welch and Satterthwaite.
    """
    at = loss.predict(**inputs)
    name = error.law.inputs[0]
    value = error.predict(**{name: at})
    step = 1e-6 * np.maximum(np.abs(at), 1e-3)
    slope = (error.predict(**{name: at + step}) - error.predict(**{name: at - step})) / (2 * step)
    own = _variance(error, **{name: at})
    passed = slope**2 * _variance(loss, **inputs)
    # A new run has noise around both laws.
    first, second = own + error.sigma**2, passed + slope**2 * loss.sigma**2
    if error.df <= 0 or loss.df <= 0:
        unknown = np.full(np.shape(value), np.nan)
        return Predicted(value, unknown, unknown, unknown)
    both = np.asarray(first**2 / error.df + second**2 / loss.df)
    df = (first + second) ** 2 / np.where(both > 0, both, np.nan)
    reach = np.array([quantile(d, level) for d in np.atleast_1d(df)]).reshape(np.shape(df))
    reach = reach * np.sqrt(first + second)
    return Predicted(value, np.sqrt(own + passed), value - reach, value + reach)


def relative_error(predicted: ArrayLike, actual: ArrayLike) -> Array:
    """Return |predicted − actual| / actual, as in Gadre et al. 2024; infinite if the actual value is 0."""
    predicted, actual = np.asarray(predicted, dtype=float), np.asarray(actual, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.abs(predicted - actual) / actual)


def _variance(fitted: Fit, **inputs: ArrayLike) -> Array:
    """Return the variance of the law at the inputs, gᵀΣg."""
    slopes = fitted.law.jacobian(fitted.values, **inputs)
    variance = np.einsum("...i,ij,...j->...", slopes, fitted.covariance, slopes)
    return np.asarray(np.maximum(variance, 0.0))
