"""The table of robustness: by hand, by simulation, the published data, and what cannot be computed."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from ebbtide.errors import FigureError
from ebbtide.figures import plot_robustness
from ebbtide.figures.robustness import signed_z
from ebbtide.statistics.multiplicity import adjusted
from ebbtide.statistics.regression import ROBUSTNESS_COLUMNS, TERMS, regress, robustness, robustness_verdicts
from ebbtide.statistics.regression.covariance import least_squares
from ebbtide.statistics.regression.design import standardise
from ebbtide.statistics.regression.mixed import random_slopes
from ebbtide.statistics.regression.robustness import WORST
from metrics_tables import grid, noisy, table
from simulate_regression import rates

NUMBERS = ["estimate", "stderr", "t", "df", "p"]


def shares(effect: float = 0.0, seed: int = 0, sizes: int = 5, task: str = "t") -> pd.DataFrame:
    """A ladder of shares of 200 examples, with an interaction of log sizes and log tokens."""
    rng = np.random.default_rng(seed)
    parameters, tokens = grid(sizes=sizes)
    x, d = (np.log10(v) - np.log10(v).mean() for v in (parameters, tokens))
    p = np.clip(0.5 + effect * x * d, 0.02, 0.98)
    metrics = table(task, rng.binomial(200, p) / 200, parameters, tokens)
    return metrics.assign(
        n=200, parameters_nominal=parameters.astype(int), parameters_active=(parameters**0.9).astype(int)
    )


def of(found: pd.DataFrame, choice: str, term: str = "interaction") -> pd.Series:
    [(_, row)] = found[(found["choice"] == choice) & (found["term"] == term)].iterrows()
    return row


# --- standard errors -----------------------------------------------------------------------


def random_fit(seed: int = 0, n: int = 20) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=n), np.column_stack([np.ones(n), rng.normal(size=(n, 2))])


def test_hc3_is_that_of_statsmodels() -> None:
    import statsmodels.api as sm

    y, design = random_fit()
    for errors, reference in (("HC3", "HC3"), ("classical", "nonrobust")):
        theirs = sm.OLS(y, design).fit(cov_type=reference, use_t=True)
        ours = least_squares(y, design, errors)
        assert ours.estimate == pytest.approx(theirs.params)
        assert ours.stderr == pytest.approx(theirs.bse)
        assert ours.p == pytest.approx(theirs.pvalues)


def test_cr2_of_single_rows_is_hc2() -> None:
    import statsmodels.api as sm

    y, design = random_fit()
    ours = least_squares(y, design, "CR2", clusters=np.arange(len(y)))
    assert ours.stderr == pytest.approx(sm.OLS(y, design).fit().HC2_se)


def test_cr2_of_a_mean_is_that_of_the_clusters_means() -> None:
    """Clusters of equal size: the variance of their means over their number, with one df less."""
    y = np.random.default_rng(1).normal(size=24)
    clusters = np.repeat(np.arange(6), 4)
    ours = least_squares(y, np.ones((24, 1)), "CR2", clusters=clusters)
    means = y.reshape(6, 4).mean(axis=1)
    assert ours.stderr[0] == pytest.approx(means.std(ddof=1) / np.sqrt(6))
    assert ours.df[0] == pytest.approx(5)


def test_cr2_of_two_groups_has_the_degrees_of_freedom_of_welch() -> None:
    """A group of 3 clusters against one of 7: under equal noise Bell and McCaffrey's df are Welch's."""
    clusters = np.repeat(np.arange(10), 2)
    y = np.random.default_rng(2).normal(size=20)
    group = (clusters < 3).astype(float)
    ours = least_squares(y, np.column_stack([np.ones(20), group]), "CR2", clusters=clusters)
    means = y.reshape(10, 2).mean(axis=1)
    variances = [means[:3].var(ddof=1) / 3, means[3:].var(ddof=1) / 7]
    assert ours.stderr[1] == pytest.approx(np.sqrt(sum(variances)))
    assert ours.df[1] == pytest.approx((1 / 3 + 1 / 7) ** 2 / ((1 / 3) ** 2 / 2 + (1 / 7) ** 2 / 6))


def test_cr2_takes_a_cluster_with_leverage_one() -> None:
    """A dummy that one cluster alone has: its rows fit themselves, and the others are as without them."""
    y, design = random_fit(3)
    clusters = np.repeat(np.arange(10), 2)
    alone = (np.arange(20) == 0).astype(float)
    ours = least_squares(y, np.column_stack([design, alone]), "CR2", clusters=clusters)
    assert np.isfinite(ours.stderr[:3]).all()
    without = least_squares(y[1:], design[1:], "CR2", clusters=clusters[1:])
    assert ours.stderr[:3] == pytest.approx(without.stderr)
    assert ours.df[:3] == pytest.approx(without.df)


# --- random slopes -------------------------------------------------------------------------


def random_effects(seed: int, models: int = 8, checkpoints: int = 8) -> tuple[np.ndarray, ...]:
    """y, size, tokens and model of cells whose models have levels and slopes of their own."""
    rng = np.random.default_rng(seed)
    model = np.repeat(np.arange(models), checkpoints)
    size, tokens = standardise(
        np.column_stack([model, np.tile(np.arange(checkpoints), models)]).astype(float)
    ).T
    level, slope = 1.5 * rng.normal(size=(2, models))
    return rng.normal(size=len(model)) + level[model] + slope[model] * tokens, size, tokens, model


def test_random_slopes_are_the_mixed_model_where_its_variances_are_above_zero() -> None:
    import statsmodels.api as sm

    y, size, tokens, model = random_effects(4)
    design = np.column_stack([np.ones_like(y), size, tokens, size * tokens])
    theirs = sm.MixedLM(y, design, model, exog_re=design[:, [0, 2]]).fit(reml=True)
    assert theirs.converged
    ours = random_slopes(y, size, tokens, model)
    assert ours.estimate == pytest.approx(theirs.fe_params[1:], abs=1e-3)
    assert ours.stderr == pytest.approx(theirs.bse_fe[1:], rel=1e-3)
    assert ours.df.tolist() == [6, 6, 6]


def test_a_model_with_one_checkpoint_has_no_slope() -> None:
    y, size, tokens, model = random_effects(5)
    kept = (model > 0) | (tokens == tokens.min())
    ours = random_slopes(y[kept], size[kept], tokens[kept], model[kept])
    assert ours.df.tolist() == [5, 5, 5]
    assert ours.note == "1 models with one checkpoint are left out"
    assert "3 needed" in random_slopes(*(v[model < 2] for v in (y, size, tokens, model)))


# --- multiplicity --------------------------------------------------------------------------


def test_corrections_by_their_definitions() -> None:
    p = np.array([0.01, np.nan, 0.04, 0.03])
    assert adjusted(p, "bh").tolist() == pytest.approx([0.03, np.nan, 0.04, 0.04], nan_ok=True)
    by = 1 + 1 / 2 + 1 / 3
    assert adjusted(p, "by").tolist() == pytest.approx([0.03 * by, np.nan, 0.04 * by, 0.04 * by], nan_ok=True)
    assert adjusted(p, "holm").tolist() == pytest.approx([0.03, np.nan, 0.06, 0.06], nan_ok=True)
    assert adjusted(p, "none").tolist() == pytest.approx(p.tolist(), nan_ok=True)
    family = np.array(["a", "a", "b", "b"])
    assert adjusted(p, "bh", family).tolist() == pytest.approx([0.01, np.nan, 0.04, 0.04], nan_ok=True)


# --- the table -----------------------------------------------------------------------------


def test_the_base_is_the_regression_of_the_study() -> None:
    metrics = pd.concat([shares(0.05 * i, seed=i, task=f"t{i}") for i in range(3)])
    found = robustness(metrics)
    base = found[found["group"] == "base"].reset_index(drop=True)
    wanted = regress(metrics)
    columns = ["task", "metric", "term", "cells", *NUMBERS, "p_adjusted"]
    pd.testing.assert_frame_equal(base[columns], wanted[columns].astype({"df": float}), rtol=1e-9)
    assert found.columns.tolist() == list(ROBUSTNESS_COLUMNS)
    assert found.groupby(["task", "choice"])["term"].agg(" ".join).eq(" ".join(TERMS)).all()
    assert found["note"].notna().all()


def test_every_choice_changes_what_it_names() -> None:
    metrics = shares(0.1)
    found = robustness(metrics)
    interaction = found[found["term"] == "interaction"].set_index("choice")
    total = regress(metrics.assign(parameters_non_embedding=metrics["parameters_active"]))
    assert of(found, "active parameters")["t"] == pytest.approx(total["t"].iloc[2])
    less = regress(metrics[metrics["model"] != "m1000000"])
    assert of(found, "without m1000000")["t"] == pytest.approx(less["t"].iloc[2])
    assert interaction.loc["without m1000000", ["cells", "models"]].tolist() == [24, 4]
    assert interaction.loc["total parameters", "note"].startswith("sizes in the same proportions")
    assert interaction.loc["BH over all", "note"] == "same as the base"
    assert interaction.loc["random slopes", "df"] == 3
    assert interaction.loc["CR2 by model", "df"] < 5
    assert interaction["verdict"].loc["base"] == "not consistent"
    pairs = interaction[interaction["survives"] != ""]
    assert ((pairs["verdict"] == "not consistent") == (pairs["survives"] == "yes")).all()


def test_quasi_binomial_by_its_dispersion() -> None:
    """n enters in proportion only: three times the examples, three times the dispersion, the same t."""
    metrics = shares(0.05)
    one, three = (of(robustness(metrics.assign(n=n)), "quasi-binomial") for n in (200, 600))
    assert one["t"] == pytest.approx(three["t"])
    dispersion = [float(row["note"].split()[1].rstrip(";")) for row in (one, three)]
    assert dispersion[1] == pytest.approx(3 * dispersion[0], rel=0.01)
    assert 0.4 < dispersion[0] < 1.8  # the draws are binomial


@pytest.mark.parametrize(("metric", "factor"), [("margin", 1), ("brier_score", 1), ("imported_score", 100)])
def test_what_is_no_share_has_no_quasi_binomial(metric: str, factor: float) -> None:
    metrics = shares(0.05)
    metrics = metrics.assign(metric=metric, value=factor * metrics["value"])
    row = of(robustness(metrics, metric=metric), "quasi-binomial")
    assert row["note"] == f"no regression: {metric} is not a share of examples"
    assert np.isnan(row["t"])


def test_mc2_is_a_share_and_needs_its_n() -> None:
    metrics = shares(0.05).assign(metric="mc2")
    assert np.isfinite(of(robustness(metrics, metric="mc2"), "quasi-binomial")["t"])
    row = of(robustness(metrics.drop(columns="n"), metric="mc2"), "quasi-binomial")
    assert row["note"] == (
        f"no regression: the number of examples of {len(metrics)} of {len(metrics)} cells is "
        "unknown (imported: set n)"
    )


def test_shares_that_size_and_tokens_tell_apart_are_said_in_words() -> None:
    metrics = shares()
    metrics["value"] = (metrics["tokens"] > metrics["tokens"].median()).astype(float)
    row = of(robustness(metrics), "quasi-binomial")
    assert "did not converge" in row["note"]
    assert row["verdict"] == row["survives"] == ""


def test_the_worst_of_leaving_one_out_is_the_one_that_changes_the_verdict() -> None:
    """An interaction that the largest model alone carries."""
    rng = np.random.default_rng(6)
    parameters, tokens = grid(sizes=6)
    d = np.log10(tokens) - np.log10(tokens).mean()
    value = 0.5 - 0.3 * d * (parameters == parameters.max()) + rng.normal(0, 0.01, len(d))
    found = robustness(table("t", value, parameters, tokens))
    worst = of(found, WORST)
    assert of(found, "base")["verdict"] == "consistent"
    largest = f"without m{int(parameters.max())}"
    assert worst["note"] == f"{largest}; the verdict changes in 1 of 6"
    assert worst["survives"] == "no"
    assert worst["t"] == of(found, largest)["t"]
    words = robustness_verdicts(found).iloc[0]
    assert words["base"] == "consistent"
    assert words["left_out"] == f"changes under {largest} (1 of 6)"
    assert words["correction"] == "survives all 5"


def test_verdicts_of_a_loss_are_those_of_the_ability() -> None:
    metrics = noisy(np.random.default_rng(7), effect=0.2)
    up = robustness(metrics)
    loss = metrics.assign(value=-metrics["value"], metric="classification_loss")
    down = robustness(loss, metric="classification_loss")
    kept = ~up["choice"].eq("quasi-binomial").to_numpy()
    assert up["verdict"][kept].tolist() == down["verdict"][kept].tolist()
    assert of(up, "base")["verdict"] == "not consistent"
    assert of(robustness(metrics.assign(value=-metrics["value"])), "base")["verdict"] == "consistent"


def test_tasks_may_have_metrics_of_their_own() -> None:
    a = shares(seed=1, task="a")
    b = pd.concat([shares(seed=s, task="b").assign(metric=m) for s, m in ((2, "mc1"), (3, "mc2"))])
    found = robustness(pd.concat([a, b]), metrics_of={"b": ["mc1", "mc2"]})
    base = found[(found["group"] == "base") & (found["term"] == "interaction")]
    assert base[["task", "metric"]].to_numpy().tolist() == [["a", "accuracy"], ["b", "mc1"], ["b", "mc2"]]
    every = found[found["group"] == "base"]
    assert every["p_adjusted"].tolist() == pytest.approx(adjusted(every["p"].to_numpy(), "bh").tolist())


def test_the_study_s_own_adjustment_is_the_base_s() -> None:
    found = robustness(shares(0.02), adjust="none")
    assert of(found, "base")["p_adjusted"] == of(found, "base")["p"]
    assert of(found, "no correction")["note"] == "same as the base"
    assert of(found, "BH over all")["p_adjusted"] > of(found, "base")["p"]


def test_holes_are_counted() -> None:
    whole = shares(0.05)
    found = robustness(whole.drop(index=[3, 11]))
    assert of(found, "base")["note"] == "incomplete grid: 28 of 30 cells"
    assert of(found, "base")["cells"] == 28
    assert found["p"].notna().all()


def broken() -> dict[str, tuple[pd.DataFrame, str]]:
    whole = shares()
    values = whole["value"].where(whole.index != 2)
    return {
        "constant": (whole.assign(value=0.25), "the metric is 0.25 in every cell"),
        "missing": (whole.assign(value=values), "the metric has no value in 1 of 30 cells"),
        "few": (whole.iloc[[0, 1, 5, 6]], "4 cells with training tokens and a size, more than 4 needed"),
        "none": (
            whole.assign(tokens=0),
            "the training tokens of all 30 cells are unknown; set tokens_per_step",
        ),
        "one size": (whole[whole["model"] == "m1000000"], "one model size only"),
        "other metric": (whole.assign(metric="margin"), "the task has no metric accuracy; it has margin"),
    }


@pytest.mark.parametrize("case", broken())
def test_what_cannot_be_computed_is_said_in_words(case: str) -> None:
    metrics, reason = broken()[case]
    good = shares(0.1, seed=9, task="good")
    found = robustness(pd.concat([metrics, good]), metric="accuracy")
    bad = found[found["task"] == "t"]
    assert reason in of(bad, "base")["note"]
    assert reason in robustness_verdicts(found).set_index("task").loc["t", "note"]
    unknown = found[found["p"].isna()]
    assert unknown["note"].str.len().gt(0).all()
    assert unknown[["verdict", "survives"]].eq("").all(axis=None)
    pd.testing.assert_frame_equal(
        found.loc[found["task"] == "good", ["choice", "term", *NUMBERS]].reset_index(drop=True),
        robustness(good)[["choice", "term", *NUMBERS]],
    )
    if case == "missing":  # without the model whose value is missing there is a regression
        assert np.isfinite(of(bad, "without m100000000")["p"])


def test_two_models_are_too_few_to_see_how_models_differ() -> None:
    found = robustness(shares(0.1, sizes=2))
    assert np.isfinite(of(found, "base")["p"])
    assert "2 models with several checkpoints, 3 needed" in of(found, "random slopes")["note"]
    assert "too few models" in of(found, "CR2 by model")["note"]
    assert "one model size only" in of(found, "without m1000000")["note"]
    assert of(found, WORST)["note"]


def test_unknown_sizes_are_said_in_words() -> None:
    metrics = shares(0.1)
    some = metrics.assign(
        parameters_nominal=metrics["parameters_nominal"].where(metrics["model"] != "m1000000", 0)
    )
    assert (
        of(robustness(some), "nominal parameters")["note"] == "nominal parameters unknown for 6 of 30 cells"
    )
    for nothing in (metrics.assign(parameters_nominal=0), metrics.drop(columns="parameters_nominal")):
        row = of(robustness(nothing), "nominal parameters")
        assert row["note"] == "no regression: nominal parameters unknown"
        assert np.isnan(row["t"])


def test_without_the_largest_model_two_of_the_published_verdicts_vanish(published: pd.DataFrame) -> None:
    found = robustness(published, parameters="total")
    interaction = found[found["term"] == "interaction"].set_index(["choice", "task"])["verdict"]
    base = interaction["base"]
    without = interaction["without m12000000000"]
    consistent = base.index[base == "consistent"]
    assert len(consistent) == 5
    assert {t for t in consistent if without[t] != "consistent"} == {"Hindsight Neglect", "TruthfulQA-MC1"}
    # Those are also the two that models of their own slopes do not allow.
    slopes = interaction["random slopes"]
    assert {t for t in consistent if slopes[t] != "consistent"} == {"Hindsight Neglect", "TruthfulQA-MC1"}


# --- simulation ----------------------------------------------------------------------------

HOLDING = {
    "independent": ["base", "HC3", "CR2 by model", "random slopes", "quasi-binomial"],
    "by model": ["CR2 by model", "random slopes"],
    "beta-binomial": ["base", "HC3", "CR2 by model", "random slopes", "quasi-binomial"],
    "unequal": ["HC3", "CR2 by model", "random slopes"],
}
RUNS = 150


@pytest.mark.parametrize("situation", HOLDING)
def test_choices_hold_their_level_where_they_are_meant_for(situation: str) -> None:
    found = rates(situation, 0.0, RUNS).set_index(["choice", "term"])["rate"]
    limit = 0.05 + 4 * np.sqrt(0.05 * 0.95 / RUNS)
    for choice in HOLDING[situation]:
        assert (found[choice] < limit).all(), (choice, found[choice])
    if situation == "by model":  # and the others do not: the table would not need them
        assert (found["base"] > limit).all()


def test_an_effect_is_found() -> None:
    found = rates("independent", 0.6, 40).set_index(["choice", "term"])["rate"].unstack()
    assert (found["interaction"] > 0.8).all()
    assert (found["tokens"] < 0.25).all()


# --- figure --------------------------------------------------------------------------------


def test_the_figure_shows_every_choice_that_could_be_computed() -> None:
    found = robustness(pd.concat([shares(-0.1, seed=1, task="a"), shares(seed=2, task="b")]))
    figure = plot_robustness(found, titles={"a": "Task A"}).draw()
    panels = figure.axes
    assert {text.get_text() for text in figure.findobj(Text)} >= {"Task A", "B"}
    assert len(panels) == 2
    interaction = found[(found["term"] == "interaction") & (found["task"] == "a")]
    dots = np.concatenate([c.get_offsets() for c in panels[0].collections if c.get_offsets().shape[0] > 1])
    assert sorted(dots[:, 0]) == pytest.approx(
        sorted(signed_z(interaction["t"], interaction["p_adjusted"])), rel=1e-6
    )
    names = [label.get_text() for label in panels[0].get_yticklabels()]
    assert set(names) == set(interaction["choice"])


def test_the_signed_statistic_agrees_with_the_verdict() -> None:
    t = pd.Series([-5.0, 2.0, -1.0, -40.0])
    p = pd.Series([1e-20, 0.05, 1.0, 0.0])
    assert signed_z(t, p).tolist() == pytest.approx([-9.336, 1.95996, 0, -37.0], abs=1e-3)


def test_without_a_regression_there_is_no_figure() -> None:
    with pytest.raises(FigureError, match=r"no task has a regression .*in every cell"):
        plot_robustness(robustness(shares().assign(value=0.5)))
