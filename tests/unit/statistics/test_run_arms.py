"""From a study to a comparison of runs: arms with sizes from metrics, settings in full, and doubts."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ebbtide.errors import ConfigError
from ebbtide.exchange.specification import check_row
from ebbtide.grid import Model
from ebbtide.schema import check, load_schema
from ebbtide.statistics.panel import Trajectory
from ebbtide.statistics.replicates import places_of, places_of_study, replicate_notices, replicates
from ebbtide.statistics.runs.arms import comparison_of, seed_noise
from ebbtide.statistics.runs.compare import compare_runs
from ebbtide.statistics.runs.seeds import COLUMNS, seed_components
from ebbtide.statistics.runs.units import curves_of_units
from ebbtide.study.arms import Run, imported_runs, stated_runs

TOKENS = [100, 200, 300, 400]


def settings(**more: object) -> dict[str, Any]:
    return check({"runs": more, "study": "s"}, load_schema("config"), "mine.yaml")["runs"]


def means(accuracy: dict[str, float], *, nominal: int = 70_000_000, total: int = 70_426_624) -> pd.DataFrame:
    """Imported means of every model at four checkpoints, on two tasks of 400 examples."""
    return pd.DataFrame(
        {
            "model": model,
            "checkpoint": f"step{tokens}",
            "step": tokens,
            "tokens": tokens,
            "parameters_total": total,
            "parameters_non_embedding": total // 2,
            "parameters_active": total // 2,
            "parameters_nominal": nominal,
            "task": task,
            "metric": "accuracy",
            "value": value,
            "stderr": 0.02,
            "n": 400,
            "chance": 0.5,
            "source": "imported",
        }
        for model, value in accuracy.items()
        for task in ("qa", "sums")
        for tokens in TOKENS
    )


METRICS = means({"a0": 0.6, "a1": 0.61, "b0": 0.7, "b1": 0.71, "c": 0.6})
STATED = [*(Run(f"a{s}", "a", s) for s in (0, 1)), *(Run(f"b{s}", "b", s) for s in (0, 1)), Run("c")]


def test_arms_of_rows_get_the_sizes_of_their_metrics() -> None:
    table, full, notices = comparison_of(STATED, METRICS, settings(suites={"both": ["qa", "sums"]}))
    assert table["model"].tolist() == ["a0", "a1", "b0", "b1"]
    assert set(table["size"]) == {"70M"} and set(table["parameters"]) == {70_000_000}
    assert full["reference"] == "a"
    assert full["suites"] == {
        "both": {"tasks": ["qa", "sums"], "metric": "accuracy", "resample_tasks": False}
    }
    details = [notice.detail for notice in notices]
    assert details == [
        "Arms are compared with a, the first.",
        "Models without an arm are not in the comparison of runs: c.",
        "2 runs (b0, b1) have the seed of a run of a; they are compared as independent runs. What the same "
        "seed has in common in two arms is then in the intervals, which are too wide rather than too narrow.",
    ]


def test_of_a_single_arm_only_the_noise_of_its_seeds_is_estimated() -> None:
    table, full, notices = comparison_of(STATED, METRICS, settings(arms={"a": ["a*"]}))
    assert (
        notices[0].detail == "a is the only arm: no runs are compared. seeds.tsv has the noise of its seeds."
    )
    compared = compare_runs([], METRICS, table, full)
    assert compared.differences.empty and compared.verdicts.empty and compared.sentences.empty
    noise = seed_components([], METRICS, table, full)
    assert noise["runs"].tolist() == [2, 2] and noise["sd_runs"].gt(0).all()
    assert not seed_noise(noise.assign(sd_seeds=0.01)).empty  # another study can borrow it


def test_imported_models_are_in_arms_by_their_names() -> None:
    section = settings(arms={"new": ["b*"], "old": ["a*", "c"]}, reference="old")
    table, full, notices = comparison_of([], METRICS, section)
    assert table["arm"].tolist() == ["new", "new", "old", "old", "old"]
    assert table["seed"].isna().all() and notices == []
    assert full["reference"] == "old"


def test_the_comparison_runs_on_these_settings_as_they_are() -> None:
    section = settings(suites={"both": {"tasks": ["qa", "sums"], "resample_tasks": True}})
    table, full, _ = comparison_of(STATED, METRICS, section)
    compared = compare_runs([], METRICS, table, full)
    last = compared.verdicts.set_index(["task", "suite"])
    assert last.loc[("qa", ""), "difference"] == pytest.approx(0.1)
    assert last.loc[("", "both"), "difference"] == pytest.approx(0.2)  # chance is 0 and all right is 1
    assert compared.sentences["sentence"].tolist()[0].startswith("b leads on ")
    assert list(seed_components([], METRICS, table, full)) == list(COLUMNS)


def test_an_unknown_task_is_refused_once_the_imports_are_known() -> None:
    with pytest.raises(ConfigError, match=r"runs\.suites\.all: found 'q', without any metrics; allowed: qa"):
        comparison_of(STATED, METRICS, settings(suites={"all": ["qa", "q"]}))
    with pytest.raises(ConfigError, match=r"runs\.arms\.b: found 'd\*', which matches no model"):
        comparison_of(STATED, METRICS, settings(arms={"a": ["a*"], "b": ["d*"]}))


def test_sizes_in_one_arm_only_unknown_sizes_and_repeated_seeds_are_said() -> None:
    large = means({"b2": 0.8}, nominal=0, total=1_400_000)
    stated = [*STATED[:4], Run("b2", "b", 0)]
    _, _, notices = comparison_of(stated, pd.concat([METRICS, large]), settings(reference="a"))
    assert [n.detail for n in notices if n.kind == "not_compared"] == [
        "b at 1.4M is not compared, because a has no run of this size."
    ]
    unknown = means({m: 0.6 for m in ("a0", "b0", "b1")}, nominal=0, total=0).assign(
        parameters_non_embedding=0
    )
    stated = [Run("a0", "a"), Run("b0", "b", 3), Run("b1", "b", 3)]
    table, _, notices = comparison_of(stated, unknown, settings(reference="a"))
    assert set(table["size"]) == {"unknown size"}
    first, second = notices
    assert first.detail == "a0, b0, b1 of unknown size are compared as if they had the same size."
    assert (second.kind, second.count) == ("suspicious", 2)
    assert second.detail.startswith("2 models (b0, b1) have the same seed")


def test_arms_that_share_seeds_are_compared_as_independent_and_the_notice_says_so() -> None:
    _, _, notices = comparison_of(STATED[:4], METRICS, settings(reference="a"))
    [notice] = notices[-1:]
    assert notice.severity == "note" and notice.count == 2
    assert notice.detail.startswith("2 runs (b0, b1) have the seed of a run of a; they are compared as")
    other = [*STATED[:2], Run("b0", "b", 2), Run("b1", "b", 3)]
    _, _, notices = comparison_of(other, METRICS, settings(reference="a"))
    assert not any("seed" in n.detail for n in notices)


def test_the_seed_noise_of_another_study_is_averaged_over_its_arms() -> None:
    """Variances are weighted by degrees of freedom; arms of one run have none."""
    rows = [
        ("qa", "", "x", 3, 0.03),
        ("qa", "", "y", 5, 0.0),
        ("qa", "", "z", 1, None),
        ("", "s", "x", 2, 0.1),
    ]
    table = pd.DataFrame(rows, columns=["task", "suite", "arm", "runs", "sd_seeds"])
    table = table.assign(metric="accuracy", size="70M")
    found = seed_noise(table).set_index("task")
    assert found.loc["qa", "sd"] == pytest.approx((2 * 0.03**2 / 6) ** 0.5)
    assert seed_noise(table[table["arm"] == "y"]).empty  # 0 is below the other noise, which is not known
    assert found.loc["qa", "df"] == 6 and found.loc["s", "sd"] == pytest.approx(0.1)
    with pytest.raises(ConfigError, match=r"runs\.seed_sd\.table: found a table without runs"):
        seed_noise(table.drop(columns="runs"))
    with pytest.raises(ConfigError, match="no arm with two or more runs"):
        seed_noise(table[table["arm"] == "z"])
    section = settings(arms={"a": ["a0"], "b": ["b0"]}, seed_sd={"table": "t.tsv", "source": "elsewhere"})
    arms, full, _ = comparison_of(STATED, METRICS, section, table)
    verdicts = compare_runs([], METRICS, arms, full).differences
    assert "elsewhere" in verdicts[verdicts["task"] == "qa"]["source_of_noise"].iloc[0]


def test_models_of_one_arm_and_size_are_replicates() -> None:
    runs = [
        *(Run(f"small-{seed}", seed=seed, nominal=160_000_000) for seed in range(3)),
        Run("large", seed=0, nominal=410_000_000),
        Run("other-0", arm="facts", nominal=160_000_000),
        Run("other-1", arm="facts", nominal=160_000_000),
        Run("unknown-0", arm="plain"),
        Run("unknown-1", arm="plain"),
    ]
    assert replicates(places_of(runs, {})) == {
        **{f"small-{seed}": "160M" for seed in range(3)},
        "other-0": "facts 160M",
        "other-1": "facts 160M",
    }
    assert not replicates(places_of([Run("a", nominal=9), Run("b", nominal=9)], {}))  # nothing says they are


def test_named_arms_override_the_stated_ones_and_leave_others_as_they_are() -> None:
    runs = [Run(f"{arm}{seed}", arm, seed, 100) for arm in "abcd" for seed in range(3)]
    every = {run.model: f"{run.arm} 100" for run in runs}
    assert replicates(places_of(runs, {})) == every
    assert replicates(places_of(runs, {"a": ["a*"], "b": ["b*"]})) == every
    mixed = replicates(places_of(runs, {"mine": ["a0", "b0"], "c": ["c1", "c2"]}))
    assert {mixed[name] for name in ("a0", "b0")} == {"mine 100"}
    assert {mixed[name] for name in ("a1", "a2")} == {"a 100"}
    assert "c0" not in mixed and mixed["c1"] == mixed["c2"] == "c 100"  # left out of arm c by its name
    others = [Run("C", "c", 1, 100), Run("D", "d", 2, 100), Run("a0", nominal=100), Run("b0", nominal=100)]
    assert not replicates(places_of(others, {"a": ["a0"], "b": ["b0"]}))


def test_seeds_that_collide_void_their_own_size_alone() -> None:
    runs = [Run(f"{size}-{seed}", "", seed, size) for size in (70, 160) for seed in (1, 2)]
    places = places_of([*runs, Run("160-data-1", "", 1, 160)], {})
    assert replicates(places) == {"70-1": "70", "70-2": "70"}
    trained = [Run("x", "", 1, 7, recipe="one"), Run("y", "", 2, 7, recipe="two")]
    assert set(replicates(places_of([*runs, *trained], {}))) == {run.model for run in runs}


def test_a_notice_names_the_models_that_keep_others_from_being_replicates() -> None:
    nominal = {"70-1": 70, "70-2": 70, "160-1": 160, "160-2": 160, "data-1": 160, "c-1": 9, "d-1": 9}
    stated = [asdict(Run(name, seed=int(name[-1]), nominal=size)) for name, size in nominal.items()]
    metrics = pd.concat([means({name: 0.5}, nominal=size) for name, size in nominal.items()])
    [notice] = replicate_notices(metrics, stated, {})  # c-1 and d-1 have one seed: nothing is lost
    assert "3 models of 160" in notice.detail and "160-1, data-1 have the seed of another" in notice.detail
    assert "runs.arms" in notice.remedy and notice.count == 3
    assert not replicate_notices(metrics, stated, {"seeds": ["160-*"], "data": ["data-*"]})


def test_imported_models_of_the_catalogue_have_its_arms_and_seeds() -> None:
    names = ["pythia-160m", *(f"pythia-160m-seed{seed}" for seed in range(1, 10))]
    metrics = means(dict.fromkeys(names, 0.5), nominal=160_000_000, total=162_322_944)
    assert replicates(places_of_study(metrics, [], {})) == dict.fromkeys(names, "pile 160M")
    others = means(dict.fromkeys(names, 0.5), nominal=160_000_000, total=150_000_000)
    assert not replicates(places_of_study(others, [], {}))  # their names alone are those of the catalogue
    of_rows, _ = imported_runs([{"models": [{"name": "a", "arm": "x", "seed": 1}, {"name": names[2]}]}])
    assert [(run.arm, run.seed) for run in of_rows] == [("x", 1), ("pile", 2)]
    [named], _ = imported_runs([{"models": [{"name": names[2], "seed": 7, "parameters": {"nominal": 1}}]}])
    assert (named.arm, named.seed) == ("", 7)
    own = Model("a", (), arm="mine", seed=3)
    assert [
        (run.model, run.arm) for run in stated_runs([own], [{"models": [{"name": "a"}, {"name": "b"}]}])
    ] == [
        ("a", "mine"),
        ("b", ""),
    ]


def test_rows_of_imports_may_state_arms_and_seeds() -> None:
    row: dict[str, Any] = {"format": "table", "files": ["t.csv"], "metric": "accuracy"}
    row["models"] = [{"name": "a", "arm": "x", "seed": 1}]
    row["columns"] = {"model": "model", "task": "task", "value": "value", "step": "step"}
    [model] = check_row(row, "imported[0]")["models"]
    assert (model["arm"], model["seed"]) == ("x", 1)


def test_a_metric_without_values_by_example_is_named_and_a_suite_may_have_its_own() -> None:
    values = {name: np.linspace(0.2, 0.8, 4)[:, None] + np.zeros((4, 6)) for name in ("accuracy", "margin")}
    trajectories = [
        Trajectory(
            model,
            task,
            pd.DataFrame({"checkpoint": [f"step{t}" for t in TOKENS], "step": TOKENS, "tokens": TOKENS}),
            {"total": 1, "non_embedding": 1, "active": 1, "nominal": 1},
            np.array([f"e{i}" for i in range(6)]),
            np.arange(6),
            values,
        )
        for model in ("a", "b")
        for task in ("one", "two")
    ]
    of = settings(
        metrics=["accuracy", "brier"], suites={"both": {"tasks": ["one", "two"], "metric": "margin"}}
    )
    of["suites"] = {"both": {"tasks": ["one", "two"], "metric": "margin"}}
    arms = pd.DataFrame({"model": ["a", "b"], "arm": ["a", "b"], "size": "1"})
    none = pd.DataFrame(columns=["model", "task", "metric", "chance", "tokens"])
    found, notices = curves_of_units(trajectories, none, arms, of)
    assert {(unit.task, unit.suite, unit.metric) for unit in found} == {
        ("one", "", "accuracy"),
        ("two", "", "accuracy"),
        ("", "both", "margin"),
    }
    (said,) = [notice.detail for notice in notices if "brier" in notice.detail]
    assert said == "Runs are not compared by brier on one, two, where single examples have no values of it."
