"""What a benchmark can tell: known noise is found, verdicts and proxies follow it, and gaps have a reason."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from curves import trajectory
from ebbtide.errors import FigureError
from ebbtide.figures.resolution import plot_resolution
from ebbtide.metrics.direction import with_properties
from ebbtide.statistics.panel import Trajectory
from ebbtide.statistics.replicates import Place, places_of, with_sizes
from ebbtide.statistics.resolution.decisions import decisions, rank_interval, share_interval, wilson
from ebbtide.statistics.resolution.noise import noise_of
from ebbtide.statistics.resolution.notices import notices
from ebbtide.statistics.resolution.proxies import COLUMNS as PROXIES
from ebbtide.statistics.resolution.signal import SIZES, published_ratio, signal_of
from ebbtide.statistics.resolution.tables import resolution_tables, tables_of
from ebbtide.statistics.resolution.windows import Settings, around_line, windows_of
from ebbtide.study.arms import UNKNOWN, Run
from metrics_tables import table
from simulate_resolution import World, coverage, judged, made_up

LOOK = Settings(5, ["accuracy"], 0.05)
Tables = tuple[pd.DataFrame, pd.DataFrame]


def study(*models: tuple[Trajectory, Place], look: Settings = LOOK, chance: float = 0.5) -> Tables:
    runs = [r for one, place in models for r in windows_of(one, place, look, {("t", "accuracy"): chance})]
    return tables_of(runs, look)


def lone(place: str = "m", size: int = 1, arm: str = "") -> Place:
    return Place(place, arm or place, f"{size}M", size)


def answers(mean: float, seed: int, places: int = 8, n: int = 400, slope: float = 0.0) -> np.ndarray:
    """Answers (places, n) of examples that keep their difficulty, at a mean that rises to `mean`."""
    rng = np.random.default_rng(seed)
    hard = np.random.default_rng(0).random(n)
    level = mean + slope * (np.arange(places) - places + 1)
    noise = 0.2 * rng.standard_normal((places, n))
    return (hard + noise < level[:, None]).astype(float)


def test_noise_around_a_line_ignores_the_trend() -> None:
    x, line = np.arange(10.0, 15.0), np.log(np.arange(10.0, 15.0))
    scatter = np.array([1.0, -2.0, 0.0, 2.0, -1.0])
    assert around_line(x, 3 + 7 * line) == pytest.approx(0, abs=1e-12)
    found, moved = around_line(x, np.stack([scatter, scatter + 5 * line]))
    assert found == pytest.approx(moved)


def test_the_parts_of_a_difference_add_up() -> None:
    runs = [windows_of(one, lone(one.model), LOOK, {})[0] for one in made_up(World(n=300, wiggle=0.02), 0)]
    noise = noise_of(runs)
    assert noise is not None
    ends = np.stack([run.deviations[:, -1] for run in runs])
    pairs = [(ends[a] - ends[b]).var() for a, b in ((0, 1), (0, 2), (1, 2))]
    # examples_1 averages the checkpoints of the window, of which the last is one
    assert noise.examples_1.value == pytest.approx(np.mean(pairs), rel=0.15)
    assert noise.variance().value == pytest.approx(noise.examples_1.value + 2 * noise.shared.value**2)
    assert noise.variance(averaged=True).value == pytest.approx(
        noise.examples_w.value + 2 * noise.shared.value**2 / 5
    )
    assert noise.detectable(0.05).value == pytest.approx(2.8016 * np.sqrt(noise.variance().value), rel=1e-4)
    halved = noise.examples_to_halve(300).value
    if np.isfinite(halved):
        more = noise.examples_1.value * 300 / halved + noise.fixed().value
        assert more == pytest.approx(noise.variance().value / 4)


def test_without_wiggle_four_times_the_examples_halve_the_detectable_difference() -> None:
    still = World(wiggle=0.0, persistence=0.0)
    halving = [judged(still, draw)[0]["examples_to_halve"].iloc[0] for draw in range(5)]
    assert np.median(halving) == pytest.approx(4 * 500, rel=0.1)  # infinite if a wiggle is seen by chance
    few, _ = judged(World(n=5000, wiggle=0.03), 1)
    assert np.isinf(few["examples_to_halve"].iloc[0])


def test_intervals_cover_the_truth() -> None:
    worlds = {"seeds": World(n=200, arms=2, seeds=3, seed=0.02), "arms": World(n=200)}
    found = {(row["setting"], row["what"]): row["found"] for row in coverage(20, worlds)}
    assert len(found) == 17
    assert min(found.values()) >= 0.75  # of 20 draws; at 0.95, less has a probability below 0.0004


def test_verdicts_follow_the_signal() -> None:
    clear = World(spread=0.4, wiggle=0.005)
    assert judged(clear, 0)[0]["verdict"].iloc[0] == "use"
    averaged = World(spread=0.12, wiggle=0.03, last=12, n=2000)
    row = judged(averaged, 0)[0].iloc[0]
    assert row["verdict"] == "use averaged over 12"
    assert "two single checkpoints show differences from" in row["reason"]
    nothing = [judged(World(spread=0.0, n=200), draw)[0]["verdict"].iloc[0] for draw in range(20)]
    assert nothing == ["cannot tell"] * 20


def test_seeds_are_noise_and_not_signal() -> None:
    """Three seeds of one arm differ by 0.1, and are no signal; the same as three arms are one."""
    made = made_up(World(n=400, spread=0.2, wiggle=0.005), 0)
    seeds, _ = study(*((one, lone(one.model, arm="a")) for one in made))
    arms, _ = study(*((one, lone(one.model)) for one in made))
    assert seeds["signal"].isna().all() and arms["signal"].iloc[0] == pytest.approx(0.2, abs=0.07)
    assert seeds["noise_of"].iloc[0] == "examples, checkpoints, seeds"
    assert seeds["sd_runs"].iloc[0] == pytest.approx(0.1, abs=0.05)
    assert seeds["mde_averaged"].iloc[0] > 2 * arms["mde_averaged"].iloc[0]
    assert "no sd_runs: no two models differ only by seed" in arms["note"].iloc[0]
    assert seeds["reason"].iloc[0].startswith("one arm, so there is no spread")
    assert "no signal: one arm" in seeds["note"].iloc[0]


def test_sd_runs_contains_examples_and_checkpoints_and_the_rest_are_seeds() -> None:
    made = made_up(World(n=400, spread=0.2, wiggle=0.005), 0)
    runs = [windows_of(one, lone(one.model, arm="a"), LOOK, {})[0] for one in made]
    noise = noise_of(runs)
    assert noise is not None and noise.runs is not None
    assert noise.runs.value == pytest.approx(np.std([run.mean for run in runs], ddof=1))
    rest = (noise.examples_w.value + 2 * noise.shared.value**2 / 5) / 2
    assert noise.seed_part.value**2 == pytest.approx(noise.runs.value**2 - rest)


def test_models_of_unknown_size_are_no_replicates() -> None:
    made = made_up(World(n=400, spread=0.2, wiggle=0.005), 0)
    rows, proxies = study(*((one, Place(one.model, "a", UNKNOWN, 0)) for one in made))
    row = rows.iloc[0]
    assert np.isnan(row["sd_runs"]) and row["noise_of"] == "examples, checkpoints"
    assert "no sd_runs: models of unknown size may differ by more than a seed" in row["note"]
    [said] = [n.detail for n in notices(rows, proxies) if "the noise of seeds" in n.detail]
    assert said.endswith(
        "leave out the noise of seeds: models of unknown size may differ by more than a seed."
    )


def test_the_published_ratio_counts_differences_between_runs_as_noise() -> None:
    made = made_up(World(n=2000, spread=0.4, wiggle=0.0), 0)
    row = study(*((one, lone(one.model)) for one in made))[0].iloc[0]
    ends = np.stack([one.values["accuracy"].mean(axis=1)[-5:] for one in made])
    published = (np.ptp(ends.mean(axis=1)) / ends.mean()) / (ends.std() / ends.mean())
    assert row["snr_published"] == pytest.approx(published)
    assert published < np.sqrt(2 * 3) < row["snr_within"]


def test_one_run_has_noise_but_nothing_to_compare() -> None:
    rows, proxies = study((trajectory(answers(0.7, 1)), lone()))
    row = rows.iloc[0]
    assert row["verdict"] == "cannot tell" and row["reason"].startswith("one model, so there is no spread")
    assert row["mde_single"] > row["mde_averaged"] > 0
    assert "no signal: one model" in row["note"] and "upper bounds" in row["note"]
    assert proxies.empty


def test_two_checkpoints_have_no_noise_and_the_row_says_why() -> None:
    one = trajectory(answers(0.7, 1, places=2))
    rows, proxies = study((with_proxy(one, margin=answers(0.7, 2, places=2)), lone()))
    row = rows.iloc[0]
    assert np.isnan(row["step_noise"]) and np.isnan(row["mde_single"])
    assert "fewer than three trained checkpoints" in row["note"]
    assert proxies["note"].str.contains("no lead: fewer than three trained checkpoints").all()
    [short] = [n for n in notices(rows, pd.DataFrame(columns=list(PROXIES))) if "no noise" in n.detail]
    assert short.kind == "not_compared" and "t" in short.detail


@pytest.mark.parametrize("places", [1, 2])
@pytest.mark.parametrize("size", [1, 2])
def test_a_run_of_one_or_two_checkpoints_is_compared_with_the_noise_of_others(places: int, size: int) -> None:
    """Such as a released model beside a run of one's own."""
    own = [(trajectory(answers(0.6, i), f"m{i}"), lone(f"m{i}")) for i in range(2)]
    last = trajectory(answers(0.6, 5), "other")
    tokens = last.checkpoints["tokens"].to_numpy()[-places:]
    short = trajectory(answers(0.6, 5)[-places:], "other", tokens=tokens)
    rows, proxies = study(*own, (short, lone("other", size)))
    row = rows.iloc[0]
    assert row["step_noise"] == pytest.approx(study(*own)[0]["step_noise"].iloc[0])
    assert row["signal"] >= 0 and row["checkpoints"] == 5
    if size == 1:
        assert "1 of 3 models have fewer than 5 trained checkpoints" in row["note"]
        whole = study(*own, (last, lone("other")))[0].iloc[0]
        assert row["signal_high"] > whole["signal_high"]  # the mean of fewer checkpoints is less certain
        assert "fewer than 5" not in whole["note"]
    else:
        [missing] = [n.detail for n in notices(rows, proxies) if "no noise" in n.detail]
        assert missing == "Resolution has no noise for t: no run of size 2M has three trained checkpoints."


def test_without_arms_the_sizes_are_compared() -> None:
    models = [
        (trajectory(answers(mean, i), f"m{i}"), lone(f"m{i}", 10**i))
        for i, mean in enumerate([0.5, 0.6, 0.95])
    ]
    rows, _ = study(*models)
    assert list(rows["size"]) == ["1M", "10M", "100M"] and set(rows["signal_of"]) == {SIZES}
    assert set(rows["verdict"]) == {"use"} and rows["reason"].str.contains("the 3 sizes lie up to").all()
    one_arm, _ = study(*((one, replace(place, arm="a")) for one, place in models))
    assert set(one_arm["verdict"]) == {"use"}  # sizes of an arm differ by more than seed
    assert rows["note"].str.contains("no decision_accuracy").all()
    assert rows["decision_accuracy"].isna().all()


def test_decisions_at_a_small_size_are_compared_with_those_at_the_largest() -> None:
    means = {"a": (0.3, 0.4), "b": (0.5, 0.6), "c": (0.7, 0.5)}  # b and c change places
    models = [
        (trajectory(answers(mean, i), f"{arm}{i}"), lone(f"{arm}{i}", 10**i, arm))
        for arm, of in means.items()
        for i, mean in enumerate(of)
    ]
    rows, _ = study(*models)
    small, large = rows.set_index("size").loc["1M"], rows.set_index("size").loc["10M"]
    assert small["decision_accuracy"] == pytest.approx(2 / 3) and small["decision_pairs"] == 3
    assert np.isnan(large["decision_accuracy"]) and "this is the largest size" in large["note"]


def test_ties_count_half() -> None:
    found = decisions({"a": 1.0, "b": 1.0, "c": 2.0}, {"a": 1.0, "b": 2.0, "c": 3.0, "d": 0.0}, 0.05)
    assert found is not None and (found.pairs, found.ties) == (3, 1)
    assert found.accuracy.value == pytest.approx(2.5 / 3)
    assert decisions({"a": 1.0}, {"a": 1.0}, 0.05) is None


def test_intervals_of_shares_and_correlations() -> None:
    from scipy.stats import binomtest

    exact = binomtest(8, 10).proportion_ci(method="wilson")
    assert wilson(0.8, 10, 0.05)[1:] == pytest.approx((exact.low, exact.high))
    assert share_interval(1.0, 4, 0.05) == wilson(1.0, 2, 0.05)
    assert share_interval(0.9, 30, 0.05).low > share_interval(0.9, 10, 0.05).low > 0.5
    assert np.isnan(rank_interval(0.9, [3], 0.05).low)
    perfect = rank_interval(1.0, [6], 0.05)
    assert 0.5 < perfect.low < 0.8 and perfect.high < 1


def with_proxy(one: Trajectory, **more: np.ndarray) -> Trajectory:
    return replace(one, values={**one.values, **more})


def planted(sign: int, runs: int = 8) -> Tables:
    """Runs of one size, and a bits per byte that falls (1) or rises (-1) with accuracy, with less noise."""
    models = []
    for i in range(runs):
        mean = 0.4 + 0.04 * i
        one = trajectory(answers(mean, i, slope=0.01), f"m{i}")
        rng = np.random.default_rng(100 + i)
        level = mean + 0.01 * np.arange(-7, 1)
        bits = 3 - 2 * sign * level[:, None] + 0.1 * rng.standard_normal((8, 400))
        models.append((with_proxy(one, bits_per_byte=bits), lone(f"m{i}")))
    return study(*models)


def test_bits_per_byte_that_follow_accuracy_are_supported() -> None:
    _, proxies = planted(1)
    row = proxies.iloc[0]
    assert (row["proxy"], row["verdict"]) == ("bits_per_byte", "supported")
    assert row["rank_correlation"] > 0.9 and row["rank_correlation_low"] > 0.5
    assert row["signal_to_noise"] > row["target_signal_to_noise"]
    assert row["reason"].startswith("interval 0.")


def test_bits_per_byte_that_run_against_accuracy_are_flagged() -> None:
    rows, proxies = planted(-1)
    row = proxies.iloc[0]
    assert row["verdict"] == "runs against" and row["rank_correlation_high"] < 0
    [notice] = [n for n in notices(rows, proxies) if n.kind == "suspicious"]
    assert notice.detail == "bits_per_byte runs against accuracy on t (proxies.tsv)."


def test_a_proxy_that_runs_against_the_target_over_training_is_flagged_with_few_runs() -> None:
    rising = trajectory(answers(0.9, 1, slope=0.08))
    losses = np.tile(np.linspace(1, 3, 8)[:, None], (1, 400)) + 0.1 * answers(0.5, 3)
    _, proxies = study((with_proxy(rising, bits_per_byte=losses), lone()))
    row = proxies.iloc[0]
    assert row["verdict"] == "runs against" and row["correlation_over_training_high"] < 0
    assert "a rank correlation needs 4" in row["reason"]


def test_an_unrelated_metric_is_not_supported_and_the_interval_says_so() -> None:
    rng = np.random.default_rng(0)
    models = [
        (
            with_proxy(
                trajectory(answers(0.4 + 0.04 * i, i), f"m{i}"),
                bits_per_byte=rng.normal() + 0.1 * rng.standard_normal((8, 400)),
            ),
            lone(f"m{i}"),
        )
        for i in range(8)
    ]
    row = study(*models)[1].iloc[0]
    assert row["verdict"] == "not supported" and row["reason"].startswith("interval -")


def test_shared_noise_of_examples_is_no_agreement() -> None:
    """Without differences between runs, margin and accuracy agree only by the noise that both share."""
    world = World(arms=12, n=200, spread=0.0, wiggle=0.0, persistence=0.9)
    found = [judged(world, draw, ("accuracy", "margin"))[1].iloc[0] for draw in range(6)]
    assert sum(row["verdict"] == "supported" for row in found) == 0
    same = [_same_examples(world, draw) for draw in range(6)]
    assert np.mean(same) > np.mean([row["rank_correlation"] for row in found]) + 0.3


def _same_examples(world: World, draw: int) -> float:
    ends = [[v[-5:].mean() for v in one.values.values()] for one in made_up(world, draw)]
    return float(pd.DataFrame(ends).corr("spearman").iloc[0, 1])


def test_a_supported_proxy_is_named_where_the_target_is_at_chance() -> None:
    """Small runs are at chance, whatever their arm; their bits per byte order arms as large accuracies do."""
    models = []
    for i in range(8):
        for size, mean in ((1, 0.5), (10, 0.5 + 0.04 * i)):
            name = f"m{i}-{size}"
            bits = 3 - 0.1 * i + 0.1 * np.random.default_rng(i).standard_normal((8, 400))
            one = with_proxy(trajectory(answers(mean, i), name), bits_per_byte=bits)
            models.append((one, lone(name, size, f"arm{i}")))
    rows, proxies = study(*models)
    verdicts = dict(zip(rows["size"], rows["verdict"], strict=True))
    assert verdicts == {"1M": "watch by proxy bits_per_byte", "10M": "use"}
    row = proxies.iloc[0]
    assert (row["verdict"], row["over"], row["runs"]) == ("supported", "runs of size 10M", 8)
    assert row["decision_accuracy"] > 0.9 and row["decision_pairs"] == 28
    assert rows["reason"].iloc[0].endswith("bits_per_byte tells them apart, and orders those of 10M alike")


def test_the_lead_of_a_signal_that_moves_first_is_found() -> None:
    tokens = 1000 * 2 ** np.arange(8)
    late = 0.3 + 0.5 / (1 + np.exp(-3 * (np.arange(8) - 5.0)))
    early = 0.3 + 0.5 / (1 + np.exp(-3 * (np.arange(8) - 3.0)))
    rng = np.random.default_rng(0)
    hard = rng.random(1000)
    values = (hard < late[:, None]).astype(float)
    proxy = 3 - early[:, None] + 0.1 * rng.standard_normal((8, 1000))
    row = study((with_proxy(trajectory(values, tokens=tokens), bits_per_byte=proxy), lone()))[1].iloc[0]
    assert row["lead"] == pytest.approx(2 * np.log10(2), abs=0.05)
    assert row["lead_low"] <= row["lead"] <= row["lead_high"]


def test_tokens_above_chance_hold_to_the_end() -> None:
    rise = np.concatenate([answers(0.5, 1, places=4), answers(0.8, 2, places=4)])
    row = study((trajectory(rise), lone()))[0].iloc[0]
    assert row["tokens_above_chance"] == 1024 * 2**4
    never = study((trajectory(answers(0.5, 1)), lone()))[0].iloc[0]
    assert np.isinf(never["tokens_above_chance"])
    steps = study((trajectory(rise, tokens=np.zeros(8)), lone()))[0].iloc[0]
    assert np.isnan(steps["tokens_above_chance"]) and "training tokens are unknown" in steps["note"]
    assert steps["step_noise"] == pytest.approx(row["step_noise"])


def test_places_of_models_with_and_without_arms() -> None:
    runs = [Run("a1", "a", 1, 70_000_000), Run("a2", "a", 2, 70_000_000), Run("c"), Run("s1", seed=1)]
    places = places_of(runs, {})
    assert (places["a1"].arm, places["a1"].size) == ("a", "70M") == (places["a2"].arm, places["a2"].size)
    assert [places[model].seed for model in ("a1", "a2", "c", "s1")] == [1, 2, None, 1]
    assert places["c"].arm == "c" and places["s1"].arm == "(no arm)"
    named = places_of(runs, {"x": ["a1"], "y": ["a2", "c"]})
    assert [named[model].arm for model in ("a1", "a2", "c")] == ["x", "y", "y"]


def test_models_of_one_size_and_seed_are_no_replicates() -> None:
    """Two ladders that differ by their mixture have the same seed, if nobody changed it."""
    same = places_of([Run("one", seed=0, parameters=9), Run("other", seed=0, parameters=9)], {})
    assert {place.arm for place in same.values()} == {"one", "other"}
    trained = [Run(name, seed=seed, parameters=9, recipe=name) for seed, name in enumerate("ab")]
    assert {place.arm for place in places_of(trained, {}).values()} == {"a", "b"}  # other mixtures
    sizes = places_of([Run("small", seed=0, parameters=9), Run("large", seed=0, parameters=99)], {})
    assert {place.arm for place in sizes.values()} == {"(no arm)"}


def test_sizes_that_only_cells_know_are_sizes() -> None:
    """A row of a hub model without `nominal` has no size before the model is scored."""
    sizes, tokens = np.repeat([10, 20], 6), np.tile(np.arange(20, 26), 2)
    values = 0.3 + 0.02 * sizes / 2 + 0.005 * np.random.default_rng(0).standard_normal(12)
    metrics = table("t", values, sizes, tokens).assign(stderr=0.01, n=500, chance=0.25, parameters_nominal=0)
    runs = [Run("m10", "a"), Run("m20", "a")]
    rows, _ = resolution_tables([], metrics, places_of(with_sizes(runs, metrics), {}), LOOK)
    assert list(rows["size"]) == ["10", "20"] and set(rows["signal_of"]) == {SIZES}
    unknown = metrics.assign(parameters_total=0, parameters_non_embedding=0)
    rows, proxies = resolution_tables([], unknown, places_of(with_sizes([], unknown), {}), LOOK)
    assert list(rows["size"]) == ["unknown size"] and "their sizes are unknown" in rows["reason"].iloc[0]
    assert any("sizes of some models are unknown" in notice.detail for notice in notices(rows, proxies))


def test_means_without_examples_have_noise_and_upper_bounds() -> None:
    rng = np.random.default_rng(0)
    sizes = np.repeat([10, 20, 30], 6)
    tokens = np.tile(np.arange(20, 26), 3)
    values = 0.3 + 0.02 * sizes / 2 + 0.005 * rng.standard_normal(18)
    metrics = table("t", values, sizes, tokens).assign(
        stderr=0.01, n=500, chance=0.25, parameters_nominal=0, parameters_active=0
    )
    places = places_of(with_sizes([], metrics), {})
    rows, proxies = resolution_tables([], metrics, places, LOOK)
    assert len(rows) == 3 and proxies.empty
    assert rows["step_noise"].between(0.001, 0.02).all() and rows["signal"].iloc[0] == pytest.approx(
        0.2, abs=0.02
    )
    assert rows["note"].str.contains("only means are known").all()
    both, _ = study((trajectory(answers(0.7, 1)), lone()), (trajectory(answers(0.7, 1, n=9), "b"), lone("b")))
    assert "the models have different examples" in both["note"].iloc[0]
    assert rows["examples_to_halve"].isna().all()
    rounded = metrics.assign(stderr=np.nan, n=0, value=values.round(1))
    equal, _ = resolution_tables([], rounded, places, LOOK)
    assert set(equal["verdict"]) == {"cannot tell"} and equal["signal"].iloc[0] > 0
    assert equal["reason"].str.startswith("the last checkpoints do not differ, and").all()
    both = pd.concat([metrics, metrics.assign(metric="margin")])
    assert resolution_tables([], both, places, LOOK)[1]["note"].str.contains("counts as agreement").all()
    unknown, _ = resolution_tables([], metrics.assign(stderr=np.nan, n=0), places, LOOK)
    assert set(unknown["noise_of"]) == {"checkpoints"} and set(rows["noise_of"]) == {"examples, checkpoints"}
    assert unknown["reason"].str.contains("the noise of examples is unknown").all()
    assert (unknown["mde_single"] < rows["mde_single"]).all()


def test_the_figure_shows_every_ratio_and_refuses_none() -> None:
    rows, _ = planted(1)
    drawn = plot_resolution(with_properties(rows)).data
    assert drawn["middle"].tolist() == pytest.approx(rows["snr_within"].tolist())
    alone, _ = study((trajectory(answers(0.7, 1)), lone()))
    with pytest.raises(FigureError, match="one model, and nothing to compare"):
        plot_resolution(with_properties(alone))


def test_signal_of_equal_runs_reaches_zero() -> None:
    made = [windows_of(one, lone(one.model), LOOK, {})[0] for one in made_up(World(spread=0.0), 3)]
    noise = noise_of(made)
    assert noise is not None
    signal = signal_of("arms", [[run] for run in made], noise)
    assert np.quantile(signal.spread.drawn, 0.025) == 0
    level = made[0].values.mean()
    equal = [replace(run, values=run.values - run.mean + level) for run in made[:2]]
    reach = np.quantile(signal_of("arms", [[run] for run in equal], noise).spread.drawn, 0.975)
    error = np.sqrt(noise.variance(averaged=True).value)
    assert reach == pytest.approx(1.96 * error, rel=0.25)  # equal by chance is not equal for sure
    assert published_ratio(signal, made, noise).value < np.sqrt(2 * 3)


def test_tasks_that_cannot_be_resampled_or_judged_are_not_silently_absent() -> None:
    """One example has a mean without an error; log odds have no better end."""
    tokens = np.arange(20, 26)
    values = 0.5 + 0.1 * np.random.default_rng(0).random(6)
    alone = table("t", values, np.full(6, 7), tokens)
    odds = table("odds", values, np.full(6, 7), tokens, metric="log_odds")
    metrics = pd.concat([alone, odds]).assign(stderr=np.nan, n=1, chance=np.nan, parameters_nominal=0)
    one = trajectory(values[:, None], "m7", tokens=tokens)
    rows, proxies = resolution_tables([one], metrics, places_of(with_sizes([], metrics), {}), LOOK)
    assert list(rows["task"]) == ["t"] and "the noise of examples is unknown" in rows["reason"].iloc[0]
    [absent] = [n for n in notices(rows, proxies, metrics) if "no row" in n.detail]
    assert absent.task == "odds" and "of which higher or lower is better" in absent.detail
