"""One parametrisation from another, and laws solved for their inputs.

With C = 6ND and M = D/N: N = (C/6M)^½, D = (CM/6)^½. Put into Eq. 4 this gives Chinchilla's law with
α = β = 2η, A = a·6^−η and B = b·6^−η.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from ebbtide.errors import ScalingError
from ebbtide.statistics.scaling_laws.laws import FLOPS_PER_PARAMETER_AND_TOKEN as SIX
from ebbtide.statistics.scaling_laws.laws import RMSE, Array, Law

Values = Mapping[str, float]


def compute(N: ArrayLike, D: ArrayLike) -> Array:
    """Training compute C = 6ND, in FLOPs, of N parameters (embeddings included) and D tokens."""
    return np.asarray(SIX * np.asarray(N, dtype=float) * np.asarray(D, dtype=float))


def size_and_tokens(C: ArrayLike, M: ArrayLike) -> tuple[Array, Array]:
    """(N, D) of a run of compute C at M tokens per parameter."""
    C, M = np.asarray(C, dtype=float), np.asarray(M, dtype=float)
    return np.sqrt(C / (SIX * M)), np.sqrt(C * M / SIX)


def overtrained_from_fitted(values: Values) -> dict[str, float]:
    """Eq. 4 from the form it is fitted in: a = a6·6^η, all else is the same."""
    eta = values["eta"]
    return {"E": values["E"], "a": values["a6"] * SIX**eta, "b": values["b"], "eta": eta}


def fitted_from_overtrained(values: Values) -> dict[str, float]:
    """The form Eq. 4 is fitted in, from Eq. 4: a6 = a·6^−η."""
    eta = values["eta"]
    return {"E": values["E"], "a6": values["a"] * SIX**-eta, "b": values["b"], "eta": eta}


def chinchilla_from_overtrained(values: Values) -> dict[str, float]:
    """L = E + A N^−α + B D^−β from Eq. 4: α = β = 2η, A = a·6^−η, B = b·6^−η."""
    shrink, exponent = SIX ** -values["eta"], 2 * values["eta"]
    return {
        "E": values["E"],
        "A": values["a"] * shrink,
        "alpha": exponent,
        "B": values["b"] * shrink,
        "beta": exponent,
    }


def overtrained_from_chinchilla(values: Values) -> dict[str, float]:
    """Eq. 4 from Chinchilla's law. Raises `ScalingError` unless α = β: else no single η exists."""
    if not np.isclose(values["alpha"], values["beta"], rtol=1e-9):
        raise ScalingError(
            f"alpha is {values['alpha']:g} and beta {values['beta']:g}; the law in C and M needs them equal."
        )
    eta = values["alpha"] / 2
    return {"E": values["E"], "a": values["A"] * SIX**eta, "b": values["B"] * SIX**eta, "eta": eta}


def compute_from_overtrained(values: Values, M: float) -> dict[str, float]:
    """L = E + λC^−η at a fixed M, from Eq. 4: λ = a·M^η + b·M^−η."""
    eta = values["eta"]
    return {"E": values["E"], "lambda": values["a"] * M**eta + values["b"] * M**-eta, "eta": eta}


def best_ratio(values: Values) -> float:
    """M of the lowest loss at any compute, by Eq. 4: (b/a)^(1/2η) tokens per parameter."""
    return float((values["b"] / values["a"]) ** (0.5 / values["eta"]))


def compute_for_loss(values: Values, loss: float, M: float) -> float:
    """C at which Eq. 4 reaches `loss` at M tokens per parameter. Raises `ScalingError` below E."""
    fixed = compute_from_overtrained(values, M)
    excess = _above(loss, fixed["E"], "loss")
    return float((fixed["lambda"] / excess) ** (1 / fixed["eta"]))


def loss_for_error(values: Values, error: float) -> float:
    """L at which Eq. 5 has `error`: ln(k/(ε − Err))/γ. Raises `ScalingError` at or above ε."""
    if error >= values["epsilon"]:
        raise ScalingError(
            f"the error {error:g} is not below epsilon = {values['epsilon']:g}, which the law never reaches."
        )
    return float(np.log(values["k"] / (values["epsilon"] - error)) / values["gamma"])


def size_for_rmse(values: Values, target: float) -> float:
    """N at which RMSE = a N^−b crosses `target`. Raises `ScalingError` when it never does."""
    if values["b"] <= 0 or target <= 0:
        raise ScalingError(
            f"{RMSE.formula}: with b = {values['b']:g} no size reaches {target:g}; both must be above 0."
        )
    return float((values["a"] / target) ** (1 / values["b"]))


def scale_for_loss(law: Law, values: Values, loss: float) -> float:
    """X at which a plain power law L = (X/X₀)^−α has this loss: X₀·L^(−1/α)."""
    scale, alpha = law.vector(values)
    return float(scale * _above(loss, 0.0, "loss") ** (-1 / alpha))


def chain(loss_law: Law, loss: Values, error_law: Law, error: Values, **inputs: ArrayLike) -> Array:
    """Err at (C, M), or whatever `loss_law` takes: through the predicted loss (Sec. 3.3 of Gadre et al.)."""
    predicted = loss_law.predict(loss, **inputs)
    return error_law.predict(error, **{error_law.inputs[0]: predicted})


def _above(value: float, floor: float, what: str) -> float:
    if value <= floor:
        raise ScalingError(f"the {what} {value:g} is not above {floor:g}, below which the law never falls.")
    return value - floor
