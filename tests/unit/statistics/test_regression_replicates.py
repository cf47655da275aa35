"""Regressions and verdicts of models that differ only by seed: sizes are compared, not runs."""

import numpy as np
import pandas as pd
import pytest

from ebbtide.statistics.regression import as_text, caption, paper_table, regress, robustness, verdicts
from ebbtide.statistics.regression.covariance import least_squares
from ebbtide.statistics.regression.design import standardise
from ebbtide.statistics.regression.example_model import example_model
from ebbtide.statistics.regression.mixed import random_slopes
from ebbtide.statistics.regression.notices import regression_notices
from ebbtide.statistics.regression.units import Units
from ebbtide.statistics.replicates import UNNAMED, Place
from ebbtide.titles import abilities
from metrics_tables import grid, noisy, table
from simulate_regression import nested_rates

LABELS = {1_000_000 * 10**k: f"{10**k}M" for k in range(6)}
NUMBERS = ["estimate", "stderr", "t", "df", "p"]


def seeded(
    seeds: int = 3, sizes: int = 4, effect: float = 0.0, slope: float = 0.0, task: str = "t"
) -> pd.DataFrame:
    """A ladder with several runs of each size; levels and slopes differ between sizes and between runs."""
    rng = np.random.default_rng(sizes + 10 * seeds)
    parameters, tokens = grid(sizes)
    x, d = (np.log10(v) - np.log10(v).mean() for v in (parameters, tokens))
    of_size = np.unique(parameters, return_inverse=True)[1]
    level, own = 0.02 * rng.standard_normal((2, sizes))[:, of_size]
    frames = []
    for seed in range(seeds):
        of_run = 0.02 * rng.standard_normal((2, sizes))[:, of_size]
        value = 0.5 + level + of_run[0] + (slope + effect * x + own + of_run[1]) * d
        value += 0.01 * rng.standard_normal(len(x))
        frame = table(task, value, parameters, tokens)
        frames.append(frame.assign(model=frame["model"] + f"-seed{seed}", n=500))
    return pd.concat(frames, ignore_index=True)


def placed(metrics: pd.DataFrame, arm: str = UNNAMED) -> dict[str, Place]:
    sizes = metrics.groupby("model")["parameters_total"].max()
    return {str(m): Place(str(m), arm, LABELS[size], size) for m, size in sizes.items()}


def interaction(found: pd.DataFrame) -> pd.Series:
    return found[found["term"] == "interaction"].iloc[0]


# --- the estimate --------------------------------------------------------------------------


def test_sizes_are_the_units_with_the_means_of_their_runs() -> None:
    """By hand: a line through the mean curve of each size, and a regression of four slopes."""
    metrics = seeded()
    found = regress(metrics, places=placed(metrics)).set_index("term")
    y, x, d = standardise(
        np.column_stack(
            [
                metrics["value"],
                np.log10(metrics["parameters_non_embedding"]),
                np.log10(metrics["tokens"]),
            ]
        )
    ).T
    means = pd.DataFrame({"x": x, "d": d, "y": y}).groupby(["x", "d"])["y"].mean().unstack()
    slopes, heights = np.polyfit(means.columns, means.T, 1)
    design = np.column_stack([np.ones(4), means.index])
    of_slopes, of_heights = least_squares(slopes, design), least_squares(heights, design)
    assert found.loc["interaction", ["estimate", "stderr", "p"]].tolist() == pytest.approx(
        [of_slopes.estimate[1], of_slopes.stderr[1], of_slopes.p[1]]
    )
    assert found.loc["tokens", "t"] == pytest.approx(of_slopes.t[0])
    assert found.loc["parameters", "t"] == pytest.approx(of_heights.t[1])
    assert found[["df", "runs", "sizes"]].drop_duplicates().to_numpy().tolist() == [[2, 12, 4]]


def test_a_balanced_grid_has_the_errors_of_the_nested_mixed_model() -> None:
    """Levels and slopes of sizes, and of runs within sizes, by restricted maximum likelihood."""
    import statsmodels.api as sm

    rng = np.random.default_rng(0)
    of_run, run = np.repeat(np.arange(6), 3), np.repeat(np.arange(18), 6)
    size, tokens = standardise(np.column_stack([of_run[run], np.tile(np.arange(6), 18)]).astype(float)).T
    level, slope = (2 * rng.standard_normal((2, 6)))[:, of_run] + rng.standard_normal((2, 18))
    y = rng.standard_normal(108) + level[run] + slope[run] * tokens
    cells = pd.DataFrame({"y": y, "x": size, "d": tokens, "size": of_run[run], "run": run})
    theirs = sm.MixedLM.from_formula(
        "y ~ x * d",
        cells,
        groups="size",
        re_formula="1 + d",
        vc_formula={"level": "0 + C(run)", "slope": "0 + C(run):d"},
    ).fit(reml=True)
    assert theirs.converged
    sizes = {int(r): str(of_run[r]) for r in run}
    ours = random_slopes(y, size, tokens, run, Units(sizes, sizes, 18, 6))
    assert ours.estimate == pytest.approx(theirs.fe_params.iloc[1:])
    assert ours.stderr == pytest.approx(theirs.bse_fe.iloc[1:], rel=1e-3)
    assert ours.df.tolist() == [4, 4, 4]


def test_more_seeds_are_no_more_sizes() -> None:
    for seeds in (2, 9):
        metrics = seeded(seeds)
        assert interaction(regress(metrics, places=placed(metrics)))["df"] == 2
        assert interaction(regress(metrics))["df"] == seeds * 24 - 4


def test_the_interaction_is_the_same_in_both_forms() -> None:
    metrics = seeded(effect=0.2)
    forms = [
        interaction(regress(metrics, form=form, places=placed(metrics))) for form in ("standardised", "raw")
    ]
    assert forms[0]["t"] == pytest.approx(forms[1]["t"], rel=1e-6)
    assert "N = 1, D = 1" in forms[1]["note"]


def test_a_study_without_replicates_has_the_tables_it_had() -> None:
    metrics = noisy(np.random.default_rng(0), 0.1)
    places = placed(metrics)
    without = regress(metrics)
    pd.testing.assert_frame_equal(regress(metrics, places=places), without)
    assert without[["runs", "sizes"]].isna().all(axis=None)
    pd.testing.assert_frame_equal(robustness(metrics, places=places), robustness(metrics))
    judged = verdicts(metrics, without)
    pd.testing.assert_frame_equal(verdicts(metrics, without, places=places), judged)
    assert judged[["runs", "seed_change_sd"]].isna().all(axis=None)
    assert regression_notices(without, metrics) == []


def test_arms_of_a_size_are_one_size() -> None:
    """Two mixtures share what is peculiar to a size, so they do not double the sizes."""
    metrics = seeded(seeds=2)
    other = metrics.assign(model="b-" + metrics["model"], value=metrics["value"] + 0.1)
    both = pd.concat([metrics, other])
    places = placed(metrics, "a") | placed(other, "b")
    found = interaction(regress(both, places=places))
    assert found[["df", "runs", "sizes"]].tolist() == [2, 16, 4]
    alone = interaction(regress(metrics, places=placed(metrics)))
    assert found["t"] == pytest.approx(alone["t"])


def test_two_sizes_are_compared_run_by_run_and_the_note_says_so() -> None:
    metrics = seeded(sizes=2)
    found = interaction(regress(metrics, places=placed(metrics)))
    assert found[["df", "runs", "sizes"]].tolist() == [4, 6, 2]
    assert found["note"] == "2 sizes only: runs are compared, and p says nothing about other sizes"
    choices = (
        robustness(metrics, places=placed(metrics)).drop_duplicates("choice").set_index("choice")["note"]
    )
    assert "random slopes by run" not in choices.index  # the same as the base
    assert choices["base"] == found["note"]
    assert "runs are compared" not in choices["least squares over cells"] + choices["HC3"]


def test_a_run_with_one_checkpoint_has_no_slope() -> None:
    metrics = seeded()
    first = metrics["tokens"] == metrics["tokens"].min()
    cut = metrics[(metrics["model"] != "m1000000-seed0") | first]
    found = interaction(regress(cut, places=placed(cut)))
    assert (found["df"], found["note"]) == (2, "1 models with one checkpoint are left out")
    # A size whose runs all have one checkpoint is none: two are left of three, and their runs are compared.
    two = metrics[(metrics["parameters_total"] < 1e8) | (first & (metrics["parameters_total"] == 1e8))]
    found = interaction(regress(two, places=placed(two)))
    assert found[["df", "runs", "sizes"]].tolist() == [4, 6, 2]
    few = metrics[(metrics["parameters_total"] < 1e8) & (first | metrics["model"].str.endswith("0"))]
    found = regress(few, places=placed(few))
    assert found[["t", "df"]].isna().all(axis=None)
    assert found["note"].iloc[0] == "no regression: 2 runs with several checkpoints, 3 needed"


def test_only_sizes_keep_the_level_where_sizes_differ() -> None:
    """`simulate_regression.py --replicates` in small: no interaction, sizes and runs that differ."""
    draws = 300
    error = 4 * np.sqrt(0.05 * 0.95 / draws)
    found = nested_rates((3, 3, 3, 3), 1.0, 0.0, draws).set_index("choice")["rate"]
    assert abs(found["base (by size)"] - 0.05) < error
    assert found["CR2 by size"] < 0.05 + error
    assert (found[["random slopes by run", "least squares over cells", "CR2 by run"]] > 0.05 + error).all()
    assert nested_rates((9,) * 8, 0.0, 1.0, 20).set_index("choice")["rate"]["base (by size)"] > 0.8


# --- robustness ----------------------------------------------------------------------------


def test_the_table_of_choices_takes_sizes_for_models() -> None:
    metrics = seeded(effect=0.1)
    places = placed(metrics)
    found = robustness(metrics, places=places)
    of_interaction = found[found["term"] == "interaction"].set_index("choice")
    groups = of_interaction.groupby("group", sort=False).groups
    assert list(groups["errors"]) == ["HC3", "CR2 by size"]
    assert list(groups["model"]) == ["least squares over cells", "random slopes by run", "quasi-binomial"]
    assert list(groups["left out"])[:4] == ["without 1M", "without 10M", "without 100M", "without 1000M"]
    base = interaction(regress(metrics, places=places))
    assert of_interaction.loc["base", NUMBERS].tolist() == pytest.approx(base[NUMBERS].tolist())
    plain = interaction(regress(metrics))
    assert of_interaction.loc["least squares over cells", NUMBERS].tolist() == pytest.approx(
        plain[NUMBERS].tolist()
    )
    assert of_interaction.loc["random slopes by run", "df"] == 10
    assert of_interaction.loc["CR2 by size", "df"] < 3
    assert of_interaction.loc["without 1M", ["df", "cells", "models"]].tolist() == [1, 54, 9]


def test_without_one_of_three_sizes_there_is_no_test() -> None:
    """Rather than one by run, which would answer another question than the base."""
    metrics = seeded(sizes=3)
    found = robustness(metrics, places=placed(metrics)).set_index(["choice", "term"])
    note = found.loc[("without 1M", "interaction"), "note"]
    assert note == "no regression: 2 sizes with several checkpoints, 3 needed"


# --- verdicts ------------------------------------------------------------------------------


def judged(
    metrics: pd.DataFrame, places: dict[str, Place] | None = None, tolerance: float = 0.0
) -> pd.Series:
    places = placed(metrics) if places is None else places
    found = regress(metrics, places=places)
    return verdicts(metrics, found, places=places, tolerance=tolerance).iloc[0]


def test_the_change_is_the_mean_over_the_runs_of_the_largest_size() -> None:
    metrics = seeded(slope=-0.2)
    found = judged(metrics)
    largest = metrics[metrics["parameters_total"] == 10**9]
    curves = largest.pivot_table(index="tokens", columns="model", values="value")
    assert found["model"] == "1000M"
    assert (found["first"], found["last"]) == pytest.approx(tuple(curves.iloc[[0, -1]].mean(axis=1)))
    changes = curves.iloc[-1] - curves.iloc[0]
    assert found["change"] == pytest.approx(changes.mean())
    assert found["seed_change_sd"] == pytest.approx(changes.std())
    assert (found["runs"], found["verdict"]) == (3, "ebbs")
    assert (found["first_checkpoint"], found["last_checkpoint"]) == ("t1048576", "t33554432")


def test_runs_are_compared_at_the_checkpoints_they_have_in_common() -> None:
    metrics = seeded(slope=-0.2)
    last = metrics["tokens"] == metrics["tokens"].max()
    found = judged(metrics[~(last & (metrics["model"] == "m1000000000-seed1"))])
    assert (found["last_checkpoint"], found["runs"]) == ("t16777216", 3)
    one = judged(metrics[last | (metrics["model"] != "m1000000000-seed1")])
    assert (one["last_checkpoint"], one["runs"]) == ("t33554432", 2)
    assert one["note"].endswith("1 of 3 runs of 1000M have one checkpoint and are left out")
    apart = metrics.copy()
    seed = apart["model"].str[-1].astype(int)
    apart["tokens"] += seed * (apart["parameters_total"] == 10**9)
    near, same = judged(apart, tolerance=1e-5), judged(metrics)
    for name in ("change", "seed_change_sd", "runs", "last_checkpoint"):
        assert near[name] == same[name]
    none = judged(apart)
    assert (none["model"], none["verdict"]) == ("", "undecided")
    assert none["note"].endswith(
        "no change of the largest size: its 3 runs have fewer than two checkpoints in common"
    )


def test_the_largest_recipe_of_two_is_that_with_more_runs() -> None:
    metrics = seeded()
    other = metrics[metrics["model"].str.endswith("0")]
    other = other.assign(model="a-" + other["model"])
    found = judged(pd.concat([metrics, other]), placed(metrics, "z") | placed(other, "a"))
    assert (found["model"], found["runs"]) == ("z 1000M", 3)
    assert found["note"] == "a-m1000000000-seed0 of the same size not counted"


def test_models_of_one_size_by_name_are_one_size() -> None:
    """The single run with the most parameters is not the largest size."""
    metrics = seeded()
    other = metrics[metrics["model"] == "m1000000000-seed0"].assign(model="b")
    places = placed(metrics, "z") | placed(other, "b")
    counts = [f"parameters_{name}" for name in ("total", "non_embedding")]
    found = judged(pd.concat([metrics, other.assign(**other[counts] * 1.01)]), places)
    assert (found["model"], found["runs"]) == ("z 1000M", 3)
    assert found["note"] == "b of the same size not counted"


def test_the_reason_says_over_how_many_sizes() -> None:
    assert judged(seeded())["why"] == (
        "the slope over tokens is not significant at regression.alpha 0.05 with 12 runs of 4 sizes"
    )
    falls = seeded(sizes=6, slope=1.0)
    last = (falls["parameters_total"] == 10**11) & (falls["tokens"] == falls["tokens"].max())
    falls.loc[last, "value"] = np.array([-0.51, -0.5, -0.49])
    found = judged(falls)
    assert found["why"] == (
        "over all models the metric gets better with training, but the largest size ends worse than it "
        f"began: 100000M, mean of 3 runs ({found['first']:.3g} → -0.5; sd of the change over runs "
        f"{found['seed_change_sd']:.2g})"
    )


# --- what is said --------------------------------------------------------------------------


def test_a_notice_says_what_is_compared() -> None:
    metrics = seeded()
    [notice] = regression_notices(regress(metrics, places=placed(metrics)), metrics)
    assert (notice.severity, notice.kind, notice.task) == ("note", "low_power", "t")
    assert notice.detail == (
        "Some of 12 runs of 4 sizes differ only by seed, so the regressions and verdicts of t compare sizes, "
        "not runs or cells: df 2."
    )
    assert notice.remedy == (
        "The paper's regression, which counts all cells as independent, is 'least squares over cells' in "
        "robustness.tsv. Only more sizes give more degrees of freedom."
    )
    many = seeded(sizes=6)
    assert regression_notices(regress(many, places=placed(many)), many)[0].kind == "defaulted"
    two = seeded(sizes=2)
    assert "compare runs, not cells, and say nothing about other sizes: df 4." in (
        regression_notices(regress(two, places=placed(two)), two)[0].detail
    )


def test_the_caption_of_the_table_names_the_estimator() -> None:
    metrics = pd.concat([seeded(), seeded(task="u")])
    alone = metrics[(metrics["task"] == "t") | metrics["model"].str.endswith("0")]
    settings = {"parameters": "total", "adjust": "bh"}
    estimator = (
        "Random level and slope of every size and run, 12 runs of 4 sizes: a line over log10 D per run, "
        "regressed on log10 N over sizes; t(df) with df = sizes - 2."
    )
    found = regress(metrics, places=placed(metrics))
    assert caption(found, settings, 0.05)[2:-1] == [estimator]
    text = as_text(paper_table(found, abilities({"t": ["accuracy"]}), 0.05), caption(found, settings, 0.05))
    assert "t(2)=" in text
    both = caption(regress(alone, places=placed(alone)), settings, 0.05)
    assert both[2:-1] == [
        "Ordinary least squares over 24 cells (model and checkpoint); t(df) with df = cells - 4.",
        f"With replicates: {estimator}",
    ]
    two = seeded(sizes=2)
    assert (
        "regressed on log10 N over runs; t(df) with df = runs - 2."
        in caption(regress(two, places=placed(two)), settings, 0.05)[2]
    )


# --- single answers ------------------------------------------------------------------------


def test_the_model_of_answers_compares_sizes() -> None:
    rng = np.random.default_rng(0)
    names = [f"m{10**s}-{seed}" for s in (6, 7, 8, 9) for seed in (0, 1)]
    sizes = [10**s for s in (6, 7, 8, 9) for _ in (0, 1)]
    answers = (rng.random((8, 5, 60)) < 0.5).astype(int)
    task = {
        "task": "t",
        "metric": "accuracy",
        "models": names,
        "sizes": sizes,
        "tokens": [10.0 ** np.arange(8, 13)] * 8,
        "answers": list(answers),
    }
    places = {m: Place(m, UNNAMED, LABELS[size], size) for m, size in zip(names, sizes, strict=True)}
    found, plain = example_model([task], places=places), example_model([task])
    assert found["df"].tolist() == [2] * 3 and plain["df"].tolist() == [6] * 3
    assert found["sizes"].tolist() == [4] * 3 and plain["sizes"].isna().all()
    # With equally many runs per size, means of sizes have the same regression line.
    assert found["estimate"].tolist() == pytest.approx(plain["estimate"].tolist())
    assert found["stderr"].tolist() != pytest.approx(plain["stderr"].tolist())
    two = task | {name: task[name][:4] for name in ("models", "sizes", "tokens", "answers")}
    of_runs = example_model([two], places=places)
    assert of_runs["df"].tolist() == [2] * 3
    assert of_runs["note"].str.startswith("2 sizes only: runs are compared").all()
