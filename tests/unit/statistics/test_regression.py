"""Regressions: the published numbers, data with a known truth, and tasks that have no regression."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ebbtide.statistics.regression import COLUMNS, TERMS, regress, verdicts
from metrics_tables import grid, noisy, table


@pytest.fixture(scope="module")
def published_tests(shared: Path) -> pd.DataFrame:
    return pd.read_csv(
        shared / "reference/emergent_inabilities_tests.tsv", sep="\t", dtype={"p_published": str}
    )


def printed(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}".rstrip("0").rstrip(".")


def test_the_published_tests_are_reproduced(published: pd.DataFrame, published_tests: pd.DataFrame) -> None:
    found = regress(published, parameters="total").set_index(["task", "term"])
    assert len(published_tests) == len(found) == 36
    for row in published_tests.itertuples():
        ours = found.loc[(row.task, row.effect.lower())]
        assert f"{ours['t']:.2f}" == f"{row.t_published:.2f}", row
        assert printed(ours["p_adjusted"]) == row.p_published, row
        assert ours["df"] == row.df


def test_the_published_verdicts_are_reproduced(published: pd.DataFrame) -> None:
    found = verdicts(published, regress(published, parameters="total"), parameters="total").set_index("task")
    assert found["decreased"].sum() == 8
    consistent = {"TruthfulQA-MC1", "TruthfulQA-MC2", "Hindsight Neglect", "Memo Trap"}
    assert set(found.index[found["consistent"]]) == consistent | {"Pattern Match Suppression"}
    assert set(found["model"]) == {"m12000000000"}
    assert set(found["last_checkpoint"]) == {f"t{143000 * 2_097_152}"}
    assert found.loc["Memo Trap", "verdict"] == "ebbs with size"
    assert found.loc["Resisting Correction", "verdict"] != "ebbs"


def test_the_interaction_is_the_same_in_both_forms() -> None:
    metrics = noisy(np.random.default_rng(0), effect=0.1)
    forms = [regress(metrics, form=form).set_index("term") for form in ("standardised", "raw")]
    assert forms[0].loc["interaction", "t"] == pytest.approx(forms[1].loc["interaction", "t"], rel=1e-8)
    assert forms[0].loc["tokens", "t"] != pytest.approx(forms[1].loc["tokens", "t"], rel=1e-2)
    assert "N = 1, D = 1" in forms[1].loc["tokens", "note"]
    assert forms[0]["note"].eq("").all()


def test_the_raw_form_finds_exact_coefficients() -> None:
    parameters, tokens = grid()
    n, d = np.log10(parameters), np.log10(tokens)
    rng = np.random.default_rng(0)
    metrics = table(
        "t", 2 + 0.3 * n - 0.2 * d + 0.05 * n * d + rng.normal(0, 1e-9, len(n)), parameters, tokens
    )
    found = regress(metrics, parameters="total", form="raw").set_index("term")["estimate"]
    assert found[list(TERMS)].tolist() == pytest.approx([0.3, -0.2, 0.05], abs=1e-5)


def test_standardised_estimates_follow_from_their_definition() -> None:
    metrics = noisy(np.random.default_rng(1), effect=0.1)
    z = [
        (v - v.mean()) / v.std(ddof=1)
        for v in (
            metrics["value"],
            np.log10(metrics["parameters_non_embedding"]),
            np.log10(metrics["tokens"]),
        )
    ]
    design = np.column_stack([np.ones(len(z[0])), z[1], z[2], z[1] * z[2]])
    beta, [rss], _, _ = np.linalg.lstsq(design, z[0], rcond=None)
    df = len(design) - 4
    stderr = np.sqrt(rss / df * np.diag(np.linalg.inv(design.T @ design)))
    found = regress(metrics)
    assert found["estimate"].tolist() == pytest.approx(beta[1:].tolist())
    assert found["stderr"].tolist() == pytest.approx(stderr[1:].tolist())
    assert found["t"].tolist() == pytest.approx((beta / stderr)[1:].tolist())
    assert found["df"].unique() == [df]
    assert found.columns.tolist() == list(COLUMNS)


def test_without_an_effect_p_is_uniform() -> None:
    rng = np.random.default_rng(2)
    metrics = pd.concat([noisy(rng, task=f"t{i}") for i in range(250)])
    found = regress(metrics)
    p = found[found["term"] == "interaction"]["p"]
    # Bounds of four standard errors of a binomial share.
    for level in (0.05, 0.25, 0.5, 0.9):
        assert abs((p < level).mean() - level) < 4 * np.sqrt(level * (1 - level) / len(p))
    assert (found["p_adjusted"] < 0.05).mean() < 0.01


def test_intervals_cover_the_truth() -> None:
    from scipy.stats import t as student

    rng, effect = np.random.default_rng(3), 0.1
    metrics = pd.concat([noisy(rng, effect, task=f"t{i}") for i in range(250)])
    found = regress(metrics, form="raw")
    row = found[found["term"] == "interaction"]
    half = row["stderr"] * student.ppf(0.975, row["df"])
    assert abs(((row["estimate"] - effect).abs() < half).mean() - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 250)


def test_p_is_adjusted_over_all_tests_of_the_table() -> None:
    """Benjamini–Hochberg by its definition: the least m/k · p(k) of the ranks above."""
    rng = np.random.default_rng(4)
    parameters, tokens = grid()
    constant = table("c", np.full(len(tokens), 0.5), parameters, tokens)
    found = regress(pd.concat([noisy(rng, 0.05 * i, f"t{i}") for i in range(4)] + [constant]))
    p = np.sort(found["p"].dropna())
    adjusted = np.minimum.accumulate((p * len(p) / np.arange(1, len(p) + 1))[::-1])[::-1]
    assert len(p) == 12  # the constant task counts for nothing
    assert np.sort(found["p_adjusted"].dropna()) == pytest.approx(adjusted)


PARAMETERS, TOKENS = grid()
ONES = np.ones(len(TOKENS))
SLOPE = np.log10(TOKENS)


NO_REGRESSION = {
    "few": (
        table("t", SLOPE[[0, 1, 4, 5]], PARAMETERS[[0, 1, 4, 5]], TOKENS[[0, 1, 4, 5]]),
        "4 cells with training tokens and a size, more than 4 needed; add checkpoints or models",
    ),
    "tokens unknown": (
        table("t", SLOPE, PARAMETERS, 0 * TOKENS).assign(step=7),
        "the training tokens of all 24 cells are unknown; set tokens_per_step of the models",
    ),
    "neither steps nor tokens": (
        table("t", SLOPE, PARAMETERS, 0 * TOKENS),
        "the training tokens of all 24 cells are 0 or unknown; add trained checkpoints, or set their steps "
        "and tokens_per_step",
    ),
    "sizes unknown": (
        table("t", SLOPE, 0 * PARAMETERS, TOKENS),
        "the non-embedding parameters of all 24 cells are unknown; set regression.parameters to another "
        "count, or the parameters of the imported models",
    ),
    "tokens or size": (
        table("t", SLOPE, PARAMETERS * (PARAMETERS > 1e6), TOKENS * (PARAMETERS == 1e6)),
        "no cell has both training tokens and a size",
    ),
    "missing": (
        table("t", np.where(TOKENS[0] == TOKENS, np.nan, SLOPE), PARAMETERS, TOKENS),
        "the metric has no value in 4 of 24 cells",
    ),
    "constant": (table("t", 0.25 * ONES, PARAMETERS, TOKENS), "the metric is 0.25 in every cell"),
    "one size": (
        table("t", SLOPE, 1e6 * ONES, TOKENS),
        "one model size only, but the regression is over sizes; see summary.txt for the trend of each model",
    ),
    "one size, two checkpoints": (
        table("t", SLOPE[[0, 4]], PARAMETERS[[0, 4]], TOKENS[[0, 4]]),
        "one model size only, but the regression is over sizes; see summary.txt for the trend of each model",
    ),
    "one checkpoint": (
        table("t", np.log10(PARAMETERS), PARAMETERS, 1e6 * ONES),
        "one number of training tokens only; add checkpoints of other steps",
    ),
    "one line through the grid": (
        table("t", np.arange(6), 10.0 ** np.arange(1, 7), 10.0 ** np.arange(6)),
        "the grid does not separate size, tokens and their interaction; add checkpoints, so that models of "
        "different sizes have equal tokens",
    ),
    "other metrics": (
        pd.concat([table("t", SLOPE, PARAMETERS, TOKENS, m) for m in ("loss", "bits_per_byte", "loss[a=1]")]),
        "the task has no metric accuracy; it has loss, bits_per_byte (set regression.metrics: {t: [loss]})",
    ),
}


@pytest.mark.parametrize("case", NO_REGRESSION)
def test_a_task_without_a_regression_says_why(case: str) -> None:
    metrics, reason = NO_REGRESSION[case]
    other = noisy(np.random.default_rng(5), task="other")
    found = regress(pd.concat([metrics, other]), metric="accuracy")
    assert found["task"].tolist() == ["t"] * 3 + ["other"] * 3
    assert found["term"].tolist() == [*TERMS, *TERMS]
    none = found[found["task"] == "t"]
    assert none["note"].unique().tolist() == [f"no regression: {reason}"]
    assert none[["estimate", "stderr", "t", "p", "p_adjusted"]].isna().all(axis=None)
    assert found[found["task"] == "other"]["p_adjusted"].notna().all()

    judged = verdicts(pd.concat([metrics, other]), found).set_index("task")
    assert judged.loc["t", "verdict"] == "undecided"
    assert judged.loc["t", "why"] == f"no regression: {reason}"
    assert judged.loc["t", "note"].startswith(f"no regression: {reason}")
    assert judged.loc["other", "why"] == "the slope over tokens is not significant at regression.alpha 0.05"


def test_by_default_every_task_has_its_main_metric() -> None:
    """A study of choices, documents and log-odds: no metric is taken for that of all."""
    accuracy = noisy(np.random.default_rng(6), 0.1, "choices")
    documents = [
        table("documents", 4 - SLOPE / 3 + 0.01 * np.log10(PARAMETERS), PARAMETERS, TOKENS, m)
        for m in ("perplexity", "bits_per_byte", "loss")
    ]
    odds = table("odds", SLOPE, PARAMETERS, TOKENS, "log_odds")
    imported = table("old", SLOPE, PARAMETERS, TOKENS, "lm_eval_f1")
    grouped = table("choices", SLOPE, PARAMETERS, TOKENS, "accuracy[part=1]")
    metrics = pd.concat([grouped, accuracy, *documents, odds, imported])
    found = regress(metrics)
    assert dict(zip(found["task"], found["metric"], strict=True)) == {
        "choices": "accuracy",
        "documents": "loss",
        "odds": "log_odds",
        "old": "lm_eval_f1",
    }
    assert found["t"].notna().all()
    judged = verdicts(metrics, found).set_index("task")
    assert judged["verdict"][["documents", "odds", "old"]].tolist() == ["rises", "undecided", "rises"]
    assert (
        judged["why"]["odds"] == "neither a higher nor a lower log_odds is better, so no change is a verdict"
    )


@pytest.mark.parametrize(
    ("column", "note"),
    [
        ("tokens", "4 of 28 cells left out: training tokens unknown"),
        ("parameters_non_embedding", "4 of 28 cells left out: non-embedding parameters unknown"),
    ],
)
def test_cells_without_tokens_or_parameters_are_left_out_and_counted(column: str, note: str) -> None:
    metrics = noisy(np.random.default_rng(6))
    unknown = metrics.iloc[:4].assign(value=99.0, **{column: 0})
    untrained = metrics.iloc[:4].assign(value=99.0, step=0, tokens=0)
    found = regress(pd.concat([unknown, untrained, metrics]))
    pd.testing.assert_frame_equal(found.drop(columns="note"), regress(metrics).drop(columns="note"))
    assert found["note"].unique().tolist() == [note]
    assert regress(pd.concat([untrained, metrics]))["note"].unique().tolist() == [""]


def test_only_the_metric_asked_for_counts() -> None:
    metrics = noisy(np.random.default_rng(7))
    both = pd.concat([metrics, metrics.assign(metric="margin", value=99.0)])
    pd.testing.assert_frame_equal(regress(both), regress(metrics))
    assert regress(both, metric="margin")["note"].str.contains("in every cell").all()


def ladder(slope_small: float, slope_large: float, metric: str = "accuracy") -> pd.DataFrame:
    """Two sizes at six checkpoints, each on its own line, with a little noise."""
    parameters, tokens = grid(sizes=2)
    slope = np.where(parameters == parameters.max(), slope_large, slope_small)
    noise = np.random.default_rng(8).normal(0, 1e-3, len(tokens))
    return table("t", 0.5 + slope * (np.log10(tokens) - 6) + noise, parameters, tokens, metric)


@pytest.mark.parametrize(
    ("metric", "sign"), [("accuracy", 1), ("margin", 1), ("classification_loss", -1)], ids=str
)
@pytest.mark.parametrize(
    ("small", "large", "verdict"),
    [(-0.05, -0.2, "ebbs with size"), (-0.2, -0.05, "ebbs"), (0.05, 0.2, "rises"), (0.2, -0.1, "undecided")],
)
def test_verdicts_follow_the_data(metric: str, sign: int, small: float, large: float, verdict: str) -> None:
    """A loss that grows is an ability that ebbs."""
    metrics = ladder(sign * small, sign * large, metric)
    found = verdicts(metrics, regress(metrics, metric=metric)).iloc[0]
    assert found["verdict"] == verdict
    assert found["decreased"] == (large < 0)
    assert found["consistent"] == (large < small)
    assert np.sign(found["change"]) == sign * np.sign(large)
    against = (
        "over all models the metric gets better with training, but the largest model ends worse than it began"
    )
    assert found["why"].startswith(against if verdict == "undecided" else "")
    assert bool(found["why"]) == (verdict == "undecided")
    assert found["metric"] == metric


def test_change_is_measured_within_one_model() -> None:
    """Two seeds of the largest size: first and last checkpoint are of the same one."""
    metrics = ladder(-0.1, -0.1)
    twin = metrics[metrics["parameters_total"] == metrics["parameters_total"].max()]
    twin = twin.assign(model="z-seed2", value=twin["value"] + 0.4)
    both = pd.concat([twin, metrics])
    found = verdicts(both, regress(both)).iloc[0]
    assert found["model"] == "m10000000"
    assert found["decreased"]


def test_one_checkpoint_shows_no_change() -> None:
    metrics = ladder(-0.1, -0.1)
    metrics = metrics[metrics["tokens"] == metrics["tokens"].min()]
    found = verdicts(metrics, regress(metrics)).iloc[0]
    assert not found["decreased"]
    assert np.isnan(found["change"])
    assert found["model"] == ""


def test_a_largest_model_with_one_checkpoint_is_said_in_words() -> None:
    metrics = ladder(-0.1, -0.1)
    largest = metrics["parameters_total"] == metrics["parameters_total"].max()
    alone = metrics[~largest | (metrics["tokens"] == metrics["tokens"].max())]
    found = verdicts(alone, regress(alone)).iloc[0]
    assert found["note"].endswith(
        "no change of the largest model: it has fewer than two checkpoints with training tokens"
    )
    assert verdicts(metrics, regress(metrics)).iloc[0]["note"] == ""


def test_the_largest_of_unknown_sizes_is_no_model() -> None:
    unknown = ladder(-0.1, -0.1).assign(parameters_non_embedding=0)
    found = verdicts(unknown, regress(unknown)).iloc[0]
    assert found["model"] == ""
    assert found["note"].endswith("no change of the largest model: the sizes of all models are unknown")
    one = unknown[unknown["parameters_total"] == unknown["parameters_total"].max()]
    assert verdicts(one, regress(one)).iloc[0]["model"] == one["model"].iloc[0]
