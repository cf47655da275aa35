"""Scaling laws as algebra: slopes, one parametrisation from another, inverses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbtide.errors import ScalingError
from ebbtide.statistics.scaling_laws import algebra
from ebbtide.statistics.scaling_laws.laws import (
    CHINCHILLA,
    COMPUTE,
    ERROR,
    ERROR_PERPLEXITY,
    LAWS,
    OVERTRAINED,
    OVERTRAINED_FITTED,
    POWER_COMPUTE,
    RMSE,
)

overtrained = st.fixed_dictionaries(
    {"E": st.floats(0, 3), "a": st.floats(10, 1e3), "b": st.floats(10, 1e3), "eta": st.floats(0.05, 0.3)}
)
compute = st.floats(1e16, 1e22)
ratio = st.floats(1, 1000)
AT = {"C": 1e19, "M": 40.0, "N": 3e8, "D": 6e9, "L": 2.7, "PP": 15.0}


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_slopes_are_those_of_small_steps(law):
    values = np.array([p.starts[-1] for p in law.parameters])
    inputs = {name: np.array([AT[name], 3 * AT[name]]) for name in law.inputs}
    for i, slope in enumerate(law.jacobian(values, **inputs).T):
        step = np.zeros(len(values))
        step[i] = 1e-6 * values[i]
        rise = law.predict(values + step, **inputs) - law.predict(values - step, **inputs)
        np.testing.assert_allclose(slope, rise / (2 * step[i]), rtol=1e-5)


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_every_law_names_its_parts(law):
    assert all(p.unit and p.meaning and p.starts for p in law.parameters)
    assert law.formula.startswith(law.output)
    assert law.starts()


@given(overtrained, compute, ratio)
def test_all_forms_of_the_overtrained_law_agree(values, C, M):
    N, D = algebra.size_and_tokens(C, M)
    loss = OVERTRAINED.predict(values, C=C, M=M)
    fitted = algebra.fitted_from_overtrained(values)
    chinchilla = algebra.chinchilla_from_overtrained(values)
    fixed = algebra.compute_from_overtrained(values, M)

    np.testing.assert_allclose(algebra.compute(N, D), C)
    np.testing.assert_allclose(OVERTRAINED_FITTED.predict(fitted, N=N, M=M), loss)
    np.testing.assert_allclose(CHINCHILLA.predict(chinchilla, N=N, D=D), loss)
    np.testing.assert_allclose(COMPUTE.predict(fixed, C=C), loss)
    assert algebra.overtrained_from_fitted(fitted) == pytest.approx(values)
    assert algebra.overtrained_from_chinchilla(chinchilla) == pytest.approx(values)


@given(overtrained, compute, ratio)
def test_compute_for_a_loss_is_the_inverse(values, C, M):
    loss = float(OVERTRAINED.predict(values, C=C, M=M))
    if loss - values["E"] > 1e-6 * loss:  # else rounding is all that is left
        assert algebra.compute_for_loss(values, loss, M) == pytest.approx(C, rel=1e-3)


@given(overtrained, compute)
def test_the_best_ratio_has_the_lowest_loss(values, C):
    best = algebra.best_ratio(values)
    around = OVERTRAINED.predict(values, C=C, M=best * np.array([0.5, 1.0, 2.0]))
    assert around[1] <= min(around[0], around[2])


@given(st.floats(0.5, 1), st.floats(0.5, 5), st.floats(0.3, 2), st.floats(1, 5))
def test_error_in_loss_and_in_perplexity(epsilon, k, gamma, loss):
    values = {"epsilon": epsilon, "k": k, "gamma": gamma}
    error = float(ERROR.predict(values, L=loss))
    assert float(ERROR_PERPLEXITY.predict(values, PP=np.exp(loss))) == pytest.approx(error)
    assert algebra.loss_for_error(values, error) == pytest.approx(loss, rel=1e-6)


def test_the_chain_is_the_one_law_after_the_other():
    loss = {"E": 1.8, "a": 212.0, "b": 367.0, "eta": 0.136}
    error = {"epsilon": 0.857, "k": 2.2, "gamma": 0.715}
    passed = ERROR.predict(error, L=OVERTRAINED.predict(loss, C=1e20, M=20))
    assert algebra.chain(OVERTRAINED, loss, ERROR, error, C=1e20, M=20) == pytest.approx(passed)


def test_where_a_power_law_crosses_a_target():
    values = {"a": 1.5, "b": 0.02}
    size = algebra.size_for_rmse(values, 0.822)
    assert float(RMSE.predict(values, N=size)) == pytest.approx(0.822)
    scale = algebra.scale_for_loss(POWER_COMPUTE, {"C0": 3e8, "alpha": 0.05}, 2.5)
    assert float(POWER_COMPUTE.predict({"C0": 3e8, "alpha": 0.05}, C=scale)) == pytest.approx(2.5)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: algebra.size_for_rmse({"a": 1.5, "b": -0.02}, 0.8),
        lambda: algebra.compute_for_loss({"E": 1.8, "a": 1.0, "b": 1.0, "eta": 0.1}, 1.7, 20),
        lambda: algebra.loss_for_error({"epsilon": 0.8, "k": 2.0, "gamma": 1.0}, 0.9),
        lambda: algebra.overtrained_from_chinchilla({"E": 1, "A": 1, "alpha": 0.3, "B": 1, "beta": 0.4}),
        lambda: ERROR.predict({"epsilon": 1.0}, L=2.0),
        lambda: ERROR.predict({"epsilon": 1.0, "k": 1.0, "gamma": 1.0}, C=2.0),
    ],
)
def test_what_has_no_answer_is_a_sentence(ask):
    with pytest.raises(ScalingError) as error:
        ask()
    assert error.value.args[0].endswith(".")
