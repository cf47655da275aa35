"""Trends: known curves get their class, slope and bend; chance gets none more often than stated."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from curves import drawn, trajectory
from ebbtide.metrics import METRICS
from ebbtide.metrics.direction import higher_is_better
from ebbtide.statistics.panel import Trajectory
from ebbtide.statistics.resampling import bootstrap
from ebbtide.statistics.shape import ability_of, classify, shape_of
from ebbtide.statistics.simultaneous import all_pairs, means_of, means_with
from ebbtide.statistics.trends.bend import bend_of
from ebbtide.statistics.trends.differences import difference_table
from ebbtide.statistics.trends.slopes import interval, p_of_line, p_of_mean, slope_weights
from ebbtide.statistics.trends.trends import metric_trends, trend_table
from simulate_trends import turned

T, N = 9, 1000
X = np.log10(2.0 ** np.arange(10, 10 + T))
CURVES = {
    "rising": np.linspace(0.3, 0.7, T),
    "falling": np.linspace(0.7, 0.3, T),
    "U-shaped": 0.3 + 0.4 * np.abs(np.linspace(-1, 1, T)),
    "inverted-U": 0.7 - 0.4 * np.abs(np.linspace(-1, 1, T)),
    "undecided": np.array([0.3, 0.6, 0.3, 0.6, 0.3, 0.6, 0.3, 0.6, 0.3]),
}


def table(*trajectories: Trajectory, flat: float = 0.05) -> pd.DataFrame:
    return trend_table(
        [one for t in trajectories for one in metric_trends(t, ["accuracy"], 0.05)], 0.05, flat
    )


@pytest.mark.parametrize("name", CURVES)
def test_a_clear_curve_gets_its_class(name: str) -> None:
    assert classify(drawn(CURVES[name])).name == name


def test_flat_needs_examples() -> None:
    level = np.full(T, 0.5)
    assert classify(drawn(level, 20_000)).name == "flat"
    few = classify(drawn(level, 200))
    assert few.name == "undecided" and "not excluded" in few.note and few.reach > 0.05
    same = np.tile((np.arange(40) % 2).astype(float), (T, 1))
    assert classify(same[:, :10]).name == "undecided"  # ten examples that never change prove little


def test_a_curve_that_rises_and_falls_in_turn_is_none_of_the_classes() -> None:
    assert classify(drawn(CURVES["undecided"])).note == "both a U and an inverted U are significant"


def test_a_trough_of_one_checkpoint_ends_a_fall_and_starts_a_rise() -> None:
    found = classify(drawn(np.array([0.6, 0.3, 0.6])))
    assert found.name == "U-shaped" and found.turn == (1, 1, 1)
    assert (found.fall.start, found.fall.end, found.rise.start, found.rise.end) == (0, 1, 1, 2)


def test_classes_of_means_with_errors_alone() -> None:
    def name_of(means: np.ndarray, error: np.ndarray) -> str:
        return shape_of(all_pairs(means_with(means, error, "")), 0.05, 0.05, 1).name

    error = np.full(T, 0.01)
    for name, means in CURVES.items():
        assert name_of(means, error) == name
    assert name_of(np.full(T, 0.5), error) == "flat"
    assert name_of(np.full(T, 0.5), 10 * error) == "undecided"
    # What all places share moves no difference.
    slight = CURVES["rising"] / 10
    assert name_of(slight, np.diag(error**2) + 4.0) == name_of(slight, np.diag(error**2))


def test_the_change_that_decided_is_named() -> None:
    found = classify(drawn(CURVES["falling"]))
    assert (found.fall.start, found.fall.end) == (0, T - 1)
    assert found.fall.size == pytest.approx(0.4, abs=0.05) and found.fall.p < 1e-6
    assert found.rise.p > 0.05


def test_more_curves_need_clearer_changes() -> None:
    values = drawn(np.linspace(0.5, 0.575, T), seed=3)
    p = classify(values).rise.p
    assert 1e-6 < p < 0.05
    assert classify(values).name == "rising"
    many = classify(values, curves=int(1 / p))
    assert many.name == "undecided" and many.rise.p == pytest.approx(min(1, p * int(1 / p)), rel=0.5)


def test_p_and_critical_value_agree() -> None:
    greatest = all_pairs(means_of(drawn(CURVES["rising"]), np.arange(N), "t")).greatest
    for alpha, curves in ((0.05, 1), (0.05, 7), (0.05, 1000), (0.001, 1)):
        critical = greatest.critical(alpha, curves)
        assert greatest.p(critical * 1.0001, curves) <= alpha < greatest.p(critical * 0.97, curves)


@pytest.mark.parametrize("checkpoints", [2, 8])
def test_flat_curves_change_by_chance_as_often_as_stated(checkpoints: int) -> None:
    runs = 200
    false = sum(
        bool(np.triu(np.abs(pairs.z) > pairs.greatest.critical(0.05), 1).any())
        for seed in range(runs)
        for pairs in [
            all_pairs(means_of(drawn(np.full(checkpoints, 0.5), 150, seed), np.arange(150), str(seed), 500))
        ]
    )
    assert binomtest(false, runs, 0.05).pvalue > 1e-3
    assert false > 0


def test_few_examples_prove_nothing() -> None:
    falls = np.array([[1.0] * 4, [0.0] * 4])
    assert classify(falls).name == "undecided"  # four signs agree with p = 1/8
    assert classify(np.array([[1.0] * 12, [0.0] * 12])).name == "falling"


def test_slope_is_the_mean_of_slopes_and_that_of_least_squares() -> None:
    values = drawn(CURVES["rising"], 300)
    means = values.mean(axis=1)
    assert (slope_weights(X) @ values).mean() == pytest.approx(np.polyfit(X, means, 1)[0])


def test_p_of_a_line_is_that_of_regression() -> None:
    from scipy.stats import linregress

    means = drawn(CURVES["rising"], 300).mean(axis=1)
    assert p_of_line(X, means) == pytest.approx(linregress(X, means).pvalue)
    assert np.isnan(p_of_line(X[:2], means[:2]))
    assert p_of_line(X, np.full(T, 0.5)) == 1.0


def test_p_of_a_mean_is_that_of_t_and_clusters_count_once() -> None:
    from scipy.stats import ttest_1samp

    values = np.random.default_rng(0).normal(0.2, 1, 60)
    assert p_of_mean(values, np.arange(60)) == pytest.approx(ttest_1samp(values, 0).pvalue)
    assert p_of_mean(np.repeat(values, 5), np.repeat(np.arange(60), 5)) == pytest.approx(
        ttest_1samp(values, 0).pvalue
    )
    assert p_of_mean(np.ones(3), np.arange(3)) == 0.25
    assert np.isnan(p_of_mean(np.ones(3), np.zeros(3, dtype=int)))


@pytest.mark.parametrize("n", [12, 300])
def test_intervals_of_slopes_cover(n: int) -> None:
    runs, truth = 200, float(slope_weights(X) @ CURVES["rising"])
    hits = 0
    for seed in range(runs):
        values = drawn(CURVES["rising"], n, seed)
        weights = slope_weights(X)
        resampled = bootstrap(values, np.arange(n), str(seed), 500) @ weights
        low, high = interval(resampled, float(weights @ values.mean(axis=1)), n, 0.05)
        hits += low <= truth <= high
    assert binomtest(hits, runs, 0.95).pvalue > 1e-3


def test_a_bend_is_found_where_it_is_and_not_in_a_line() -> None:
    n = 4000
    x = np.linspace(0, 2.4, 13)
    bent = drawn(0.6 - 0.25 * np.maximum(x - 1.2, 0), n)
    clusters = np.arange(n)
    found = bend_of(means_of(bent, clusters, "t"), bootstrap(bent, clusters, "t"), x, 0.05)
    assert found.p < 0.001 and found.low <= 1.2 <= found.high and found.high - found.low < 1
    assert found.change == pytest.approx(-0.25, abs=0.08)
    line = drawn(0.4 + 0.1 * x, n, 1)
    none = bend_of(means_of(line, clusters, "t"), bootstrap(line, clusters, "t"), x, 0.05)
    assert none.p > 0.05 and np.isnan([none.place, none.low, none.high]).all()


LOSSES = {
    "falling": ("falling", "improves"),
    "rising": ("rising", "worsens"),
    "U-shaped": ("U-shaped", "improves, then worsens"),
    "inverted-U": ("inverted-U", "worsens, then improves"),
}


@pytest.mark.parametrize("shape", LOSSES)
def test_all_columns_of_a_loss_describe_the_loss(shape: str) -> None:
    loss = np.random.default_rng(0).normal(CURVES[shape][:, None] * 3, 0.5, (T, N))
    [row] = table(trajectory(loss, metric="classification_loss")).to_dict("records")
    assert (row["class"], row["ability"]) == LOSSES[shape]
    first, last = loss.mean(axis=1)[[0, -1]]
    assert row["slope"] == pytest.approx(np.polyfit(X, loss.mean(axis=1), 1)[0])
    assert row["low"] < row["slope"] < row["high"]
    if shape == "falling":
        assert row["fall"] == pytest.approx(first - last) and row["p_fall"] < 1e-6 and row["high"] < 0
        assert (row["fall_from"], row["fall_to"], row["p_rise"]) == ("step1", "step256", 1.0)
    if shape == "U-shaped":  # down first
        assert row["fall_from"] == "step1" and row["rise_to"] == "step256" and row["turn"] == 1024 * 16


def test_a_loss_is_the_mirror_of_what_is_better() -> None:
    """The columns of a loss and of its negative differ in sign and direction, and in nothing else."""
    values = np.random.default_rng(1).normal(CURVES["falling"][:, None], 0.5, (T, N))
    [loss] = table(trajectory(values, metric="classification_loss")).to_dict("records")
    [gain] = table(trajectory(-values, metric="accuracy")).to_dict("records")
    assert (loss["ability"], gain["ability"]) == ("improves", "improves")
    assert (loss["class"], gain["class"]) == ("falling", "rising")
    for one, other in (("slope", "slope"), ("low", "high"), ("high", "low"), ("bend_change", "bend_change")):
        assert loss[one] == pytest.approx(-gain[other], nan_ok=True)
    for one, other in (("fall", "rise"), ("p_fall", "p_rise"), ("p", "p"), ("p_bend", "p_bend")):
        assert loss[one] == pytest.approx(gain[other])


def test_a_metric_without_a_better_direction_only_rises_and_falls() -> None:
    assert [ability_of("rising", name) for name in ("accuracy", "loss", "coverage", "acc_norm")] == [
        "improves",
        "worsens",
        "improves" if higher_is_better("coverage") else "rises",
        "improves",
    ]
    neither = next(name for name, metric in METRICS.items() if metric.higher_is_better is None)
    assert ability_of("U-shaped", neither) == "falls, then rises"
    assert ability_of("flat", neither) == "flat"


@pytest.mark.parametrize("rises", [True, False])
def test_a_turn_of_the_stated_depth_is_found(rises: bool) -> None:
    depth = np.nanmedian([turned(i, 400, 0.8, rises=rises)[1] for i in range(15)])
    assert 0.02 < depth < 0.2
    found = [turned(100 + i, 400, 0.8, rises=rises, depth=depth)[0] for i in range(60)]
    assert np.mean([name in ("U-shaped", "inverted-U") for name in found]) > 0.7
    half = [turned(200 + i, 400, 0.8, rises=rises, depth=depth / 2)[0] for i in range(60)]
    assert np.mean([name in ("U-shaped", "inverted-U") for name in half]) < 0.6


def test_a_class_says_how_deep_a_turn_it_would_have_missed() -> None:
    rows = table(
        trajectory(drawn(CURVES["rising"])), trajectory(drawn(CURVES["inverted-U"]), "turns", 70)
    ).to_dict("records")
    assert 0.02 < rows[0]["turn_detectable"] < 0.15
    assert f"a turn of up to {rows[0]['turn_detectable']:.2g} would not have been found" in rows[0]["note"]
    assert np.isnan(rows[1]["turn_detectable"]) and "a turn of up to" not in rows[1]["note"]
    two = table(trajectory(drawn(CURVES["rising"])[:2])).to_dict("records")[0]
    assert np.isnan(two["turn_detectable"])  # two checkpoints have no turn


def test_the_table_of_a_study() -> None:
    found = table(trajectory(drawn(CURVES["inverted-U"])), trajectory(drawn(CURVES["falling"]), "large", 70))
    assert found["class"].tolist() == ["inverted-U", "falling"]
    first, second = found.to_dict("records")
    assert first["turn"] == 1024 * 16 and first["turn_low"] <= first["turn"] <= first["turn_high"]
    assert first["p_bend"] < 0.001 and first["bend_low"] <= first["bend"] <= first["bend_high"]
    assert first["bend_change"] < 0 and first["n"] == N and first["checkpoints"] == T
    assert (second["fall_from"], second["fall_to"]) == ("step1", "step256")
    assert np.isnan(second["turn"]) and second["low"] < second["slope"] < second["high"] < 0
    assert second["p_adjusted"] >= second["p"]


def test_answers_that_never_change_have_no_slope() -> None:
    """The weights of a slope sum to 0 only up to rounding, which once gave p below 0.05."""
    same = np.tile((np.arange(40) % 2).astype(float), (3, 1))
    [row] = table(trajectory(same, tokens=100 * np.arange(1, 4))).to_dict("records")
    assert (row["slope"], row["low"], row["high"], row["p"]) == (0, 0, 0, 1)


def test_a_checkpoint_without_tokens_is_left_out_and_without_any_there_is_no_slope() -> None:
    values = drawn(CURVES["falling"])
    values[0] = 0.0  # untrained
    some = 1024 * 2 ** np.arange(T)
    some[0] = 0
    [row] = table(trajectory(values, tokens=some)).to_dict("records")
    assert row["class"] == "falling" and row["checkpoints"] == T - 1
    [row] = table(trajectory(values, tokens=np.zeros(T, dtype=int))).to_dict("records")
    assert row["class"] == "inverted-U" and np.isnan(row["slope"]) and "tokens are unknown" in row["note"]


@pytest.mark.parametrize("shape", [(1, 50), (2, 1), (2, 2), (3, 50), (1, 1)])
def test_little_to_go_by_is_said_in_words(shape: tuple[int, int]) -> None:
    [row] = table(trajectory(np.ones(shape))).to_dict("records")
    assert row["class"] == "undecided" and row["note"]


def test_no_trajectories_make_a_header() -> None:
    assert list(trend_table([]).columns)[:3] == ["model", "parameters_non_embedding", "task"]
    assert trend_table([]).empty and difference_table([]).empty


def test_large_against_small_on_the_same_examples() -> None:
    small, large = drawn(CURVES["rising"], seed=1), drawn(CURVES["falling"], seed=1)
    trends = [
        one
        for t in (trajectory(large, "large", 70), trajectory(small, "small", 7))
        for one in metric_trends(t, ["accuracy"], 0.05)
    ]
    [row] = difference_table(trends).to_dict("records")
    assert (row["smallest"], row["largest"]) == ("small", "large")
    assert row["difference"] == pytest.approx(row["slope_largest"] - row["slope_smallest"])
    assert row["low"] < row["difference"] < row["high"] < 0 and row["p"] < 1e-6
    other = next(iter(metric_trends(trajectory(small[:, :-1], "small", 7), ["accuracy"], 0.05)))
    [row] = difference_table([trends[0], other]).to_dict("records")
    assert "same examples" in row["note"] and np.isnan(row["p"])
