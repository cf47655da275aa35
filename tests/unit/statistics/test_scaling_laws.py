"""Scaling laws: slopes, and one parametrisation from another."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbtide.errors import ScalingError
from ebbtide.statistics.compute import compute
from ebbtide.statistics.scaling_laws.laws import (
    CHINCHILLA,
    COMPUTE,
    ERROR,
    ERROR_PERPLEXITY,
    LAWS,
    OVERTRAINED,
    OVERTRAINED_FITTED,
    overtrained_from_fitted,
)

overtrained = st.fixed_dictionaries(
    {"E": st.floats(0, 3), "a": st.floats(10, 1e3), "b": st.floats(10, 1e3), "eta": st.floats(0.05, 0.3)}
)
flops = st.floats(1e16, 1e22)
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


@given(overtrained, flops, ratio)
def test_all_forms_of_the_overtrained_law_agree(values, C, M):
    N, D = np.sqrt(C / (6 * M)), np.sqrt(C * M / 6)
    E, a, b, eta = (values[name] for name in ("E", "a", "b", "eta"))
    loss = OVERTRAINED.predict(values, C=C, M=M)
    fitted = {"E": E, "a6": a * 6**-eta, "b": b, "eta": eta}
    chinchilla = {"E": E, "A": a * 6**-eta, "alpha": 2 * eta, "B": b * 6**-eta, "beta": 2 * eta}
    at_this_ratio = {"E": E, "lambda": a * M**eta + b * M**-eta, "eta": eta}

    np.testing.assert_allclose(compute(N, D), C)
    np.testing.assert_allclose(OVERTRAINED_FITTED.predict(fitted, N=N, M=M), loss)
    np.testing.assert_allclose(CHINCHILLA.predict(chinchilla, N=N, D=D), loss)
    np.testing.assert_allclose(COMPUTE.predict(at_this_ratio, C=C), loss)
    assert overtrained_from_fitted(fitted) == pytest.approx(values)


@given(st.floats(0.5, 1), st.floats(0.5, 5), st.floats(0.3, 2), st.floats(1, 5))
def test_error_in_loss_and_in_perplexity(epsilon, k, gamma, loss):
    values = {"epsilon": epsilon, "k": k, "gamma": gamma}
    error = float(ERROR.predict(values, L=loss))
    assert float(ERROR_PERPLEXITY.predict(values, PP=np.exp(loss))) == pytest.approx(error)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: ERROR.predict({"epsilon": 1.0}, L=2.0),
        lambda: ERROR.predict({"epsilon": 1.0, "k": 1.0, "gamma": 1.0}, C=2.0),
    ],
)
def test_what_has_no_answer_is_a_sentence(ask):
    with pytest.raises(ScalingError) as error:
        ask()
    assert error.value.args[0].endswith(".")
