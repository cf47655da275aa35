"""Scaling laws: formula, parameters with units, prediction and derivatives.

N parameters, D training tokens, C = 6ND floating-point operations, M = D/N tokens per parameter,
L loss in nats per token, Err = 1 − accuracy.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ebbtide.errors import ScalingError
from ebbtide.statistics.compute import FLOPS_PER_PARAMETER_AND_TOKEN

Array = NDArray[Any]
_STEP = 1e-30  # complex step, free of cancellation


@dataclass(frozen=True)
class Parameter:
    """One parameter: its unit, its physical range, and the starting values of fits."""

    name: str
    unit: str
    meaning: str
    starts: tuple[float, ...]
    low: float = 0.0
    high: float = float("inf")


@dataclass(frozen=True)
class Law:
    """A law: `output` as a function of `inputs` and parameters.

    `function(inputs, values)` must be analytic (powers, exponentials, hyperbolic functions and their sums),
    because `jacobian` evaluates it at complex numbers.
    """

    name: str
    formula: str
    source: str
    inputs: tuple[str, ...]
    output: str
    parameters: tuple[Parameter, ...]
    function: Callable[[Mapping[str, Array], Any], Array] = field(repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in order."""
        return tuple(p.name for p in self.parameters)

    def starts(self) -> list[tuple[float, ...]]:
        """Every combination of the parameters' starting values."""
        return list(product(*(p.starts for p in self.parameters)))

    def vector(self, values: Mapping[str, float] | Sequence[float]) -> Array:
        """Return values in parameter order. Raises `ScalingError` for a missing or unknown name."""
        if isinstance(values, Mapping):
            if set(values) != set(self.names):
                raise ScalingError(
                    f"law {self.name}: found parameters {', '.join(values)}; needed: {', '.join(self.names)}."
                )
            values = [values[name] for name in self.names]
        return np.asarray(values, dtype=float)

    def predict(self, values: Mapping[str, float] | Sequence[float], **inputs: ArrayLike) -> Array:
        """Evaluate the law at these inputs, which are broadcast."""
        return np.asarray(self.function(self.arrays(inputs), self.vector(values)))

    def jacobian(self, values: Mapping[str, float] | Sequence[float], **inputs: ArrayLike) -> Array:
        """Return derivatives by the parameters, (points, parameters), exact to rounding (complex step)."""
        arrays, at = self.arrays(inputs), self.vector(values)
        columns = []
        for i in range(len(at)):
            moved = at.astype(complex)
            moved[i] += _STEP * 1j
            columns.append(np.imag(self.function(arrays, moved)) / _STEP)
        return np.stack(np.broadcast_arrays(*columns), axis=-1)

    def arrays(self, inputs: Mapping[str, ArrayLike]) -> dict[str, Array]:
        """Return inputs as real arrays. Raises `ScalingError` for a missing or unknown input."""
        if set(inputs) != set(self.inputs):
            raise ScalingError(
                f"law {self.name}: found inputs {', '.join(inputs) or 'none'}; "
                f"needed: {', '.join(self.inputs)}."
            )
        return {name: np.asarray(inputs[name], dtype=float) for name in self.inputs}


def _irreducible(name: str, unit: str, *starts: float) -> Parameter:
    return Parameter(name, unit, "irreducible loss", starts)


def _coefficient(name: str, unit: str, *starts: float) -> Parameter:
    return Parameter(name, unit, "coefficient of the reducible part", starts)


def _exponent(name: str, *starts: float) -> Parameter:
    return Parameter(name, "1", "exponent of the reducible part", starts)


def _power(name: str, symbol: str, unit: str, start: float, source: str) -> Law:
    """Return the power law L = (X/X₀)^−α, a line in log–log coordinates."""
    return Law(
        name,
        f"L = ({symbol}/{symbol}0)^-alpha",
        source,
        (symbol,),
        "L",
        (
            Parameter(f"{symbol}0", unit, "scale at which the loss is one nat", (start, start * 1e6)),
            _exponent("alpha", 0.05, 0.1, 0.3),
        ),
        lambda x, v: (x[symbol] / v[0]) ** -v[1],
    )


COMPUTE = Law(
    "compute",
    "L = E + lambda C^-eta",
    "Gadre et al. 2024, Eq. 1",
    ("C",),
    "L",
    (
        _irreducible("E", "nats", 0.0, 1.0, 2.0),
        _coefficient("lambda", "nats FLOP^eta", 3e1, 3e2, 3e3),
        _exponent("eta", 0.05, 0.1, 0.2),
    ),
    lambda x, v: v[0] + v[1] * x["C"] ** -v[2],
)

CHINCHILLA = Law(
    "chinchilla",
    "L = E + A N^-alpha + B D^-beta",
    "Hoffmann et al. 2022; Gadre et al. 2024, Eq. 3",
    ("N", "D"),
    "L",
    (
        _irreducible("E", "nats", 0.0, 1.0, 2.0),
        _coefficient("A", "nats parameter^alpha", 1e2, 1e3),
        _exponent("alpha", 0.2, 0.35, 0.5),
        _coefficient("B", "nats token^beta", 1e2, 1e3),
        _exponent("beta", 0.2, 0.35, 0.5),
    ),
    lambda x, v: v[0] + v[1] * x["N"] ** -v[2] + v[3] * x["D"] ** -v[4],
)

OVERTRAINED = Law(
    "overtrained",
    "L = E + (a M^eta + b M^-eta) C^-eta",
    "Gadre et al. 2024, Eq. 4",
    ("C", "M"),
    "L",
    (
        _irreducible("E", "nats", 0.0, 1.0, 2.0),
        _coefficient("a", "nats FLOP^eta", 1e2, 1e3),
        _coefficient("b", "nats FLOP^eta", 1e2, 1e3),
        _exponent("eta", 0.05, 0.15, 0.25),
    ),
    lambda x, v: v[0] + (v[1] * x["M"] ** v[3] + v[2] * x["M"] ** -v[3]) * x["C"] ** -v[3],
)

# OVERTRAINED in other parameters. Its grid of 128 starts is that of the paper.
OVERTRAINED_FITTED = Law(
    "overtrained_fitted",
    "L = E + a6 N^-2eta + b 6^-eta (M N)^-2eta",
    "Gadre et al. 2024, Eq. 4 with C = 6 M N^2, as its authors fit it",
    ("N", "M"),
    "L",
    (
        _irreducible("E", "nats", 0.0, 1.0, 2.0, 10.0),
        _coefficient("a6", "nats parameter^2eta", 1e2, 3e2, 1e3, 3e3),
        _coefficient("b", "nats FLOP^eta", 1e2, 3e2, 1e3, 3e3),
        _exponent("eta", 0.05, 0.15),
    ),
    lambda x, v: (
        v[0]
        + v[1] * x["N"] ** (-2 * v[3])
        + v[2] * FLOPS_PER_PARAMETER_AND_TOKEN ** -v[3] * (x["M"] * x["N"]) ** (-2 * v[3])
    ),
)


def overtrained_from_fitted(values: Mapping[str, float]) -> dict[str, float]:
    """Return the parameters of `OVERTRAINED` from those of `OVERTRAINED_FITTED`: a = a6·6^η, others equal."""
    a = values["a6"] * FLOPS_PER_PARAMETER_AND_TOKEN ** values["eta"]
    return {"E": values["E"], "a": a, "b": values["b"], "eta": values["eta"]}


_ERROR_PARAMETERS = (
    Parameter("epsilon", "share", "error in the limit of infinite loss", (1.0, 0.7), high=1.0),
    Parameter("k", "share", "coefficient of the exponential", (1.0, 3.0)),
)

ERROR = Law(
    "error",
    "Err = epsilon - k exp(-gamma L)",
    "Gadre et al. 2024, Eq. 5 with L in nats",
    ("L",),
    "Err",
    (*_ERROR_PARAMETERS, Parameter("gamma", "1/nat", "rate", (1.0, 0.3))),
    lambda x, v: v[0] - v[1] * np.exp(-v[2] * x["L"]),
)

ERROR_PERPLEXITY = Law(
    "error_perplexity",
    "Err = epsilon - k PP^-gamma",
    "Gadre et al. 2024, Eq. 6 with PP = exp(L)",
    ("PP",),
    "Err",
    (*_ERROR_PARAMETERS, Parameter("gamma", "1", "exponent", (1.0, 0.3))),
    lambda x, v: v[0] - v[1] * x["PP"] ** -v[2],
)


def bounded_error(epsilon: float | None = None) -> Law:
    """Return the error as a sigmoid in the loss, the law of task ladders, which stays between 0 and 1.

    Bhagia et al. 2024 fit the accuracy a / (1 + exp(-k (L - L0))) + b; here floor = 1 - a - b is the error of
    a solved task and epsilon = 1 - b that of a model that has learned nothing.

    Parameters
    ----------
    epsilon
        1 - chance where the chance level is known, and then it is not fitted.
    """
    parameters = (
        Parameter("floor", "share", "error in the limit of low loss", (0.0, 0.2), high=1.0),
        Parameter("epsilon", "share", "error in the limit of high loss", (0.9, 0.5), high=1.0),
        Parameter("k", "1/nat", "rate", (5.0, 1.0)),
        Parameter("L0", "nats", "loss at half of the way", (1.0, 2.0, 4.0)),
    )
    name, free = (
        ("epsilon", parameters) if epsilon is None else (f"{epsilon:.6g}", parameters[::2] + parameters[3:])
    )
    return Law(
        "error_sigmoid",
        f"Err = floor + ({name} - floor) / (1 + exp(-k (L - L0)))",
        "Bhagia et al. 2024, Eq. 3",
        ("L",),
        "Err",
        free,
        lambda x, v: _sigmoid(x["L"], v if epsilon is None else (v[0], epsilon, v[1], v[2])),
    )


def _sigmoid(loss: Array, values: Any) -> Array:
    floor, epsilon, k, middle = values
    # 1 / (1 + exp(-z)) as a tangent, which does not overflow.
    return np.asarray(floor + (epsilon - floor) * (1 + np.tanh(k * (loss - middle) / 2)) / 2)


ERROR_SIGMOID = bounded_error()

POWER_COMPUTE = _power("power_compute", "C", "FLOP", 1e8, "Kaplan et al. 2020; Ganguli et al. 2022, Fig. 1")
POWER_TOKENS = _power("power_tokens", "D", "tokens", 1e13, "Kaplan et al. 2020; Ganguli et al. 2022, Fig. 1")
POWER_PARAMETERS = _power(
    "power_parameters", "N", "parameters", 1e13, "Kaplan et al. 2020; Ganguli et al. 2022, Fig. 1"
)

RMSE = Law(
    "rmse",
    "RMSE = a N^-b",
    "Ganguli et al. 2022, Sec. 2.3",
    ("N",),
    "RMSE",
    (_coefficient("a", "rating parameter^b", 1.0, 3.0), _exponent("b", 0.01, 0.1)),
    lambda x, v: v[0] * x["N"] ** -v[1],
)

LAWS: dict[str, Law] = {
    law.name: law
    for law in (
        *(COMPUTE, CHINCHILLA, OVERTRAINED, OVERTRAINED_FITTED, ERROR, ERROR_PERPLEXITY, ERROR_SIGMOID),
        *(POWER_COMPUTE, POWER_TOKENS, POWER_PARAMETERS, RMSE),
    )
}
