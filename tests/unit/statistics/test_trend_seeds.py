"""Seeds as replicates in trends: slopes of recipes, largest against smallest size, curves."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, t

from curves import drawn, trajectory
from ebbtide.statistics.panel import Trajectory
from ebbtide.statistics.replicates import UNNAMED, Place
from ebbtide.statistics.trends.differences import difference_table
from ebbtide.statistics.trends.notices import curve_notices
from ebbtide.statistics.trends.seed_curves import run_curves, seed_curve_table
from ebbtide.statistics.trends.seeds import COLUMNS, seed_table
from ebbtide.statistics.trends.trends import MetricTrend, metric_trends
from simulate_trends import seed_coverage

T, N = 5, 200
RISES = np.linspace(0.3, 0.7, T)
FALLS = RISES[::-1]


def run(model: str, means: np.ndarray = RISES, parameters: int = 7, seed: int = 0) -> Trajectory:
    return trajectory(drawn(means, N, seed), model, parameters)


def trends_of(*runs: Trajectory) -> list[MetricTrend]:
    return [one for of in runs for one in metric_trends(of, ["accuracy"], 0.05)]


def steeper(by: float) -> np.ndarray:
    return 0.5 + (RISES - 0.5) * by


def test_the_slope_of_a_recipe_is_the_mean_over_its_runs() -> None:
    runs = [run(f"m{i}", steeper(by), seed=i) for i, by in enumerate((0.4, 1.0, 1.5))]
    trends = trends_of(*runs, run("other"))
    [row] = seed_table(trends, dict.fromkeys(("m0", "m1", "m2"), "a 7")).to_dict("records")
    slopes = np.array([one.slopes.mean() for one in trends[:3]])
    error = slopes.std(ddof=1) / np.sqrt(3)
    assert (row["recipe"], row["runs"], row["models"], row["n"]) == ("a 7", 3, "m0, m1, m2", N)
    assert row["slope"] == pytest.approx(slopes.mean())
    assert row["sd_runs"] == pytest.approx(slopes.std(ddof=1))
    assert row["high_seeds"] - row["slope"] == pytest.approx(t.isf(0.025, 2) * error)
    assert row["low"] <= row["low_seeds"] < row["low_examples"] < row["slope"]
    assert row["sd_seeds"] ** 2 + row["sd_own_examples"] ** 2 == pytest.approx(row["sd_runs"] ** 2)
    assert row["note"] == ""


def test_runs_that_differ_by_their_answers_alone_have_no_noise_of_seeds() -> None:
    """Each of two halves of the examples has the other slope in the other run."""
    up, down = np.repeat([[0.0], [1.0]], 40, axis=1), np.repeat([[1.0], [0.0]], 40, axis=1)
    runs = [trajectory(np.hstack(halves), f"m{i}") for i, halves in enumerate(((up, down), (down, up)))]
    [row] = seed_table(trends_of(*runs), {"m0": "a", "m1": "a"}).to_dict("records")
    assert row["sd_own_examples"] > 0
    assert (row["slope"], row["sd_runs"], row["sd_seeds"]) == pytest.approx((0.0, 0.0, 0.0))
    assert row["p"] == 1.0


def test_the_p_of_a_recipe_is_the_level_at_which_its_interval_ends_at_zero() -> None:
    trends = trends_of(*(run(f"m{i}", steeper(by), seed=i) for i, by in enumerate((0.05, 0.3, 0.6))))
    recipes = {f"m{i}": "a" for i in range(3)}
    [row] = seed_table(trends, recipes).to_dict("records")
    assert 0.01 < row["p"] < 0.9
    [at_p] = seed_table(trends, recipes, row["p"]).to_dict("records")
    assert at_p["low"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("runs", "binary"), [(2, False), (9, True)])
def test_intervals_of_the_slope_of_a_recipe_cover(runs: int, binary: bool) -> None:
    draws = 150
    for row in seed_coverage(runs, 0.1, draws, binary=binary, n=100):
        hits = round(float(str(row["found"])) * draws)
        assert binomtest(hits, draws, 0.95, "less").pvalue > 1e-3, row
        assert hits < draws, row


def test_without_replicates_there_is_a_header_alone() -> None:
    table = seed_table(trends_of(run("m0")), {})
    assert tuple(table.columns) == COLUMNS and table.empty


def test_runs_that_cannot_be_joined_say_why() -> None:
    short = trajectory(drawn(RISES[:1], N), "short")
    recipes = dict.fromkeys(("m0", "m1", "short", "few"), "a")
    [row] = seed_table(trends_of(run("m0"), run("m1", seed=1), short), recipes).to_dict("records")
    assert (row["runs"], row["note"]) == (2, "short has no slope")
    [row] = seed_table(trends_of(run("m0"), short), recipes).to_dict("records")
    assert "fewer than two runs" in row["note"] and np.isnan(row["slope"])
    few = trajectory(drawn(RISES, N - 1), "few")
    [row] = seed_table(trends_of(run("m0"), few), recipes).to_dict("records")
    assert "same examples" in row["note"] and np.isnan(row["slope"])
    part = trajectory(drawn(RISES[1:], N), "few")
    [row] = seed_table(trends_of(run("m0"), part), recipes).to_dict("records")
    assert "different checkpoints" in row["note"] and row["slope"] > 0


# --- largest against smallest size -------------------------------------------------------------


def grid() -> tuple[list[MetricTrend], dict[str, Place]]:
    """Two arms of two sizes: arm a has three runs of each, arm b one; only size matters in a."""
    trends, places = [], {}
    for arm, seeds in (("a", 3), ("b", 1)):
        for size, by in ((7, 0.3), (70, 1.0)):
            for seed in range(seeds):
                name = f"{arm}{size}-{seed}"
                means = steeper(by) if arm == "a" else steeper(-by)
                trends += trends_of(run(name, means, size, seed))
                places[name] = Place(name, arm, str(size), size)
    return trends, places


def test_the_largest_size_is_compared_with_the_smallest_within_an_arm() -> None:
    trends, places = grid()
    rows = {row["arm"]: row for row in difference_table(trends, 0.05, places).to_dict("records")}
    assert set(rows) == {"a", "b"}
    a, b = rows["a"], rows["b"]
    assert (a["smallest"], a["largest"], a["runs_smallest"], a["runs_largest"]) == ("a 7", "a 70", 3, 3)
    means = [np.mean([o.slopes.mean() for o in trends if o.model.startswith(s)]) for s in ("a7-", "a70-")]
    assert (a["slope_smallest"], a["slope_largest"]) == pytest.approx(tuple(means))
    assert a["difference"] == pytest.approx(means[1] - means[0])
    assert 0 < a["low"] < a["high"] and a["source_of_noise"] == "examples, checkpoints, seeds"
    assert (b["smallest"], b["largest"], b["source_of_noise"]) == ("b7-0", "b70-0", "")
    assert b["high"] < 0


def test_the_error_of_a_difference_includes_seeds() -> None:
    """Runs of one size that go apart leave no difference, however many examples there are."""
    means = {"s-0": 0.3, "s-1": 0.3, "l-0": 0.2, "l-1": 1.4}
    runs = [run(name, steeper(by), 7 if name[0] == "s" else 70) for name, by in means.items()]
    places = {m.model: Place(m.model, "a", m.model[0], m.parameters["total"]) for m in runs}
    [row] = difference_table(trends_of(*runs), 0.05, places).to_dict("records")
    assert row["low"] < 0 < row["difference"] and row["p"] > 0.1
    [alone] = difference_table(trends_of(runs[0], runs[3])).to_dict("records")
    assert alone["p"] < 1e-6


def test_a_size_with_one_run_says_that_its_seeds_are_unknown() -> None:
    trends, places = grid()
    some = [one for one in trends if one.model not in {"a70-1", "a70-2"}]
    left = {name: place for name, place in places.items() if name not in {"a70-1", "a70-2"}}
    row = difference_table(some, 0.05, left).to_dict("records")[0]
    assert (row["smallest"], row["largest"], row["runs_largest"]) == ("a 7", "a70-0", 1)
    assert "not" in row["source_of_noise"] and "seeds of a70-0" in row["source_of_noise"]


def test_models_of_one_size_by_name_are_one_size() -> None:
    """Two seeds with slightly different numbers of parameters are no two sizes to compare."""
    exact = {"a-0": 160, "a-1": 165, "s-0": 7, "s-1": 8, "other": 166}
    runs = [run(name, RISES, size, seed) for seed, (name, size) in enumerate(exact.items())]
    places = {name: Place(name, UNNAMED, name[0], 7 if name[0] == "s" else 160) for name in exact}
    places["other"] = Place("other", "other", "a", 160, alone=True)
    [row] = difference_table(trends_of(*runs), 0.05, places).to_dict("records")
    assert (row["smallest"], row["largest"], row["runs_smallest"], row["runs_largest"]) == ("s", "a", 2, 2)
    assert difference_table(trends_of(*runs[:2]), 0.05, places).empty


def test_without_arms_and_replicates_new_columns_are_empty() -> None:
    trends = trends_of(run("large", RISES, 70), run("small", FALLS, 7))
    places = {name: Place(name, name, "s", 7, alone=True) for name in ("large", "small")}
    for table in (difference_table(trends), difference_table(trends, 0.05, places)):
        [row] = table.to_dict("records")
        assert (row["smallest"], row["largest"], row["arm"]) == ("small", "large", "")
        assert table[["runs_smallest", "runs_largest"]].isna().all(axis=None)
        assert row["p"] < 1e-6


# --- curves ------------------------------------------------------------------------------------


def curves(*runs: Trajectory, tolerance: float = 0.0) -> pd.DataFrame:
    recipes = {one.model: "a" for one in runs}
    found = [curve for one in runs for curve in run_curves(one, recipes, ["accuracy"])]
    return seed_curve_table(found, recipes, tolerance=tolerance)


def test_the_curve_of_a_recipe_is_the_mean_at_common_tokens() -> None:
    runs = [run(f"m{i}", seed=i) for i in range(3)]
    later = trajectory(runs[2].values["accuracy"][1:], "m2", tokens=1024 * 2 ** np.arange(1, T))
    table = curves(*runs[:2], later)
    assert table["tokens"].tolist() == [1024 * 2**i for i in range(1, T)]
    means = np.stack([one.values["accuracy"].mean(axis=1)[1:] for one in runs])
    assert table["value"].to_numpy() == pytest.approx(means.mean(axis=0))
    assert table["sd_runs"].to_numpy() == pytest.approx(means.std(axis=0, ddof=1))
    reach = t.isf(0.025, 2) * table["sd_runs"] / np.sqrt(3)
    assert (table["high_seeds"] - table["value"]).to_numpy() == pytest.approx(reach.to_numpy())
    of_mean = np.mean([one.values["accuracy"][1:] for one in runs], axis=0).std(axis=1, ddof=1) / np.sqrt(N)
    half = (table["high_examples"] - table["low_examples"]) / 2
    assert half.to_numpy() == pytest.approx(t.isf(0.025, N - 1) * of_mean)
    assert (table["high"] >= table["high_seeds"]).all()


def test_runs_without_a_common_curve_say_why() -> None:
    [row] = curves(run("m0"), trajectory(drawn(RISES, N - 1), "m1")).to_dict("records")
    assert np.isnan(row["tokens"]) and np.isnan(row["value"]) and row["models"] == "m0, m1"
    assert row["note"] == "the runs were not scored on the same examples"
    off = trajectory(drawn(RISES, N, 1), "m1", tokens=1024 * 2 ** np.arange(T) + 1)
    apart = curves(run("m0"), off)
    assert apart["note"].tolist() == ["the runs have no checkpoint at the same training tokens"]
    [notice] = curve_notices(apart)
    assert "The 2 runs of a have no common curve on" in notice.detail and notice.detail.endswith("tokens.")
    near = curves(run("m0"), off, tolerance=0.001)
    assert near["tokens"].tolist() == [1024 * 2**i for i in range(T)] and (near["note"] == "").all()
    assert not list(curve_notices(near))
    assert curves(run("m0"))["note"].tolist() == ["only m0 has examples with this metric"]
