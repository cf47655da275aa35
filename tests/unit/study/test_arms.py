"""Arms of a comparison of runs: from rows, series and patterns to a table, and what is refused."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from pandas import NA

from ebbtide.checkpoints.hub.catalogue import HubModel, series_models
from ebbtide.checkpoints.series import CATALOGUE, models_of, read_series
from ebbtide.errors import ConfigError
from ebbtide.grid import Checkpoint, Model
from ebbtide.schema import check, load_schema, read_yaml
from ebbtide.sources import file_digest
from ebbtide.statistics.replicates import places_of, replicates
from ebbtide.study.arms import (
    Run,
    are_compared,
    arms_of,
    arms_table,
    check_runs,
    check_sizes,
    left_out,
    reference_of,
    runs_of,
    size_labels,
)
from ebbtide.study.load import read_study
from workspace import ROOT, Workspace, write_small_study

WHERE = "mine.yaml: runs"
RUNS = [
    *(Run(f"base-70m-seed{s}", "base", s, 70_000_000, 70_426_624) for s in (1, 2, 3)),
    *(Run(f"code-70m-seed{s}", "code", s, 70_000_000, 70_426_624) for s in (1, 2)),
    Run("code-1.4b", "code", None, 1_400_000_000),
    Run("other", parameters=26_816),
]
MODELS = [
    Model(r.model, (Checkpoint(r.model, "main", 0, 0, "w", "t", "r", 0, "float32", nominal=r.nominal),))
    for r in RUNS
]
MODELS = [
    replace(m, arm=r.arm, seed=r.seed, parameters=r.parameters) for m, r in zip(MODELS, RUNS, strict=True)
]


def settings(**more: object) -> dict:
    return check({"runs": more, "study": "s"}, load_schema("config"), "mine.yaml")["runs"]


def test_arms_are_those_that_rows_state() -> None:
    arms = arms_of(RUNS, {}, WHERE)
    table = arms_table(arms)
    assert table["arm"].tolist() == ["base"] * 3 + ["code"] * 3
    assert table["model"].tolist() == [run.model for run in RUNS[:6]]
    assert table["size"].tolist() == ["70M"] * 5 + ["1.4B"]  # the nominal size, not 70,426,624
    assert table["parameters"].tolist() == [70_000_000] * 5 + [1_400_000_000]
    assert table["seed"].tolist() == [1, 2, 3, 1, 2, NA]
    assert left_out(RUNS, arms) == "other"
    assert reference_of(arms, None, WHERE) == "base"


def test_patterns_choose_the_models_and_name_the_arms() -> None:
    named = {"b": ["code-70m-*"], "a": ["base-*", "base-70m-seed1"], "c": ["other"]}
    table = arms_table(arms_of(RUNS, named, WHERE))
    assert table["arm"].tolist() == ["b"] * 2 + ["a"] * 3 + ["c"]
    assert table["size"].tolist()[-1] == "26.8K"  # of its parameters, as no name states it
    assert reference_of(named, "a", WHERE) == "a"


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (
            {"arms": {"a": ["base-*-seed1", "other"]}},
            ["runs.arms", "only 'a'", "two arms", "two runs of a size"],
        ),
        (
            {"arms": {"a": ["base-*"], "b": ["code-70m-seed3"]}},
            ["runs.arms.b", "'code-70m-seed3'", "matches no model", "did you mean 'code-70m-seed2'"],
        ),
        ({"arms": {"a": ["base-*"], "b": ["code-70m-seed[12]"]}}, ["runs.arms.b", "matches no model"]),
        (
            {"arms": {"a": ["base-*"], "b": ["*-seed1"]}},
            ["runs.arms.b", "'*-seed1'", "base-70m-seed1", "arm 'a'", "one arm"],
        ),
        (
            {"arms": {"a": ["base-*"], "b": ["code-1.4b"]}},
            ["runs.arms.b", "1.4B", "reference a has only 70M", "`nominal`"],
        ),
        ({"reference": "bases"}, ["runs.reference", "'bases'", "did you mean 'base'"]),
        (
            {"suites": {"all": ["fact_qa", "fact_qas"]}},
            ["runs.suites.all", "'fact_qas'", "did you mean 'fact_qa'"],
        ),
        ({"suites": {"fact_qa": ["fact_qa"]}}, ["runs.suites.fact_qa", "a task of this name"]),
    ],
)
def test_what_cannot_be_compared_is_refused(section: dict, said: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        check_runs(settings(**section), MODELS, ["fact_qa", "arithmetic"], [], WHERE)
    assert all(word in str(error.value) for word in ["mine.yaml", *said]), error.value


def test_without_two_arms_the_message_says_what_rows_state() -> None:
    with pytest.raises(ConfigError, match=r"runs.arms: missing, .* found none; .* set arm in rows"):
        check_runs(settings(), MODELS[-1:], [], [], WHERE)
    with pytest.raises(ConfigError, match="found only 'base'; allowed: two arms to compare, or one with"):
        check_runs(settings(), MODELS[:1], [], [], WHERE)


def test_a_single_arm_with_several_runs_of_a_size_is_allowed_but_not_compared() -> None:
    check_runs(settings(), MODELS[:3], [], [], WHERE)
    check_runs(settings(arms={"a": ["base-*"]}), MODELS, [], [], WHERE)
    assert not are_compared({}, RUNS[:3]) and not are_compared({"a": ["base-*"]}, RUNS)
    assert are_compared({}, RUNS) and are_compared({"a": ["base-*"], "b": ["code-*"]}, [])


def test_models_and_tasks_of_imports_are_known_if_their_rows_list_them() -> None:
    section = {"arms": {"a": ["base-*"], "b": ["mine-*"]}, "suites": {"all": ["imported_task"]}}
    check_runs(settings(**section), MODELS, [], [{"format": "lm_eval_results"}], WHERE)
    with pytest.raises(ConfigError, match=r"runs\.reference"):  # a name of the section itself
        check_runs(settings(**section, reference="c"), MODELS, [], [{"format": "lm_eval_results"}], WHERE)
    listed = {"models": [{"name": "mine-70m", "parameters": {"nominal": 70_000_000}}]}
    check_runs(settings(**section), MODELS, [], [listed], WHERE)
    listed = {"models": [{"name": "mine-1b", "parameters": {"nominal": 1_000_000_000}}]}
    with pytest.raises(ConfigError, match=r"runs\.arms\.b: found runs of 1B parameters"):
        check_runs(settings(**section), MODELS, [], [listed], WHERE)
    with pytest.raises(ConfigError, match=r"runs\.arms\.b: found 'mine-\*', which matches no model"):
        check_runs(settings(**section), MODELS, [], [{"models": [{"name": "yours"}]}], WHERE)


@pytest.mark.parametrize(
    "seed_sd",
    [
        0.01,
        {"sd": 0.01},
        {"sd": 0.01, "source": "x"},
        {"sd": 0.01, "source": "x", "runs": 1},
        {"sd": 0.01, "table": "t.tsv", "source": "x"},
        {"table": "t.tsv"},
    ],
)
def test_a_borrowed_seed_variance_needs_one_value_and_its_source(seed_sd: object) -> None:
    with pytest.raises(ConfigError, match=r"runs\.seed_sd"):
        settings(seed_sd=seed_sd)


def test_a_borrowed_seed_variance_is_that_of_a_metric_or_suite_of_the_section() -> None:
    seed_sd = {"sd": {"accuracy": 0.01, "knowledge": 0.02}, "runs": 3, "source": "x"}
    section = settings(seed_sd=seed_sd, suites={"knowledge": ["fact_qa"]})
    check_runs(section, MODELS, ["fact_qa"], [], WHERE)
    with pytest.raises(ConfigError, match=r"runs\.seed_sd\.sd: found 'knowledge'; allowed: .* accuracy"):
        check_runs(settings(seed_sd=seed_sd), MODELS, ["fact_qa"], [], WHERE)


def test_the_catalogue_states_arms_and_seeds() -> None:
    """DataDecide states its data mixtures, Parc its architectures; a row states another arm."""
    [dclm] = published("datadecide", "datadecide-dclm-baseline-4M")
    assert dclm.arm == "dclm-baseline"
    assert {model.arm for model in published("parc")} == {"pythia", "mamba", "rwkv"}
    [named] = published("pythia_seeds", "pythia-70m-seed3", arm="mine")
    assert (named.arm, named.seed) == ("mine", 3)


def test_pythia_and_its_other_seeds_are_replicates() -> None:
    """Those that vary only the order of the data, or only the initial weights, are arms of their own."""
    models = [*published("pythia"), *published("pythia_seeds"), *published("parc")]
    runs = [Run(m.name, m.arm, m.seed, m.nominal) for m in models]
    counts = Counter(replicates(places_of(runs, {})).values())
    ten = {f"pile {size}": 10 for size in ("14M", "31M", "70M", "160M", "410M")}
    parts = {"pile data-seed 160M": 3, "pile weight-seed 160M": 3}
    assert counts == ten | parts | {"pythia 160M": 6, "mamba 130M": 6, "rwkv 169M": 6}
    assert len({(run.arm, run.nominal, run.seed) for run in runs}) == len(runs)


def published(name: str, *models: str, **more: str) -> list[HubModel]:
    row = {"sizes": "all", "steps": "all", "stages": ["pretraining"], "format": "safetensors"}
    series, _ = read_series(CATALOGUE / f"{name}.yaml")
    wanted = list(models or series["models"])
    return series_models(series, wanted, {**row, "remote_code": False, **more}, name, "models[0]")


@pytest.fixture
def workspace(tmp_path, monkeypatch) -> Workspace:
    monkeypatch.chdir(tmp_path)
    return write_small_study(tmp_path)


def test_a_ladder_has_arms_and_seeds_of_its_models(workspace: Workspace) -> None:
    """The seed of a model is that of its initial weights and of the order of its documents."""
    before = {model.name: model for model in read_study("config.yaml").models.values()}
    assert {(m.arm, m.seed) for m in before.values()} == {("", 0)}
    with workspace.edited("series.yaml") as series:
        series["models"]["small-d8-seed1"] = {**series["models"]["small-d8"], "seed": 1}
    with workspace.edited("config.yaml") as config:
        config["models"][0]["arm"] = "base"
    after = read_study("config.yaml").models
    seed0, seed1 = after["small-d8"], after["small-d8-seed1"]
    assert (seed1.arm, seed1.seed) == ("base", 1)
    assert seed1.training["recipe"]["seed"] == seed1.training["corpus"]["seed"] == 1
    assert seed1.checkpoints[-1].weights != seed0.checkpoints[-1].weights
    assert seed0.checkpoints == before["small-d8"].checkpoints  # an arm is no part of an identity
    assert seed0.parameters == seed1.parameters > 0


def test_rows_of_the_hub_and_on_disk_state_arm_seed_and_size() -> None:
    row = {"name": "mine", "repo": "me/mine", "arm": "base", "seed": 4}
    checked = check({"study": "s", "models": [row]}, load_schema("config"), "mine.yaml")["models"][0]
    [model] = models_of(checked, "models[0]")
    assert isinstance(model, HubModel)
    assert (model.arm, model.seed) == ("base", 4)


def test_a_study_is_checked_when_it_is_loaded(workspace: Workspace) -> None:
    with workspace.edited("config.yaml") as config:
        config["runs"] = {"arms": {"small": ["small-d8"], "large": ["small-d16"]}}
    with pytest.raises(ConfigError, match=r"config.yaml: runs.arms.large: found runs of [\d.]+K parameters"):
        read_study("config.yaml")
    with workspace.edited("config.yaml") as config:
        config["runs"]["arms"]["large"] = ["small-d8", "small-d16"]
    with pytest.raises(ConfigError, match=r"small-d8, a model of arm 'small'"):
        read_study("config.yaml")


def test_models_on_disk_have_the_sizes_of_their_files(tmp_path, monkeypatch) -> None:
    import tiny

    monkeypatch.chdir(tmp_path)
    tiny.hollow_checkpoint(tmp_path / "run")
    row = {"name": "mine", "path": "run", "seed": 2, "arm": "base", "nominal": 1000}
    checked = check({"study": "s", "models": [row]}, load_schema("config"), "mine.yaml")["models"][0]
    [model] = models_of(checked, "models[0]")
    [run] = runs_of([model.model()])
    assert (run.arm, run.seed, run.nominal, run.size) == ("base", 2, 1000, 1000)
    assert run.parameters > 0


def test_sizes_that_three_digits_do_not_tell_apart_are_exact() -> None:
    runs = [Run("a", parameters=26_816), Run("b", parameters=26_824), Run("c", nominal=1_400_000_000)]
    assert size_labels(runs) == {26_816: "26,816", 26_824: "26,824", 1_400_000_000: "1.4B"}


def test_arms_trained_here_without_a_common_size_are_told_what_makes_one() -> None:
    """Rows of ladders take no `nominal`."""
    arms = {"a": [Run("a-d16", parameters=15_000, recipe="x")], "b": [Run("b-d32", parameters=42_000)]}
    with pytest.raises(ConfigError, match="models of the same width, layers and vocabulary") as told:
        check_sizes(arms, "a", "runs")
    assert "nominal" not in str(told.value)


def test_recipes_of_models_trained_here_differ_by_more_than_seeds() -> None:
    runs = runs_of(read_study(ROOT / "studies/runs_ladder.yaml").models.values())
    recipes: dict[tuple[str, int], list[str]] = {}
    for run in runs:
        recipes.setdefault((run.arm, run.size), []).append(run.recipe)
    assert [len(of) for of in recipes.values()] == [3] * 4  # two mixtures at two sizes, three seeds each
    assert len({recipe for of in recipes.values() for recipe in of}) == 4
    assert {run.recipe for run in RUNS} == {""}


def test_the_study_of_two_pythias_pins_the_table_it_was_read_from(shared: Path) -> None:
    [row] = read_yaml(ROOT / "studies/runs_pythia.yaml")["imported"]
    assert file_digest(shared / "reference" / row["source"]) == row["sha256"]
