"""Fits of scaling laws: known parameters come back, bad input is one sentence, and verdicts warn."""

import runpy

import numpy as np
import pytest

from ebbtide.errors import ScalingError
from ebbtide.statistics.scaling_laws.fits import fit
from ebbtide.statistics.scaling_laws.identifiability import identifiability
from ebbtide.statistics.scaling_laws.laws import (
    COMPUTE,
    ERROR,
    OVERTRAINED,
    OVERTRAINED_FITTED,
    bounded_error,
)
from ebbtide.statistics.scaling_laws.predictions import predict_errors, predict_runs, relative_error, within
from ebbtide.statistics.scaling_laws.uncertainty import (
    leave_one_out,
    linear_intervals,
    profile_interval,
    residual_bootstrap,
)
from workspace import ROOT

TRUTH = {"E": 1.8, "a": 200.0, "b": 350.0, "eta": 0.135}
C, M = (grid.ravel() for grid in np.meshgrid(np.logspace(17, 21, 6), [5.0, 20.0, 80.0, 320.0]))
LOSS = OVERTRAINED.predict(TRUTH, C=C, M=M)


def noisy(sigma, seed=0):
    return LOSS + np.random.default_rng(seed).normal(0, sigma, len(LOSS))


@pytest.mark.parametrize("objective", ["least_squares", "robust"])
@pytest.mark.parametrize("bounded", [False, True])
def test_exact_data_give_the_truth_from_every_start(objective, bounded):
    found = fit(OVERTRAINED, LOSS, objective=objective, bounded=bounded, C=C, M=M)
    assert found.values == pytest.approx(TRUTH, rel=1e-3)
    assert found.agreeing > found.starts / 2
    assert found.df == 20


def test_starts_that_end_elsewhere_are_counted():
    # At eta = 30 the law is flat: no step from there leads anywhere.
    starts = [[0.0, 1e3, 1e3, 30.0], [1.8, 150.0, 350.0, 0.13]]
    found = fit(OVERTRAINED_FITTED, LOSS, N=np.sqrt(C / 6 / M), M=M, starts=starts)
    assert found.starts == 2
    assert found.agreeing == 1
    assert "1 of 2 starts" in found.agreement()


def test_one_outlier_moves_the_robust_fit_less():
    loss = noisy(0.002)
    loss[-1] *= 1.2
    plain = fit(OVERTRAINED, loss, C=C, M=M)
    robust = fit(OVERTRAINED, loss, objective="robust", C=C, M=M, starts=OVERTRAINED.starts()[::6])
    assert abs(robust.values["E"] - 1.8) < abs(plain.values["E"] - 1.8) / 5


def bad(index, value):
    changed = LOSS.copy()
    changed[index] = value
    return changed


@pytest.mark.parametrize(
    ("loss", "compute", "ratio", "words"),
    [
        (LOSS[:3], C[:3], M[:3], ["3 points for 4 parameters"]),
        (bad(2, np.nan), C, M, ["L is nan at point 3", "finite"]),
        (bad(2, -1.0), C, M, ["L is -1 at point 3", "above 0"]),
        (bad(2, 0.0), C, M, ["L is 0 at point 3"]),
        (LOSS[:6], C[:6], M[:6] * 0 + 20.0, ["every point has M = 20"]),
        (np.r_[LOSS, LOSS[0]], np.r_[C, C[0]], np.r_[M, M[0]], ["twice", "each run may count once"]),
        (LOSS[:-1], C, M, ["lengths differ"]),
        (LOSS, np.where(C > 1e20, np.inf, C), M, ["C is inf"]),
    ],
)
def test_bad_input_is_one_sentence(loss, compute, ratio, words):
    with pytest.raises(ScalingError) as error:
        fit(OVERTRAINED, loss, C=compute, M=ratio)
    assert all(word in error.value.args[0] for word in words)
    assert "\n" not in error.value.args[0]


def test_no_convergence_is_an_error(monkeypatch):
    monkeypatch.setattr("ebbtide.statistics.scaling_laws.fits._MAX_EVALUATIONS", 2)
    with pytest.raises(ScalingError, match="none of 36 starts converged on 24 points"):
        fit(OVERTRAINED, noisy(0.01), C=C, M=M)


def test_intervals_agree_where_the_law_is_nearly_linear():
    found = fit(OVERTRAINED, noisy(0.0005), C=C, M=M)
    for name, (low, high) in linear_intervals(found).items():
        assert profile_interval(found, name) == pytest.approx((low, high), rel=0.02)
    draws = residual_bootstrap(found, 100, seed=1)
    assert draws.std(axis=0) == pytest.approx(np.array(list(found.stderr.values())), rel=0.35)


def test_a_profile_that_oversteps_its_limit_comes_back():
    """The first step below a6 ends at its bound 0, far from any fit; the search must not go on from there."""
    N = np.array([10_670_000.0, 78_700_000.0, 153_600_000.0, 411_600_000.0, 10_670_000.0])
    ratio = np.array([20.0, 20.0, 20.0, 20.0, 320.0])
    law = {"E": 1.734, "a6": 125.1, "b": 246.2, "eta": 0.1272}
    for seed in range(8):
        noise = np.random.default_rng(seed).normal(0, 0.005, 5)
        found = fit(OVERTRAINED_FITTED, OVERTRAINED_FITTED.predict(law, N=N, M=ratio) + noise, N=N, M=ratio)
        for name, value in found.values.items():
            low, high = profile_interval(found, name)
            assert low < value < high, (seed, name)
            if low > 0:  # the limit itself: no fit with the parameter there is within it, one beside it is
                assert value - low > 0.5 * found.stderr[name], (seed, name)


def test_leaving_one_out_lists_every_point():
    table = leave_one_out(fit(OVERTRAINED, noisy(0.002), C=C, M=M))
    assert len(table) == len(LOSS)
    assert table["E"].between(1.5, 2.1).all()


def test_intervals_cover_and_verdicts_warn():
    """Small version of benchmarks/simulate_scaling.py."""
    simulate = runpy.run_path(str(ROOT / "benchmarks/simulate_scaling.py"))["simulate"]

    table = simulate(sigmas=[0.005], studies=50, seed=3).set_index("statistic")
    for statistic in ("linear eta", "profile E", "profile eta", "prediction of a new run"):
        assert table.loc[statistic, "coverage"] >= 0.86, statistic


def test_verdicts_warn_where_the_truth_is_lost():
    few = np.array([0, 7, 14, 21, 3])
    found = fit(OVERTRAINED, noisy(0.03)[few], C=C[few], M=M[few])
    verdicts = identifiability(found)
    assert verdicts["E"].verdict == "not identified"
    assert "5 points for 4 parameters leave 1 degree of freedom" in verdicts["E"].why

    exact = identifiability(fit(OVERTRAINED, noisy(0.0005), C=C, M=M))
    assert {v.verdict for v in exact.values()} == {"identified"}


def test_an_interpolation_is_called_one():
    four = np.array([0, 7, 14, 21])
    found = fit(OVERTRAINED, LOSS[four], C=C[four], M=M[four])
    assert found.df == 0
    assert all("passes through every point" in v.why for v in identifiability(found).values())
    assert np.isnan(predict_runs(found, C=1e22, M=20.0).low)


def test_a_pinned_parameter_is_called_pinned():
    x = np.logspace(17, 20, 12)
    loss = COMPUTE.predict({"E": 0.0, "lambda": 300.0, "eta": 0.1}, C=x) - 0.02 * np.linspace(0, 1, 12)
    found = fit(COMPUTE, loss, bounded=True, C=x)
    assert identifiability(found)["E"].verdict == "not identified"
    assert "pinned" in identifiability(found)["E"].why


@pytest.mark.parametrize("floor", [0.0, 0.1])
@pytest.mark.parametrize("epsilon", [0.5, None])
def test_a_sigmoid_comes_back_and_its_intervals_cover(floor, epsilon):
    """20 draws of 12 runs: 95 % intervals see 19 ± 2; a floor of 0 is pinned or the end of its interval."""
    truth = {"floor": floor, "epsilon": 0.5, "k": 4.0, "L0": 2.0}
    law, loss, beyond = bounded_error(epsilon), np.linspace(1.2, 3.2, 12), 1.05
    exact = fit(law, bounded_error().predict(truth, L=loss), bounded=True, L=loss)
    assert exact.values == pytest.approx({name: truth[name] for name in law.names}, abs=1e-4)
    generator, draws = np.random.default_rng(0), 20
    hits = dict.fromkeys((*law.names, "a new run"), 0)
    for _ in range(draws):
        noise = generator.normal(0, 0.01, len(loss) + 1)
        error = np.clip(bounded_error().predict(truth, L=np.r_[loss, beyond]) + noise, 0, 1)
        found = fit(law, error[:-1], bounded=True, L=loss)
        assert found.agreeing == found.starts
        for name, verdict in identifiability(found).items():
            pinned = name == "floor" and found.values["floor"] == 0
            hits[name] += (floor == 0) if pinned else verdict.low <= truth[name] <= verdict.high
        new = within(predict_runs(found, L=beyond), 0, 1)
        assert 0 <= new.low <= new.value <= new.high <= 1
        hits["a new run"] += new.low <= error[-1] <= new.high
    assert min(hits.values()) >= 16, hits


def test_an_error_passes_the_uncertainty_of_its_loss_on():
    law = {"epsilon": 0.86, "k": 2.2, "gamma": 0.71}
    generator = np.random.default_rng(0)
    error = ERROR.predict(law, L=LOSS) + generator.normal(0, 0.002, len(LOSS))
    sure = fit(OVERTRAINED, noisy(0.0005), C=C, M=M)
    unsure = fit(OVERTRAINED, noisy(0.02), C=C, M=M)
    law_fit = fit(ERROR, error, L=LOSS)
    widths = [
        np.diff([p.low, p.high])[0]
        for p in (predict_errors(f, law_fit, C=1e22, M=20.0) for f in (sure, unsure))
    ]
    assert widths[0] < widths[1]
    assert relative_error(1.1, 1.0) == pytest.approx(0.1)
