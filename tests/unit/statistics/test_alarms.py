"""Alarms: p against enumeration and binomials, levels and power by simulation, tables and sentences."""

from datetime import date
from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr
from scipy.stats import binom

from ebbtide.errors import CellError, ConfigError, FigureError
from ebbtide.figures import plot_alarms, plot_changes
from ebbtide.figures.alarms import SEVERITIES as DRAWN
from ebbtide.grid import Checkpoint, Model
from ebbtide.metrics.direction import with_properties
from ebbtide.report.gate.terminal import lines
from ebbtide.report.gate.verdict import gate_of
from ebbtide.statistics.alarms.alarms import COLUMNS, SEVERITIES, alarms
from ebbtide.statistics.alarms.high_water import high_water
from ebbtide.statistics.alarms.not_compared import not_compared
from ebbtide.statistics.alarms.paired import compare
from ebbtide.statistics.alarms.paired_tests import SMALLEST, mcnemar, sign_flip
from ebbtide.statistics.detectable import drop_of_shares
from ebbtide.statistics.panel import Trajectory
from ebbtide.study.checks import find_baselines
from simulate_alarms import SETTINGS, flat, power, power_of_means, trajectory
from simulated import simulate, simulate_clusters


def said(table: pd.DataFrame) -> list[str]:
    """The lines of `check_alarms`, of all checkpoints."""
    missing = not_compared(pd.DataFrame(columns=["model", "task"]), table, {}, {}, ())
    settings = {"fail_on": "moderate", "checkpoints": "all"}
    return lines(gate_of(table, missing, settings, date(2026, 1, 1)))


def answers(right: int, n: int) -> np.ndarray:
    return (np.arange(n) < right).astype(float)[None]


# --- p -------------------------------------------------------------------------------------


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_mid_p_of_a_binomial(lost: int, gained: int) -> None:
    k, m = min(lost, gained), lost + gained
    expected = 1.0 if lost == gained else 2 * binom.cdf(k - 1, m, 0.5) + binom.pmf(k, m, 0.5)
    assert mcnemar(np.array([lost]), np.array([gained]))[0] == pytest.approx(expected)


def test_mcnemar_reaches_into_the_tails() -> None:
    far = mcnemar(np.array([10_000, 1000, 2000]), np.array([9000, 0, 0]))
    assert far[0] == pytest.approx(2 * binom.cdf(8999, 19_000, 0.5) + binom.pmf(9000, 19_000, 0.5))
    assert far[1] == pytest.approx(2.0**-1000) and far[2] == pytest.approx(SMALLEST)


@pytest.mark.parametrize("kind", ["normal", "whole", "skewed"])
def test_the_saddlepoint_agrees_with_trying_all_signs(kind: str) -> None:
    rng = np.random.default_rng(0)
    d = {
        "normal": rng.normal(0.3, 1, (60, 16)),
        "whole": rng.integers(-2, 4, (60, 16)).astype(float),
        "skewed": rng.exponential(1, (60, 16)) * rng.choice([-1, 1], (60, 16), p=[0.3, 0.7]),
    }[kind]
    patterns = 1.0 - 2.0 * (np.arange(2**16)[:, None] >> np.arange(16) & 1)
    null, observed = np.abs(d @ patterns.T), np.abs(d.sum(axis=1))[:, None]
    equal = np.abs(null - observed) < 1e-9
    exact = (null > observed + 1e-9).mean(axis=1) + 0.5 * equal.mean(axis=1)
    small = exact < 0.5
    ratio = sign_flip(d)[small] / exact[small]
    assert np.median(np.abs(np.log(ratio))) < 0.04 and np.abs(np.log(ratio)).max() < 0.35


def test_few_groups_try_all_signs() -> None:
    assert sign_flip(np.ones((1, 5))) == pytest.approx([2.0**-5])
    assert sign_flip(np.array([[1.0, 2.0, 4.0], [0.0, 0.0, 0.0]])) == pytest.approx([0.125, 1.0])
    # 1 + 2 - 4 = -1: six of the eight patterns are farther from 0, two are as far.
    assert sign_flip(np.array([[1.0, 2.0, -4.0]])) == pytest.approx([0.875])


def test_few_terms_among_many_zeros_try_all_signs() -> None:
    some = np.array([3.0, -1.0, 2.0, 0.5, -0.25, 1.5, 2.5])
    among = np.zeros((2, 400))
    among[0, ::60], among[1, 200:207] = some, some
    assert sign_flip(among) == pytest.approx(np.repeat(sign_flip(some[None]), 2))


def test_the_signs_of_many_groups_all_equal() -> None:
    assert sign_flip(np.full((1, 40), 0.25)) == pytest.approx([2.0**-40])
    assert sign_flip(np.r_[np.ones(7), np.zeros(5000)][None]) == pytest.approx([2.0**-7])


# --- one comparison --------------------------------------------------------------------------


def test_the_interval_of_shares_by_hand() -> None:
    new, old = answers(50, 100), answers(60, 100)
    [row] = compare(new, old, np.arange(100), 0.05).to_dict("records")
    centre = -10 / 102
    reach = 1.959964 * np.sqrt((12 / 102 - centre**2) / 102)
    assert (row["low"], row["high"]) == pytest.approx((centre - reach, centre + reach))
    assert row["change"] == pytest.approx(-0.1) and row["discordant"] == 10
    assert row["p"] == pytest.approx(2.0**-10)
    assert row["effect"] == pytest.approx(2 * np.arcsin(np.sqrt(0.5)) - 2 * np.arcsin(np.sqrt(0.6)))


def detectable(discordant: float, n: int, able: float = 0.5, change: float = 0.0) -> float:
    """The smallest drop beside a pair with so many discordant examples."""
    shares = (np.array([discordant / n]), np.array([change]), np.array([able]))
    return float(drop_of_shares(*shares, np.array([float(n)]), np.array([1.959964]))[0])


@cache
def critical_losses(n: int) -> np.ndarray:
    """The fewest lost among m discordant examples that are significant at the 5 % level, by m up to n."""
    found = []
    for m in range(n + 1):
        lost = np.arange(m // 2 + 1, m + 1)
        significant = lost[mcnemar(lost, m - lost) < 0.05]
        found.append(significant[0] if len(significant) else m + 1)
    return np.array(found)


def exact_power(n: int, discordant: float, drop: float) -> float:
    """Power of mid-p at the 5 % level if so large a share of examples is discordant."""
    m, least = np.arange(n + 1), critical_losses(n)
    lost = (discordant + drop) / (2 * discordant)
    found = binom.sf(least - 1, m, lost) + binom.cdf(m - least, m, lost)
    return float((binom.pmf(m, n, discordant) * found).sum())


@pytest.mark.parametrize(("n", "drop"), [(300, 0.081), (936, 0.044), (20_897, 0.0088)])
def test_what_can_be_detected_with_a_fifth_of_the_examples_discordant(n: int, drop: float) -> None:
    assert float(f"{detectable(0.2 * n, n):.2g}") == drop


@pytest.mark.parametrize("n", [100, 250])
@pytest.mark.parametrize("discordant", [0, 2, 6, 12, 40])
@pytest.mark.parametrize("able", [0.4, 0.9])
def test_the_printed_drop_is_found_in_four_of_five(n: int, discordant: int, able: float) -> None:
    drop, churn = detectable(discordant, n, able), discordant / n
    with_drop = churn + drop * (1 - churn / able)
    assert 0.79 < exact_power(n, max(with_drop, drop), drop) < 0.86


def test_a_drop_makes_examples_discordant_that_agree_without_it() -> None:
    """Power at a drop that ignores this is 0.55 with 500 examples and persistence 0.95."""
    ignores = 2.8016 * np.sqrt(0.025 / 500)
    assert exact_power(500, 0.025 + 0.95 * ignores, ignores) < 0.6
    drop = detectable(0.025 * 500, 500)
    assert drop > 1.4 * ignores and exact_power(500, 0.025 + 0.95 * drop, drop) == pytest.approx(
        0.8, abs=0.02
    )


def test_a_pair_with_a_drop_states_the_same_drop_as_a_pair_without() -> None:
    without = detectable(0.1 * 1000, 1000)
    discordant = 0.1 + 0.06 * (1 - 0.1 / 0.5)
    assert detectable(discordant * 1000, 1000, change=-0.06) == pytest.approx(without, rel=0.06)
    assert detectable(discordant * 1000, 1000, change=0.06) == pytest.approx(without, rel=0.06)


def test_a_rate_of_errors_can_get_worse_where_it_is_low() -> None:
    """Of 1000 examples 900 are wrong: only 100 can get worse."""
    old, clusters = answers(900, 1000), np.arange(1000)
    new = old.copy()
    new[0, 850:950] = 1 - new[0, 850:950]
    worse = [compare(new, old, clusters, 0.05, sign=s)["minimum_detectable_drop"][0] for s in (1, -1)]
    turned = [
        compare(1 - new, 1 - old, clusters, 0.05, sign=s)["minimum_detectable_drop"][0] for s in (-1, 1)
    ]
    assert worse == pytest.approx(turned) and worse[0] != worse[1]


def test_no_discordant_example_is_no_perfect_test() -> None:
    drops = [detectable(m, 200) for m in (0, 1, 20)]
    assert 5 / 200 < drops[0] < drops[1] < drops[2]
    assert 0.8 < binom.sf(4, 200, drops[0]) < 0.86
    # Five that go the same way have a mid-p of 1/32: four examples can never tell.
    assert np.isnan(detectable(0, 4)) and detectable(0, 5) > 0.9


def test_what_cannot_be_said_is_said_in_words() -> None:
    one = compare(np.ones((1, 1)), np.zeros((1, 1)), np.zeros(1, int), 0.05)
    assert one["note"][0] == "too few examples to detect any drop"
    constant = compare(np.full((1, 9), 2.5), np.full((1, 9), 0.5), np.arange(9), 0.05)
    assert constant["note"][0].startswith("all examples changed equally, so there is no interval")
    assert constant["low"].isna().all() and constant["p"][0] == pytest.approx(2.0**-9)
    same = compare(np.full((1, 9), 2.5), np.full((1, 9), 2.5), np.arange(9), 0.05)
    assert same["p"][0] == 1.0 and "no example changed" in same["note"][0] and same["effect"][0] == 0


def test_clusters_count_together() -> None:
    rng = np.random.default_rng(1)
    x, clusters = simulate_clusters(rng, 2, 400, 0.5, 0.0, 1.0, 20)
    alone = compare(x[1:], x[:1], np.arange(400), 0.05)
    together = compare(x[1:], x[:1], clusters, 0.05)
    assert (together["high"] - together["low"])[0] > 1.3 * (alone["high"] - alone["low"])[0]
    assert together["minimum_detectable_drop"][0] > 1.3 * alone["minimum_detectable_drop"][0]


# --- the high-water mark -----------------------------------------------------------------------


def test_the_best_so_far_is_tested_as_the_best_of_several() -> None:
    x = simulate(np.random.default_rng(3), 12, 150, 0.5, 0.0, 1.0)
    mark = high_water(x, np.arange(150), "task", 0.05)
    means = x.mean(axis=1)
    assert mark.best.tolist() == [means[:t].argmax() for t in range(1, 12)]
    pair = compare(x[1:], x[mark.strongest], np.arange(150), 0.05)["p"]
    t = np.arange(1, 12)
    assert (mark.p[1:] > pair[1:] - 0.01).all() and (mark.p <= np.minimum(1.3 * t * pair + 0.01, 1)).all()
    assert mark.critical[0] == pytest.approx(1.96, abs=0.001) and 2.5 < mark.critical[-1] < 3.2


def test_checkpoints_that_go_together_need_less_correction() -> None:
    rng = np.random.default_rng(4)
    critical = [
        high_water(simulate(rng, 20, 300, 0.5, rho, 1.0), np.arange(300), "t", 0.05).critical[-1]
        for rho in (0.0, 0.99)
    ]
    assert critical[1] < critical[0]


def test_a_deep_fall_has_a_deep_p() -> None:
    """Two thousand draws end at 0.0005; Bonferroni over the earlier checkpoints goes on."""
    rng = np.random.default_rng(5)
    x = simulate(rng, 6, 400, [0.5, 0.5, 0.5, 0.5, 0.9, 0.2], 0.3, 1.0)
    table = alarms([trajectory(x)], SETTINGS)
    last = table[table["against"] == "best"].iloc[-1]
    assert last["reference"] == "step4" and last["p"] < 1e-20 and last["severity"] == "severe"


def test_a_flat_training_raises_few_alarms_where_naive_comparisons_raise_many() -> None:
    found = {row[0]: row[3] for row in flat(16, 60, 0.0, 150)}
    for what in ("predecessor: p < 0.05", "best: p < 0.05"):
        assert found[what] < 0.1
    assert found["best: coverage"] > 0.93
    assert found["best, naively: and a drop"] > 0.1
    assert found["best: and a drop"] < 0.08


@pytest.mark.parametrize(("n", "persistence"), [(200, 0.95), (500, 0.95), (500, 0.5), (1000, 0.0)])
def test_a_drop_of_the_stated_size_is_found(n: int, persistence: float) -> None:
    """Losses at random in 80 %; those of a threshold that moves more often, as fewer are discordant."""
    (_, _, _, at_random, _), (_, _, _, moved, _) = power(n, persistence, 400)
    assert 0.75 < at_random < 0.87 and 0.75 < moved < 0.97


def test_a_rise_of_a_loss_of_the_stated_size_is_found() -> None:
    [(_, _, _, rate, _)] = power_of_means(300, 0.8, 400)
    assert 0.74 < rate < 0.86


@pytest.mark.parametrize(("groups", "size"), [(20, 20), (100, 4)])
def test_a_drop_of_clusters_of_the_stated_size_is_found(groups: int, size: int) -> None:
    """Answers are drawn anew, and lost, alike within a cluster."""
    rng = np.random.default_rng(8)
    clusters = np.arange(groups * size) // size

    def uniform() -> np.ndarray:
        common = np.sqrt(0.3) * rng.standard_normal(groups)[clusters]
        return ndtr(common + np.sqrt(0.7) * rng.standard_normal(len(clusters)))

    def pairs(drop: float, number: int) -> pd.DataFrame:
        old = np.stack([uniform() < 0.5 for _ in range(number)])
        new = np.where(
            np.stack([uniform() < 0.8 for _ in old]), old, np.stack([uniform() < 0.5 for _ in old])
        )
        new &= np.stack([uniform() >= drop / 0.5 for _ in old])
        return compare(new.astype(float), old.astype(float), clusters, 0.05)

    drop = float(pairs(0.0, 100)["minimum_detectable_drop"].median())
    assert 0.71 < (pairs(drop, 400)["p"] < 0.05).mean() < 0.88


# --- the table ---------------------------------------------------------------------------------


def falling(name: str = "task", model: str = "model", seed: int = 0) -> Trajectory:
    x = simulate(np.random.default_rng(seed), 4, 200, [0.5, 0.6, 0.3, 0.3], 0.5, 1.0)
    one = trajectory(x, name=name)
    return Trajectory(model, name, one.checkpoints, {}, one.examples, one.clusters, one.values)


def test_one_row_per_comparison() -> None:
    table = alarms([falling()], SETTINGS, {"model": "step1"})
    assert tuple(table.columns) == COLUMNS
    pairs = table.groupby("against", sort=False)[["checkpoint", "reference"]].agg(list)
    assert pairs.loc["predecessor", "reference"] == ["step0", "step1", "step2"]
    assert pairs.loc["best"].tolist() == [["step1", "step2", "step3"], ["step0", "step1", "step1"]]
    assert pairs.loc["baseline"].tolist() == [["step2", "step3"], ["step1", "step1"]]
    assert np.allclose(table["value"] - table["reference_value"], table["change"])
    assert set(table.loc[table["severity"] != "", "checkpoint"]) == {"step2", "step3"}


def test_a_baseline_of_another_model_is_for_all_checkpoints() -> None:
    other = falling(model="other", seed=1)
    one = Trajectory(
        "other", "task", other.checkpoints.iloc[[1]], {}, other.examples, other.clusters,
        {"accuracy": other.values["accuracy"][[1]]},
    )  # fmt: skip
    settings = SETTINGS | {"against": ["baseline"]}
    table = alarms([falling()], settings, {}, [one])
    assert table["checkpoint"].tolist() == ["step0", "step1", "step2", "step3"]
    assert set(table["reference"]) == {"other/step1"}
    shorter = Trajectory("m", "task", one.checkpoints, {}, one.examples[1:], one.clusters[1:], one.values)
    with pytest.raises(CellError, match="have different examples"):
        alarms([falling()], settings, {}, [shorter])


def test_a_loss_that_rises_is_an_alarm() -> None:
    rng = np.random.default_rng(6)
    loss = rng.gamma(2, 1, (3, 300)) + np.array([0.0, -1.0, 1.0])[:, None]
    one = trajectory(loss)
    one = Trajectory("m", "t", one.checkpoints, {}, one.examples, one.clusters, {"classification_loss": loss})
    table = alarms([one], SETTINGS | {"metrics": ["classification_loss"], "against": ["best"]})
    assert table["reference"].tolist() == ["step0", "step1"]
    assert table["severity"].tolist() == ["", "severe"]
    assert "above its best (step1)" in "\n".join(said(table))


def test_families() -> None:
    """With one family per checkpoint, new checkpoints do not change earlier results."""
    whole, settings = falling(), SETTINGS | {"family": "checkpoint"}
    part = Trajectory(
        "model", "task", whole.checkpoints.iloc[:3], {}, whole.examples, whole.clusters,
        {"accuracy": whole.values["accuracy"][:3]},
    )  # fmt: skip
    first = alarms([part], settings)
    then = alarms([whole], settings)
    both = first.merge(then, on=["checkpoint", "against", "reference"])
    assert len(both) == len(first) and (both["p_adjusted_x"] == both["p_adjusted_y"]).all()
    by_study = alarms([whole], SETTINGS)["p_adjusted"]
    assert (by_study != then["p_adjusted"]).any()


@pytest.mark.parametrize("shape", [(1, 5), (2, 1), (3, 2)])
def test_few_checkpoints_and_few_examples(shape: tuple[int, int]) -> None:
    table = alarms([trajectory(np.ones(shape))], SETTINGS)
    assert len(table) == 2 * (shape[0] - 1)
    if shape[0] > 1:
        assert table["note"].str.contains("too few examples to detect any drop").all()
        assert "No comparison of accuracy has enough examples" in said(table)[-1]


# --- the baseline ------------------------------------------------------------------------------


def model(name: str, *steps: int) -> Model:
    return Model(name, tuple(Checkpoint(name, f"step{s}", s, s, "w", "t", "r", 0, "float32") for s in steps))


def test_a_baseline_is_a_step_a_name_or_of_another_model() -> None:
    models = {"a": model("a", 1, 2), "b": model("b", 2, 3)}
    assert find_baselines(models, None, "f") == {}
    for wanted in (2, "2", "step2"):
        found = find_baselines(models, wanted, "f")
        assert {m: (c.model, c.step) for m, c in found.items()} == {"a": ("a", 2), "b": ("b", 2)}
    assert {c.model for c in find_baselines(models, "b/step3", "f").values()} == {"b"}


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        (
            "step3",
            "found 'step3', but a has no such checkpoint; allowed: one of every model .a has step1, step2.",
        ),
        ("c/step3", "found 'c/step3', but there is no model 'c'"),
        ("b/step9", "found 'b/step9', but b has no such checkpoint"),
    ],
)
def test_a_wrong_baseline_is_a_sentence(wanted: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        find_baselines({"a": model("a", 1, 2), "b": model("b", 2, 3)}, wanted, "study.yaml")


# --- figures -----------------------------------------------------------------------------------


def test_the_strip_shows_the_worst_alarm_of_each_checkpoint() -> None:
    table = alarms([falling(), falling("steady", seed=2)], SETTINGS)
    drawn = plot_alarms(with_properties(table)).data
    worst = drawn[drawn["kind"].isin(["minor", "moderate", "severe"])]
    expected = table[table["severity"] != ""].drop_duplicates(["task", "checkpoint"])
    assert len(worst) == len(expected)
    best = drawn[drawn["kind"] == "best of the training"]
    # step1 is the first that was compared; step0, if it is the best, lies before it.
    means = [falling(seed=s).values["accuracy"].mean(axis=1).argmax() - 1 for s in (0, 2)]
    assert best["position"].tolist() == means
    assert len(plot_alarms(with_properties(table)).draw().axes) == 2


def test_figures_of_several_metrics_name_them_in_their_panels() -> None:
    """A loss beside an accuracy: each panel has its metric, and its own scale of effects."""
    table = alarms([falling(), falling("steady", seed=2)], SETTINGS)
    one = plot_alarms(with_properties(table))
    assert one.labels.x.endswith("\nMetric: Accuracy (share, higher is better)")
    loss = table["task"] == table["task"].iloc[-1]
    table.loc[loss, "metric"], table.loc[loss, "effect"] = "loss", 10 * table.loc[loss, "effect"]
    strip, changes = plot_alarms(with_properties(table)), plot_changes(with_properties(table))
    assert strip.labels.x == "Checkpoint (training tokens)"
    for plot in (strip, changes):
        panels = [" ".join(panel.split()) for panel in plot.data["panel"].cat.categories]
        assert "Accuracy (share, higher is better)" in panels[0]
        assert "Loss (nats per token, lower is better)" in panels[1]
    assert changes.data["shade"].abs().groupby(changes.data["metric"]).max().gt(0.5).all()


def test_without_tokens_the_axis_says_so_and_keeps_every_checkpoint() -> None:
    table = alarms([falling()], SETTINGS)
    unknown = with_properties(table.assign(tokens=0, step=0))
    plot = plot_changes(unknown)
    assert plot.labels.x.startswith("Checkpoint (training tokens unknown: set tokens_per_step)")
    assert plot.data["position"].nunique() == table["checkpoint"].nunique()


def test_every_severity_has_its_colour_in_the_order_of_severity() -> None:
    assert DRAWN == SEVERITIES


def test_a_rising_loss_is_drawn_as_worse() -> None:
    table = alarms([falling()], SETTINGS).assign(metric="classification_loss")
    rising = with_properties(table.assign(change=-table["change"], severity=table["severity"]))
    assert plot_changes(rising).data["turned"].tolist() == pytest.approx(
        plot_changes(with_properties(alarms([falling()], SETTINGS))).data["turned"].tolist()
    )


def test_the_map_shows_the_changes_from_the_checkpoint_before() -> None:
    table = with_properties(alarms([falling()], SETTINGS))
    drawn = plot_changes(table).data
    assert drawn["turned"].tolist() == pytest.approx(table.loc[table["against"] == "predecessor", "effect"])
    with pytest.raises(FigureError, match="Add predecessor"):
        plot_changes(table[table["against"] == "best"])
