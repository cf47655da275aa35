"""Runs compared: the noise of examples, checkpoints and seeds counts once, and what is unknown is said."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2, ttest_ind
from scipy.stats import t as student

from ebbtide.statistics.detectable import noise_of
from ebbtide.statistics.panel import Trajectory
from ebbtide.statistics.runs.compare import RunsCompared, compare_runs
from ebbtide.statistics.runs.contrasts import contrast
from ebbtide.statistics.runs.curves import Curve, curve_of
from ebbtide.statistics.runs.differences import Difference, Part, detectable_shift
from ebbtide.statistics.runs.pairs import NotComparable, pair_of
from ebbtide.statistics.runs.seeds import seed_components
from ebbtide.statistics.runs.trend_noise import checkpoint_noise, is_long, local_scatter, trend_window
from simulate_run_studies import Study, arms_of_study, components, drawn, family, single
from simulate_runs import ALPHA, Setting, found, made_up, trajectories

SETTINGS: dict[str, Any] = {
    "reference": "a",
    "metrics": ["accuracy"],
    "alpha": 0.05,
    "last": 3,
    "tolerance": 0.0,
    "margin": 0.05,
    "adjust": "bh",
    "seeds": "per_arm",
    "seed_sd": None,
    "suites": {},
    "detect": 0.02,
}
TOKENS = np.arange(1, 9) * 1e9
NO_METRICS = pd.DataFrame(columns=["model", "task", "metric", "value", "stderr", "n", "chance", "tokens"])


def run(
    model: str,
    means: np.ndarray,
    *,
    task: str = "t",
    metric: str = "accuracy",
    n: int = 400,
    tokens: np.ndarray | None = None,
    flips: float = 0.02,
) -> Trajectory:
    """0/1 answers (T, n) on fixed examples: the easiest are right; a share flips at every checkpoint."""
    rng = np.random.default_rng([ord(c) for c in model + task])
    right = np.arange(n)[None, :] < np.round(np.asarray(means) * n)[:, None]
    values = (right ^ (rng.random(right.shape) < flips)).astype(float)
    tokens = TOKENS[: len(values)] if tokens is None else tokens
    steps = np.arange(1, len(values) + 1)
    places = pd.DataFrame({"checkpoint": [f"step{s}" for s in steps], "step": steps, "tokens": tokens})
    return Trajectory(model, task, places, {}, np.arange(n).astype(str), np.arange(n), {metric: values})


def arms(**models: str) -> pd.DataFrame:
    """`arms(a=["a1", "a2"])` is one arm with two runs; a model whose name ends in L has size large."""
    rows = [
        {"model": m, "arm": arm, "size": "large" if m.endswith("L") else "small", "seed": ""}
        for arm, names in models.items()
        for m in names.split()
    ]
    return pd.DataFrame(rows)


def compared(
    trajectories: list[Trajectory], table: pd.DataFrame, metrics: pd.DataFrame = NO_METRICS, **settings: Any
) -> RunsCompared:
    return compare_runs(trajectories, metrics, table, {**SETTINGS, **settings})


def last(result: RunsCompared, **where: str) -> Mapping[str, Any]:
    rows = result.differences[result.differences["scope"] == "last"]
    for name, value in where.items():
        rows = rows[rows[name] == value]
    [row] = rows.to_dict("records")
    return row


FLAT, UP = np.full(8, 0.5), np.full(8, 0.6)


def means_only(model: str, values: np.ndarray) -> Curve:
    return Curve(
        model, TOKENS[: len(values)], np.asarray(values, float), np.full((len(values), 1), np.nan), "", 9
    )


def test_one_checkpoint_of_two_runs_has_the_paired_error_of_their_examples() -> None:
    new, old = run("b1", UP[:1]), run("a1", FLAT[:1])
    result = compared([new, old], arms(a="a1", b="b1"))
    row = last(result)
    noise = noise_of(new.values["accuracy"], old.values["accuracy"], new.clusters, shares=False)
    assert row["difference"] == pytest.approx(noise.change[0])
    assert row["se"] == row["se_examples"] == pytest.approx(noise.error[0])
    assert row["df"] == pytest.approx(399)
    assert row["source_of_noise"] == "examples; not checkpoints, seeds"
    assert np.isnan(row["se_seeds"]) and np.isnan(row["se_checkpoints"])


@pytest.mark.parametrize("pooled", [True, False])
def test_without_errors_of_examples_runs_are_compared_by_the_t_test_of_their_means(pooled: bool) -> None:
    rng = np.random.default_rng(0)
    new, old = rng.normal(0.6, 0.03, (4, 3)), rng.normal(0.5, 0.01, (3, 3))
    pair = pair_of(
        "s",
        ("b", [means_only(f"b{i}", values) for i, values in enumerate(new)]),
        ("a", [means_only(f"a{i}", values) for i, values in enumerate(old)]),
        0.0,
    )
    one = contrast([pair], [np.arange(3)], pooled=pooled)
    expected = ttest_ind(new.mean(axis=1), old.mean(axis=1), equal_var=pooled)
    assert one.p() == pytest.approx(expected.pvalue)
    assert one.df(0.05) == pytest.approx(expected.df)
    assert one.interval(0.05) == pytest.approx(tuple(expected.confidence_interval()))
    assert one.source == f"checkpoints, seeds{' pooled' if pooled else ''}; not examples"


def test_examples_that_runs_share_count_once() -> None:
    """Runs of an arm that agree on every example add nothing; those with their own changes count once."""
    setting = Setting(runs=(8, 8), seeds=(0.0, 0.0), checkpoints=0.0, T=1, last=1, persistence=0.0, slope=0.0)
    draws = [found(setting, draw) for draw in range(150)]
    true = np.var([one.value for one in draws])
    assert np.mean([one.se**2 for one in draws]) == pytest.approx(true, rel=0.25)
    naive = np.mean([one.se**2 + one.se_examples**2 for one in draws])
    assert naive > 1.6 * true


@pytest.mark.parametrize(
    "setting",
    [
        Setting(runs=(3, 3)),
        Setting(runs=(3, 3), seeds=(0.03, 0.006), persistence=0.9),
        Setting(runs=(1, 1), given=True, binary=False, n=300),
        Setting(runs=(1, 1), seeds=(0.04, 0.04), given=True, estimated=3),
    ],
    ids=[
        "three runs",
        "unequal and persistent",
        "one run, seeds given",
        "one run, seeds given by three runs",
    ],
)
def test_intervals_cover_and_equivalence_is_rarely_wrong(setting: Setting) -> None:
    draws = [found(setting, draw, 0.05) for draw in range(200)]
    covered = np.mean([low <= 0.05 <= high for low, high in (one.interval(ALPHA) for one in draws)])
    wrong = np.mean([one.p_equivalent(0.05) < ALPHA for one in draws])
    assert 0.92 <= covered <= 0.99
    assert wrong <= 0.08


def test_one_run_per_arm_misses_the_noise_of_seeds_and_says_so() -> None:
    unknown = Setting(runs=(1, 1), seeds=(0.04, 0.04))
    draws = [found(unknown, draw) for draw in range(100)]
    assert np.mean([one.p() < ALPHA for one in draws]) > 0.15  # it cannot be right
    assert {one.source for one in draws} == {"examples, checkpoints; not seeds"}
    given = found(Setting(runs=(1, 1), seeds=(0.04, 0.04), given=True), 0)
    assert given.source == "examples, checkpoints, seeds (sd 0.04: given)"
    assert given.se_seeds == pytest.approx(0.04 * np.sqrt(2))


def test_seeds_of_one_arm_are_not_those_of_the_other() -> None:
    pair = made_up(np.random.default_rng(0), Setting(runs=(3, 1)))
    assert contrast([pair], [np.arange(5, 8)]).source == "examples, checkpoints, seeds of b; not seeds of a"
    assert contrast([pair], [np.arange(5, 8)], pooled=True).source == "examples, checkpoints, seeds pooled"


def test_a_table_of_seeds_noise_is_used_for_its_tasks_only() -> None:
    runs = [run(m, level, task=t) for m, level in (("a1", FLAT), ("b1", UP)) for t in ("t", "u")]
    table = pd.DataFrame({"task": ["t"], "metric": ["accuracy"], "sd": [0.03], "df": [4.0]})
    result = compared(runs, arms(a="a1", b="b1"), seed_sd={"source": "other study", "table": table})
    assert last(result, task="t")["source_of_noise"].endswith("seeds (sd 0.03: other study)")
    assert last(result, task="t")["df"] < 12
    assert last(result, task="u")["source_of_noise"].endswith("; not seeds")


def test_a_given_number_of_seeds_fits_single_tasks_in_shares_and_has_the_df_of_its_runs() -> None:
    runs = [run(m, level, task=t) for m, level in (("a1", FLAT), ("b1", UP)) for t in ("t", "u")]
    loss = [replace(one, values={**one.values, "choice_loss": one.values["accuracy"]}) for one in runs]
    suites = {"core": {"tasks": ["t"], "metric": "accuracy"}}
    both = {**SETTINGS, "metrics": ["accuracy", "choice_loss"], "suites": suites}
    given = {"sd": 0.03, "runs": 3, "source": "x"}
    table = arms(a="a1", b="b1")
    result = compare_runs(loss, NO_METRICS, table, {**both, "seed_sd": given})
    of = {
        (r["task"], r["suite"], r["metric"]): r
        for r in result.differences[result.differences["scope"] == "last"].to_dict("records")
    }
    assert of["t", "", "accuracy"]["se_seeds"] == pytest.approx(0.03 * np.sqrt(2))
    assert of["t", "", "accuracy"]["df"] < 4  # 2 of the sd, which both arms use, and those of the examples
    for key in (("t", "", "choice_loss"), ("", "core", "accuracy")):
        assert of[key]["source_of_noise"].endswith("; not seeds") and np.isnan(of[key]["se_seeds"])
    [notice] = [n for n in result.notices if n.detail.startswith("runs.seed_sd gives no noise of seeds")]
    assert "for 3 comparisons of single runs" in notice.detail and "accuracy of core" in notice.detail
    named = {**given, "sd": {"choice_loss": 0.1, "core": 0.02}}
    rows = compare_runs(loss, NO_METRICS, table, {**both, "seed_sd": named}).differences
    rows = rows.query("scope == 'last'")
    found = rows.set_index(["task", "suite", "metric"])["se_seeds"] / np.sqrt(2)
    assert found["t", "", "choice_loss"] == pytest.approx(0.1)
    assert found["", "core", "accuracy"] == pytest.approx(0.02)
    assert np.isnan(found["t", "", "accuracy"])


def test_checkpoint_noise_is_the_scatter_around_the_trend_beyond_that_of_examples() -> None:
    rng = np.random.default_rng(1)
    tokens, at, nothing = np.arange(25, 49) * 1e9, np.array([23]), np.zeros((24, 24))
    line = 0.3 + 0.1 * np.log10(tokens)
    assert checkpoint_noise(tokens, line, nothing, at).variance == 0
    assert np.isnan(checkpoint_noise(tokens[:3], line[:3], nothing, at[:1] * 0).variance)
    draws = [line + 0.02 * rng.standard_normal(24) for _ in range(60)]
    alone = [local_scatter(tokens, y, nothing, at) for y in draws]
    assert np.mean(alone) == pytest.approx(0.02**2, rel=0.3)
    explained = [local_scatter(tokens, y, np.eye(24) * 0.02**2, at) for y in draws]
    assert abs(np.mean(explained)) < 0.25 * np.mean(alone)
    with_examples = [checkpoint_noise(tokens, y, np.eye(24) * 0.02**2, at).variance for y in draws]
    without = [checkpoint_noise(tokens, y, nothing, at).variance for y in draws]
    assert np.mean(with_examples) < 0.5 * np.mean(without)
    slow = np.cumsum(0.005 * rng.standard_normal((60, 24)), axis=1)
    persistence = [
        np.mean([checkpoint_noise(tokens, y, nothing, at).persistence for y in of]) for of in (draws, slow)
    ]
    assert persistence[0] < 0.35 and persistence[1] > 0.6


def test_checkpoints_are_aligned_by_tokens_and_what_is_left_out_is_counted() -> None:
    near = TOKENS * 1.01
    runs = [run("a1", FLAT), run("b1", UP, tokens=near)]
    exact = compared(runs, arms(a="a1", b="b1"))
    assert exact.differences.empty
    assert [n.kind for n in exact.notices] == ["not_compared"]
    assert "no checkpoint at the same training tokens" in exact.notices[0].detail
    close = compared([runs[0], run("b1", UP[:5], tokens=near[:5])], arms(a="a1", b="b1"), tolerance=0.02)
    points = close.differences[close.differences["scope"] == "point"]
    assert points["tokens_reference"].tolist() == TOKENS[:5].tolist()
    assert points["tokens"].tolist() == near[:5].tolist()
    counts = [(n.severity, n.kind, n.count) for n in close.notices]
    assert counts[:3] == [("note", "defaulted", 5), ("note", "dropped", 3), ("warning", "dropped", 1)]


def test_a_run_that_ends_early_is_named_in_the_sentence_and_a_warning() -> None:
    runs = [run(m, UP if m[0] == "b" else FLAT) for m in ("a1", "a2", "b1")]
    table = arms(a="a1 a2", b="b1 b2")
    result = compared([*runs, run("b2", UP[:4])], table)
    words = "at 4B of 8B tokens, because b2 ends there"
    [sentence] = result.sentences["sentence"]
    assert f" at small, {words}; " in sentence
    [warning] = [n for n in result.notices if n.severity == "warning"]
    assert warning.detail == f"b and a at size small are compared {words} (on t)."
    whole = compared([*runs, run("b2", UP)], table)
    assert "because" not in whole.sentences["sentence"][0] and not whole.notices
    other = compared([*runs, run("b2", UP[::2], tokens=TOKENS[::2])], table)  # its last is the 7th of 8
    assert "at 7B of 8B tokens, because b2 ends there" in other.sentences["sentence"][0]
    apart = TOKENS.copy()
    apart[-1] += 1e8
    moved = compared([*runs, run("b2", UP, tokens=apart)], table)
    assert "because later checkpoints of the runs are not at the same" in moved.sentences["sentence"][0]
    both = [run(m, FLAT, task=t) for m in ("a1", "b1") for t in ("t", "u")]
    both[-1] = run("b1", FLAT[:4], task="u")
    assert "because b1 ends there (u);" in compared(both, arms(a="a1", b="b1")).sentences["sentence"][0]
    sizes = [*both[:1], both[2], run("aL", FLAT), run("bL", FLAT[:4])]
    over = compared(sizes, arms(a="a1 aL", b="b1 bL")).sentences.set_index("size")["sentence"]
    assert "over all sizes, size large at 4B of 8B tokens, because bL ends there;" in over["all"]


def test_a_checkpoint_is_aligned_only_once() -> None:
    old = means_only("a", np.zeros(8))
    new = Curve("b", np.array([3.4e9, 8e9]), np.ones(2), np.full((2, 1), np.nan), "", 9)
    pair = pair_of("s", ("b", [new]), ("a", [old]), 0.5)
    assert pair.reference.tokens.tolist() == [3e9, 8e9]


def test_other_examples_are_not_compared() -> None:
    result = compared([run("a1", FLAT), run("b1", UP, n=300)], arms(a="a1", b="b1"))
    assert result.differences.empty and "not scored on the same examples" in result.notices[0].detail
    with pytest.raises(NotComparable, match="same examples"):
        pair_of(
            "s",
            ("b", [curve_of(run("b1", UP, n=300), "accuracy")]),
            ("a", [curve_of(run("a1", FLAT), "accuracy")]),
            0.0,
        )


def test_a_run_without_a_task_is_left_out_and_named() -> None:
    runs = [run("a1", FLAT), run("a2", FLAT), run("b1", UP), run("b2", UP, task="u")]
    result = compared(runs, arms(a="a1 a2", b="b1 b2"))
    row = last(result, task="t")
    assert (row["runs"], row["runs_reference"]) == (1, 2)
    assert any("without b2" in n.detail for n in result.notices)
    assert any("u at size small: b and a are not compared" in n.detail for n in result.notices)


def test_runs_with_unknown_tokens_are_named_once_each() -> None:
    none = np.zeros(8)
    runs = [run(m, UP, task=t, tokens=none) for m in ("a1", "b1") for t in ("t", "u")]
    result = compared(runs, arms(a="a1", b="b1"))
    assert result.differences.empty
    assert [n.model for n in result.notices] == ["a1", "b1"]
    assert result.notices[0].detail == (
        "a1 is not compared with other runs: none of its checkpoints has known training tokens."
    )
    half = compared([*runs[:2], run("b1", UP)], arms(a="a1", b="b1"))
    assert {n.model for n in half.notices if "training tokens" in n.detail} == {"a1"}
    means = pd.DataFrame(
        {"model": ["a1", "b1"], "task": "t", "metric": "accuracy", "value": 0.5, "tokens": np.nan}
    ).assign(stderr=0.1, n=100, chance=0.0)
    assert [n.model for n in compared([], arms(a="a1", b="b1"), means).notices] == ["a1", "b1"]


def test_imported_means_are_compared_without_pairing() -> None:
    rows = pd.DataFrame(
        {
            "model": np.repeat(["a1", "b1"], 8),
            "task": "t",
            "metric": "accuracy",
            "value": np.r_[FLAT, UP] + np.tile([0.004, -0.004], 8),
            "stderr": 0.01,
            "n": 2500,
            "chance": 0.25,
            "tokens": np.tile(TOKENS, 2),
        }
    )
    row = last(compared([], arms(a="a1", b="b1"), rows))
    assert row["se_examples"] == pytest.approx(0.01 * np.sqrt(2))
    assert row["note"].startswith("only means are known")


def test_without_any_known_noise_the_interval_is_unknown_and_says_so() -> None:
    rows = pd.DataFrame(
        {"model": model, "task": task, "metric": "accuracy", "value": value, "n": 200, "tokens": 1e6}
        for model, value in (("a1", 0.3), ("b1", 0.4))
        for task in ("t", "u")
    ).assign(stderr=np.nan, chance=0.0)
    suites = {"core": {"tasks": ["t", "u"], "metric": "accuracy"}}
    result = compared([], arms(a="a1", b="b1"), rows, suites=suites)
    row = last(result, task="t")
    assert row["source_of_noise"] == "nothing; not examples, checkpoints, seeds"
    assert "checkpoint noise that persists is not in the interval" in row["note"]
    [sentence] = result.sentences["sentence"]
    assert "suite +10.0 (interval unknown); no noise is known" in sentence


def test_a_suite_is_the_mean_of_rescaled_accuracies_with_its_own_interval() -> None:
    runs = [run(m, level, task=t) for m, level in (("a1", FLAT), ("b1", UP)) for t in ("t", "u")]
    chances = pd.DataFrame({"model": "a1", "task": ["t", "u"], "metric": "accuracy", "chance": [0.5, 0.25]})
    metrics = pd.concat([NO_METRICS, chances])
    suites = {"core": {"tasks": ["t", "u"], "metric": "accuracy"}}
    result = compared(runs, arms(a="a1", b="b1"), metrics, suites=suites)
    parts = [last(result, task=t) for t in ("t", "u")]
    suite = last(result, suite="core")
    weights = np.array([1 / 0.5, 1 / 0.75]) / 2
    assert suite["difference"] == pytest.approx(weights @ [one["difference"] for one in parts])
    errors = weights**2 @ [one["se_examples"] ** 2 for one in parts]
    assert suite["se_examples"] == pytest.approx(np.sqrt(errors))
    resampled = compared(
        runs, arms(a="a1", b="b1"), metrics, suites={"core": {**suites["core"], "resample_tasks": True}}
    )
    spread = np.std(2 * weights * [one["difference"] for one in parts], ddof=1) / np.sqrt(2)
    assert last(resampled, suite="core")["se_examples"] == pytest.approx(spread)
    unknown = compared(runs, arms(a="a1", b="b1"), suites=suites)
    assert "chance level is unknown" in unknown.notices[0].detail
    lacking = compared(runs[:3], arms(a="a1", b="b1"), metrics, suites=suites)
    assert any("Suite core has no value for b1" in n.detail for n in lacking.notices)


def test_sizes_are_averaged_over_the_same_examples() -> None:
    runs = [run(m, level) for m, level in (("a1", FLAT), ("b1", UP), ("aL", FLAT), ("bL", UP + 0.1))]
    result = compared(runs, arms(a="a1 aL", b="b1 bL"))
    parts = [last(result, size=size) for size in ("small", "large")]
    both = last(result, size="all")
    assert both["difference"] == pytest.approx(np.mean([one["difference"] for one in parts]))
    assert np.isnan(both["tokens"])
    apart = np.sqrt(np.sum([one["se_examples"] ** 2 for one in parts])) / 2
    assert both["se_examples"] > 1.1 * apart  # the same examples are better in both sizes


def test_verdicts_and_their_sentence() -> None:
    levels = {"better": 0.62, "worse": 0.38, "same": 0.5, "unclear": 0.53}
    runs = [run(m, FLAT, task=t, n=4000) for t in levels for m in ("a1", "a2", "a3")]
    shift = {"b1": 0.0, "b2": 0.002, "b3": -0.002}
    wide = {"b1": 0.0, "b2": 0.05, "b3": -0.05}
    runs += [
        run(m, np.full(8, level + (wide if t == "unclear" else shift)[m]), task=t, n=4000)
        for t, level in levels.items()
        for m in shift
    ]
    result = compared(runs, arms(a="a1 a2 a3", b="b1 b2 b3"))
    verdicts = result.verdicts.set_index("task")
    assert verdicts["verdict"].to_dict() == {
        "better": "wins",
        "worse": "loses",
        "same": "equivalent",
        "unclear": "undecided",
    }
    assert verdicts["reason"]["same"].startswith("within ±0.05 (adjusted p")
    assert "is found with 80 % probability" in verdicts["reason"]["unclear"]
    [sentence] = result.sentences["sentence"]
    assert sentence.startswith(
        "b leads on 1 of 4 tasks (trails on 1, equals on 1, undecided on 1) at small; with 3 seeds each, "
        "differences below "
    )
    assert sentence.endswith("cannot be told from another seed.")
    alone = compared([r for r in runs if r.model in ("a1", "b1")], arms(a="a1", b="b1"))
    assert "the noise of seeds is unknown" in alone.sentences["sentence"][0]
    assert alone.verdicts["reason"].str.endswith("this compares these runs, not their recipes").all()


def test_a_lower_loss_wins() -> None:
    runs = [run("a1", UP, metric="choice_loss"), run("b1", FLAT, metric="choice_loss")]
    [row] = compare_runs(
        runs, NO_METRICS, arms(a="a1", b="b1"), {**SETTINGS, "metrics": ["choice_loss"]}
    ).verdicts.to_dict("records")
    assert row["difference"] < 0 and row["verdict"] == "wins" and np.isnan(row["p_equivalent"])


def test_tokens_saved() -> None:
    rising = 0.3 + 0.3 * np.log10(TOKENS / 1e9)
    faster = 0.3 + 0.3 * np.log10(2 * TOKENS / 1e9)  # the same curve in half the tokens
    runs = [run("a1", rising, n=20_000), run("b1", faster, n=20_000)]
    table = arms(a="a1", b="b1")
    [saved] = compared(runs, table, last=1).verdicts.to_dict("records")
    assert saved["token_ratio"] == pytest.approx(0.5, abs=0.03)
    assert saved["token_ratio_low"] < 0.5 < saved["token_ratio_high"] < 0.7
    [lost] = compared(runs, table, last=1, reference="b").verdicts.to_dict("records")
    assert np.isnan(lost["token_ratio"]) and np.isinf(lost["token_ratio_high"])
    assert "not reached" in lost["token_note"]


def test_the_detectable_difference_is_that_of_the_noncentral_t() -> None:
    assert detectable_shift(1e7, 0.05) == pytest.approx(2.802, abs=1e-3)
    drawn = np.random.default_rng(0)
    shift, df = detectable_shift(4.0, 0.05), 4
    t = (drawn.standard_normal(40_000) + shift) / np.sqrt(drawn.chisquare(df, 40_000) / df)
    assert np.mean(t > student.isf(0.025, df)) == pytest.approx(0.8, abs=0.01)


def made_of(value: float, *parts: Part) -> Difference:
    return Difference(value, parts, np.nan, np.nan, np.nan, "")


def test_quantiles_of_runs_and_examples_are_weighted_by_their_variances() -> None:
    """Cochran & Cox (1950); p, interval and degrees of freedom agree."""
    runs, examples = Part(3e-4, 2.0, between_runs=True), Part(1e-4, 400.0)
    one = made_of(0.05, runs, examples)
    expected = 0.75 * student.isf(0.025, 2) + 0.25 * student.isf(0.025, 400)
    assert one.critical(0.05) == pytest.approx(expected)
    assert student.isf(0.025, one.df(0.05)) == pytest.approx(expected)
    assert one.interval(0.05) == pytest.approx((0.05 - 0.02 * expected, 0.05 + 0.02 * expected))
    for alpha in (0.3, 0.05, 1e-4):
        at_limit = made_of(one.critical(alpha) * 0.02, runs, examples)
        assert at_limit.p() == pytest.approx(alpha)
        assert at_limit.p_equivalent(0.0) == pytest.approx(1 - alpha / 2)
    together = made_of(0.05, Part(1e-4, 3.0), Part(3e-4, 400.0))  # none between runs: Satterthwaite
    assert together.df(0.05) == pytest.approx(4e-4**2 / (1e-4**2 / 3 + 3e-4**2 / 400))
    assert 0 < made_of(1e6, runs, examples).p() < 1e-10
    assert np.isnan(made_of(0.1).se)


def test_runs_that_agree_by_chance_do_not_make_a_difference() -> None:
    """The tail counts in a family of tests, where few runs have most of the noise, and examples the rest."""
    rng = np.random.default_rng(0)
    seeds, examples, draws = 3e-4, 1e-4, 30_000
    values = rng.normal(0, np.sqrt(seeds + examples), draws)
    variances = seeds * rng.chisquare(2, draws) / 2
    near = np.flatnonzero(values**2 > 8 * (variances + examples))  # p of the others is above 0.005
    p = [
        made_of(values[i], Part(variances[i], 2.0, between_runs=True), Part(examples, 400.0)).p()
        for i in near
    ]
    joined = [made_of(values[i], Part(variances[i], 2.0), Part(examples, 400.0)).p() for i in near]
    assert np.sum(np.array(p) < 0.002) / draws < 0.004
    assert np.sum(np.array(joined) < 0.002) / draws > 0.008  # Satterthwaite over all parts


def test_power_at_the_detectable_difference_where_noise_is_uneven() -> None:
    rng = np.random.default_rng(1)
    true = np.array([3e-4, 1.2e-5, 1e-4])
    df = np.array([2.0, 2.0, 400.0])
    drawn = true * rng.chisquare(df, (1500, 3)) / df
    ones = [
        made_of(0.0, *(Part(v, f, between_runs=f < 3) for v, f in zip(of, df, strict=True))) for of in drawn
    ]
    mde = float(np.median([one.detectable(0.05) for one in ones]))
    values = rng.normal(mde, np.sqrt(true.sum()), len(ones))
    found = [abs(v) > one.critical(0.05) * one.se for v, one in zip(values, ones, strict=True)]
    assert 0.74 <= np.mean(found) <= 0.85


def test_runs_that_all_score_the_same_do_not_promise_that_two_seeds_suffice() -> None:
    same = [run(f"a{i}", np.ones(8), flips=0.0) for i in range(3)]
    [row] = seed_components(same, NO_METRICS, arms(a="a0 a1 a2"), SETTINGS).to_dict("records")
    assert np.isnan(row["seeds_needed"]) and row["note"].startswith("all runs have the same value")


def test_two_arms_of_one_recipe_have_no_wins_in_a_family_of_tasks() -> None:
    """Noise of seeds differs between the arms, where few runs agree by chance in some of the tasks."""
    of = Study(runs=(3, 3), seeds=(0.03, 0.006), tasks=12, n=150)
    called, *_ = family("A/A", of, 40, np.zeros((12, 1)), 0.06)
    assert called["found"] <= 0.075


def test_the_interval_of_a_suite_covers() -> None:
    of = Study(runs=(3, 3), tasks=3, n=150)
    covers, *_ = single("suite", of, 60, "suite")
    assert covers["draws"] == 60 and 0.9 <= covers["found"] <= 1


def test_components_of_runs() -> None:
    draws = []
    for draw in range(30):
        rng = np.random.default_rng(draw)
        levels = 0.5 + 0.04 * rng.standard_normal(9)
        runs = [
            run(f"a{i}", np.full(8, level) + 0.01 * rng.standard_normal(8), n=2000)
            for i, level in enumerate(levels)
        ]
        table = seed_components(runs, NO_METRICS, arms(a=" ".join(r.model for r in runs)), SETTINGS)
        draws.append(table.iloc[0])
    found = pd.DataFrame(draws)
    assert (found["sd_seeds"] ** 2).mean() == pytest.approx(0.04**2, rel=0.2)
    assert (found["sd_checkpoints"] ** 2).mean() == pytest.approx(0.01**2, rel=0.35)
    assert ((found["sd_seeds_low"] <= 0.04) & (found["sd_seeds_high"] >= 0.04)).mean() >= 0.85
    one = found.iloc[0]
    typical = one["sd_runs"] / np.sqrt(chi2.ppf(0.5, 8) / 8)
    for seeds, enough in ((one["seeds_needed"] - 1, False), (one["seeds_needed"], True)):
        mde = typical * np.sqrt(2 / seeds) * detectable_shift(2 * seeds - 2, 0.05)
        assert (mde <= SETTINGS["detect"]) == enough
    assert one["note"].startswith("without noise of examples")


def test_seeds_needed_count_the_examples_that_more_seeds_do_not_lower() -> None:
    of = Study(runs=(3, 3), tasks=1, n=1000, seeds=(0.02, 0.02), settings=(("detect", 0.04),))
    hidden = components(replace(of, settings=(("detect", 0.005),)), 0)
    assert hidden["seeds_needed"].isna().all()
    assert hidden["note"].str.startswith("no number of seeds suffices: examples alone hide").all()
    rows = components(of, 0)
    assert rows["seeds_needed"].notna().all() and rows["note"].isna().sum() + (rows["note"] == "").sum() == 2
    alone = seed_components(
        drawn(np.random.default_rng(0), replace(of, runs=(3, 1)), np.zeros((1, 1))),
        NO_METRICS,
        arms_of_study(replace(of, runs=(3, 1))).query("arm == 'b'"),
        of.options(),
    )
    assert alone["note"].str.startswith("without noise of examples").all()


@pytest.mark.parametrize("runs", [2, 9])
def test_the_learning_curve_is_not_checkpoint_noise(runs: int) -> None:
    """A curve that rises early and is flat at the end, over eight doublings of tokens."""
    of = Setting(runs=(runs, 1), seeds=(0.04, 0.0), checkpoints=0.01, persistence=0.0, n=2000, curved=True)
    draws = []
    for draw in range(20):
        models = trajectories(np.random.default_rng(draw), of)[:runs]
        table = seed_components(models, NO_METRICS, arms(a=" ".join(m.model for m in models)), SETTINGS)
        draws.append(table.iloc[0])
    found = pd.DataFrame(draws)
    assert (found["sd_checkpoints"] ** 2).mean() < 2 * 0.01**2
    assert (found["sd_seeds"] > 0).mean() >= 0.8
    if runs == 9:
        assert (found["sd_seeds"] ** 2).mean() == pytest.approx(0.04**2, rel=0.25)
        assert (found["sd_checkpoints"] ** 2).mean() == pytest.approx(0.01**2, rel=0.4)


def test_the_trend_of_checkpoint_noise_spans_at_most_half_of_training_or_a_note_says_so() -> None:
    near, doubled = np.arange(1, 41) * 1e9, 2.0 ** np.arange(20, 28)
    assert trend_window(near, np.arange(35, 40)) == slice(19, 40)
    assert trend_window(near, np.array([30])) == slice(19, 40) and not is_long(near[19:40])
    assert trend_window(doubled, np.arange(5, 8)) == slice(4, 8) and is_long(doubled[4:8])
    assert trend_window(doubled, np.arange(2, 8)) == slice(2, 8)
    assert trend_window(doubled[:3], np.array([2])) == slice(0, 3)
    early = np.array([0.1, 0.1, 0.3, 0.45, 0.5, 0.5, 0.5, 0.5])
    ends = {}
    for name, tokens in (("doubled", doubled), ("even", np.linspace(9, 16, 8) * 1e9)):
        runs = [run(m, early, tokens=tokens, n=2000) for m in ("a1", "b1", "b2")]
        result = compared(runs[:2], arms(a="a1", b="b1"))
        noted = [bool(re.search("learning counts as noise", n.detail)) for n in result.notices]
        ends[name] = ("learning counts as noise" in last(result)["note"], any(noted))
        several = compared([*runs, run("a2", early, tokens=tokens, n=2000)], arms(a="a1 a2", b="b1 b2"))
        assert "learning" not in last(several)["note"] and not several.notices
    assert ends == {"doubled": (True, True), "even": (False, False)}
    [alone] = seed_components([run("a1", early, tokens=doubled)], NO_METRICS, arms(a="a1"), SETTINGS).to_dict(
        "records"
    )
    assert alone["note"].endswith("learning counts as noise") and alone["sd_checkpoints"] < 0.02


def test_one_run_has_no_component_of_seeds() -> None:
    [row] = seed_components([run("a1", FLAT)], NO_METRICS, arms(a="a1"), SETTINGS).to_dict("records")
    assert np.isnan(row["sd_seeds"]) and np.isnan(row["seeds_needed"])
    assert row["note"] == "one run: nothing is known of seeds" and row["sd_examples"] > 0
