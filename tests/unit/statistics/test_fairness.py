"""Error rates by group: those of fairlearn, intervals that cover, and what a condition changes."""

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.contingency_tables import mcnemar as of_statsmodels

from ebbtide.errors import CellError, ConfigError, FigureError
from ebbtide.figures.fairness import plot_fairness
from ebbtide.statistics.fairness.rates import Answers, mcnemar, rates_of
from ebbtide.statistics.fairness.sentences import CAUTION, ratio_sentences
from ebbtide.statistics.fairness.tables import (
    COLUMNS,
    Collected,
    Groups,
    fairness_table,
    shots_used,
    spread_table,
)
from ebbtide.statistics.panel import Trajectory

LEVELS = ("a", "b")


def drawn(rng: np.random.Generator, n: int = 600, clusters: int = 600, fpr: tuple[float, float] = (0.4, 0.2)):
    """Answers with known rates; all examples of a cluster are alike."""
    kind = rng.integers(0, clusters, n) if clusters < n else np.arange(n)
    level = np.where(rng.random(clusters) < 0.5, "a", "b")[kind]
    truth = (rng.random(clusters) < 0.45)[kind]
    chance = np.where(level == "a", fpr[0], fpr[1])
    yes = np.where(truth, rng.random(clusters)[kind] < 0.7, rng.random(clusters)[kind] < chance)
    return Answers(np.arange(n).astype(str).astype(object), yes, truth, level.astype(object), kind)


def test_rates_are_those_of_fairlearn() -> None:
    metrics = pytest.importorskip("fairlearn.metrics", reason="fairlearn is not installed")
    answers = drawn(np.random.default_rng(3))
    functions = {
        "accuracy": lambda truth, yes: float(np.mean(truth == yes)),
        "fpr": metrics.false_positive_rate,
        "fnr": metrics.false_negative_rate,
    }
    frame = metrics.MetricFrame(
        metrics=functions,
        y_true=answers.truth.astype(int),
        y_pred=answers.yes.astype(int),
        sensitive_features=answers.level,
    )
    found = rates_of(answers, LEVELS)
    for rate in functions:
        by = frame.by_group[rate]
        assert abs(found[f"{rate}_first"] - by["a"]) < 1e-12
        assert abs(found[f"{rate}_second"] - by["b"]) < 1e-12
        assert abs(found[f"{rate}_ratio"] - by["a"] / by["b"]) < 1e-12
        smaller = min(found[f"{rate}_ratio"], 1 / found[f"{rate}_ratio"])
        assert abs(smaller - frame.ratio()[rate]) < 1e-12  # fairlearn's is the smaller over the larger
    assert abs(found["accuracy"] - frame.overall["accuracy"]) < 1e-12


@pytest.mark.parametrize("clusters", [600, 150])
def test_intervals_of_ratios_cover_the_truth_also_with_repeated_prompts(clusters: int) -> None:
    rng = np.random.default_rng(5)
    covered = []
    for _ in range(400):
        row = rates_of(drawn(rng, clusters=clusters), LEVELS)
        covered.append(row["fpr_ratio_low"] <= 2 <= row["fpr_ratio_high"])
    assert 0.92 <= np.mean(covered) <= 0.98  # 0.95 ± 2.7 standard errors


def test_a_rate_of_zero_has_no_interval_and_no_ratio_below_it() -> None:
    answers = drawn(np.random.default_rng(0), fpr=(0.4, 0.0))
    row = rates_of(answers, LEVELS)
    assert row["fpr_second"] == 0 and np.isnan(row["fpr_ratio"]) and np.isnan(row["fpr_ratio_low"])
    other = rates_of(answers, ("b", "a"))
    assert other["fpr_ratio"] == 0 and np.isnan(other["fpr_ratio_low"])
    assert np.isnan(rates_of(answers, ("a", "nobody"))["fpr_second"])


def test_mcnemar_is_that_of_statsmodels_on_the_examples_of_both() -> None:
    rng = np.random.default_rng(1)
    before, after = drawn(rng), drawn(rng)
    some = slice(100, None)
    after = Answers(*(getattr(after, name)[some] for name in ("examples", "yes")), before.truth[some],
                    before.level[some], before.clusters[some])  # fmt: skip
    found = mcnemar(before, after)
    one, other = before.right[some], after.right
    table = [[np.sum(one & other), np.sum(one & ~other)], [np.sum(~one & other), np.sum(~one & ~other)]]
    assert found["common"] == 500
    assert (found["better"], found["worse"]) == (table[1][0], table[0][1])
    assert found["p"] == pytest.approx(of_statsmodels(table, exact=True).pvalue, rel=1e-12)
    assert mcnemar(before, before)["p"] == 1.0


def trajectory(model: str, size: int, task: str, answers: Answers) -> Trajectory:
    yes, truth = answers.yes.astype(float), answers.truth
    values = {
        "accuracy": answers.right[None].astype(float),
        "false_positive_rate": np.where(truth, np.nan, yes)[None],
        "false_negative_rate": np.where(truth, 1 - yes, np.nan)[None],
    }
    checkpoints = pd.DataFrame({"checkpoint": ["s1"], "step": [1], "tokens": [100]})
    counts = {"total": size, "non_embedding": size, "active": size, "nominal": 0}
    return Trajectory(model, task, checkpoints, counts, answers.examples, answers.clusters, values)


def requests_of(answers: Answers) -> pd.DataFrame:
    high = np.where(np.arange(len(answers.yes)) % 3 == 0, "high", "low")
    return pd.DataFrame({"example": answers.examples, "group_race": answers.level, "group_compas": high})


def collected() -> tuple[Collected, Answers]:
    rng = np.random.default_rng(8)
    tasks = {name: drawn(rng) for name in ("x0", "x1", "y0", "y1")}
    first = tasks["x0"]
    same = {
        name: Answers(first.examples, of.yes, first.truth, first.level, first.clusters)
        for name, of in tasks.items()
    }
    groups = {name: Groups(requests_of(of), "race", "compas") for name, of in same.items()}
    found = Collected(
        {"without": ["x0", "x1"], "with": ["y0", "y1"]},
        LEVELS,
        groups,
        {"name": "COMPAS", "group": "compas", "positive": "high"},
        0.05,
    )
    for model, size in (("m1", 10), ("m2", 20)):
        for name, answers in same.items():
            found.add(trajectory(model, size, name, answers))
    found.add(trajectory("m1", 10, "another", first))  # of no condition
    return found, same["x1"]


def test_a_row_per_model_and_task_and_one_per_task_of_the_reference() -> None:
    found, x1 = collected()
    footers = [(("m1", "s1", "x1"), {"parts": {"kept_least": 24}}, {"few_shot": {"k": 50}})]
    table = fairness_table(found, shots_used(footers))
    assert list(table) == list(COLUMNS)
    reference = table[table["checkpoint"] == ""]
    assert reference["model"].unique().tolist() == ["COMPAS"] and len(reference) == 4
    high = np.arange(600) % 3 == 0
    assert reference.iloc[0]["fpr_first"] == pytest.approx(high[(x1.level == "a") & ~x1.truth].mean())
    row = table[(table["model"] == "m1") & (table["task"] == "x1")].iloc[0]
    assert row["fpr_ratio"] == pytest.approx(rates_of(x1, LEVELS)["fpr_ratio"])
    assert row["shots"] == "24 of 50" and row["against"] == ""
    assert table.loc[table["task"] == "y1", "against"].tolist()[1:] == ["x1", "x1"]
    assert shots_used([(("m", "s", "t"), {}, {"few_shot": {"k": 5}})]) == {("m", "s", "t"): "5"}

    spread = spread_table(table)
    one = spread[(spread["model"] == "m2") & (spread["condition"] == "with")].set_index("quantity")
    own = table[(table["model"] == "m2") & (table["condition"] == "with")]["fpr_ratio"]
    assert one.loc["fpr_ratio", ["mean", "lowest", "highest", "sd"]].tolist() == pytest.approx(
        [own.mean(), own.min(), own.max(), own.std()]
    )


def test_the_caution_stands_above_everything() -> None:
    table = fairness_table(collected()[0], {})
    sentences = ratio_sentences(table)
    assert sentences[0] == CAUTION
    assert sentences[1].startswith("COMPAS: accuracy 0.")
    assert sentences[2].startswith("m2 s1 (without): ") and "ratio " in sentences[2]
    drawn_rows = plot_fairness(table)
    assert drawn_rows.data["panel"].nunique() == 3
    with pytest.raises(FigureError, match="two sizes"):
        plot_fairness(table[table["model"] != "m1"])


def test_a_level_that_no_example_has_is_an_error_with_those_that_they_have() -> None:
    groups = Groups(requests_of(drawn(np.random.default_rng(0))), "race", "compas")
    groups.check(LEVELS, "high", "x")
    with pytest.raises(
        CellError, match=r"fairness.levels: found 'A', which no example of task x has; allowed: a, b"
    ):
        groups.check(("A", "b"), "high", "x")
    with pytest.raises(
        CellError, match=r"fairness.reference.positive: found 'High'.*allowed: high, low.*did you mean"
    ):
        groups.check(LEVELS, "High", "x")


def test_what_has_no_groups_or_no_answers_is_refused() -> None:
    answers = drawn(np.random.default_rng(0))
    with pytest.raises(CellError, match=r"no column group_sex \(found: group_race, group_compas\)"):
        Groups(requests_of(answers), "sex", None)
    found, _ = collected()
    bad = trajectory("m", 1, "x0", answers)
    del bad.values["false_positive_rate"]
    with pytest.raises(CellError, match=r"task x0 has no false_positive_rate; allowed: tasks of kind binary"):
        found.add(bad)


def test_conditions_are_checked_before_anything_runs() -> None:
    from types import SimpleNamespace

    from ebbtide.study.compared import check_fairness

    def task(kind: str, *groups: str) -> SimpleNamespace:
        return SimpleNamespace(
            kind=SimpleNamespace(name=kind), definition={"groups": dict.fromkeys(groups, "x")}
        )

    tasks = {"a": task("binary", "race", "compas"), "b": task("choice"), "c": task("binary", "rice")}
    section = {"group": "race", "levels": ["x", "y"], "reference": None}

    def refused(conditions: dict, **changes: object) -> str:
        with pytest.raises(ConfigError) as error:
            check_fairness({**section, "conditions": conditions, **changes}, tasks, "f: fairness")
        return str(error.value)

    assert "conditions.one: found 'd'; allowed: a, b, c" in refused({"one": ["d"]})
    assert "task b is of kind choice; allowed: binary" in refused({"one": ["b"]})
    assert "group: found 'race'; allowed, as groups of task c: rice" in refused({"one": ["c"]})
    assert "a is in 'one' and 'two'; allowed: in one" in refused({"one": ["a"], "two": ["a"]})
    reference = {"name": "R", "group": "r", "positive": "high"}
    assert "reference.group: found 'r'" in refused({"one": ["a"]}, reference=reference)
    check_fairness({**section, "conditions": {"one": ["a"]}}, tasks, "f: fairness")
