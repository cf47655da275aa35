"""The over-training study: the paper's numbers from its public testbed, and what a user may get wrong."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ebbtide.errors import ConfigError, EbbtideError, ScalingError
from ebbtide.schema import read_yaml
from ebbtide.statistics.scaling_laws.fits import fit
from ebbtide.statistics.scaling_laws.laws import OVERTRAINED_FITTED, overtrained_from_fitted
from ebbtide.statistics.scaling_laws.overtraining import (
    Settings,
    TrainSet,
    fit_train_sets,
    fits_table,
    predictions,
)
from ebbtide.statistics.scaling_laws.pins import fetch_pinned, read_pins
from ebbtide.statistics.scaling_laws.runs import make_runs
from ebbtide.statistics.scaling_laws.search import configurations, pareto_front
from ebbtide.statistics.scaling_laws.subset import task_subset, with_averages
from ebbtide.statistics.scaling_laws.testbed import read_chance, read_grid, read_testbed
from ebbtide.statistics.scaling_laws.trends import exponents
from ebbtide.study.load import read_study
from workspace import ROOT

STUDY = ROOT / "studies/overtraining.yaml"
CONFIG = read_yaml(STUDY)["scaling_laws"]
# Relative error in percent at 6.9B, M = 20: Gadre et al. 2024, Table 2.
TABLE_2 = {
    "c4_original": (28.96, 15.01, 16.80, 79.58, 0.14),
    "rpj": (5.21, 14.39, 8.44, 25.73, 0.05),
    "rw_original": (26.06, 16.55, 1.92, 81.96, 2.94),
}
TASKS = ("arc_easy", "lambada_openai", "openbook_qa", "hellaswag_zeroshot", "avg_subset")


@pytest.fixture(scope="module")
def testbed(shared: Path) -> Path:
    found = sorted(shared.glob("mirror/github/mlfoundations/scaling/*/exp_data"))
    if not found:
        pytest.skip("no copy of the testbed in ../shared/mirror")
    return found[0]


@pytest.fixture(scope="module")
def runs(testbed: Path) -> pd.DataFrame:
    return with_averages(read_testbed(testbed), read_chance(testbed), CONFIG["subset"])[0]


@pytest.fixture(scope="module")
def train_sets(runs: pd.DataFrame) -> list[TrainSet]:
    settings = Settings(**{key: CONFIG[key] for key in ("loss", "fit", "error_fit_adds")})
    wanted = ["loss_c4_val", "err_avg", *(f"err_{task}" for task in TASKS)]
    return fit_train_sets(runs[runs["quantity"].isin(wanted)], settings)


@pytest.fixture(scope="module")
def percent(train_sets: list[TrainSet]) -> pd.Series:
    table = predictions(train_sets)
    published = table[table["law"] != "error_sigmoid"].set_index(["train_set", "model", "M", "quantity"])
    return 100 * published["relative_error"]


def test_the_testbed_is_whole(runs: pd.DataFrame) -> None:
    assert len(runs[["train_set", "model", "M"]].drop_duplicates()) == 104
    assert runs["quantity"].str.startswith("loss_").groupby(runs["quantity"]).any().sum() == 8
    assert runs["quantity"].nunique() == 8 + 46 + 2


def test_the_subset_rule_gives_the_papers_tasks(runs: pd.DataFrame, testbed: Path) -> None:
    tasks = task_subset(
        runs[~runs["quantity"].str.startswith("err_avg")], read_chance(testbed), **CONFIG["subset"]
    )
    assert len(tasks) == 17
    assert {"arc_easy", "hellaswag", "lambada_openai", "squad", "winograd"} < set(tasks)
    assert "openbook_qa" not in tasks


def test_published_numbers_to_their_printed_digits(percent: pd.Series, shared: Path) -> None:
    with (shared / "reference/overtraining_published.tsv").open() as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            place = (row["train_set_key"], row["model_config"], float(row["M"]), row["quantity"])
            for column in ("rel_err_pct_paper", "rel_err_pct_notebook"):
                digits = len(row[column].partition(".")[2])
                assert f"{percent[place]:.{digits}f}" == f"{float(row[column]):.{digits}f}", place


@pytest.mark.parametrize("train_set", TABLE_2)
def test_table_2(percent: pd.Series, train_set: str) -> None:
    found = [f"{percent[train_set, 'open_lm_7b', 20.0, f'err_{task}']:.2f}" for task in TASKS]
    assert found == [f"{value:.2f}" for value in TABLE_2[train_set]]


def test_parameters_of_redpajama(train_sets: list[TrainSet]) -> None:
    fits = next(t for t in train_sets if t.name == "rpj").fits
    values = overtrained_from_fitted(fits["loss_c4_val"].values)
    assert values == pytest.approx({"E": 1.8366, "a": 212.24, "b": 366.69, "eta": 0.1364}, rel=3e-4)
    error = fits["err_avg_subset"].values
    assert error == pytest.approx({"epsilon": 0.857, "k": 2.206, "gamma": 0.7146}, rel=3e-4)
    assert fits["loss_c4_val"].starts == fits["loss_c4_val"].agreeing == 128


def test_verdicts_say_that_five_points_are_few(train_sets: list[TrainSet]) -> None:
    table = fits_table(train_sets).set_index(["train_set", "quantity", "parameter"])
    for train_set in TABLE_2:
        row = table.loc[train_set, "loss_c4_val", "E"]
        assert row["verdict"] != "identified"
        assert row["left_out_low"] < row["estimate"] < row["left_out_high"]
        assert "5 points for 4 parameters leave 1 degree of freedom" in row["why"]
    # At 0 itself the law is a constant, so the profile of C4 stops slightly above it, which counts as 0.
    eta = table.loc["c4_original", "loss_c4_val", "eta"]
    assert 0 < eta["low"] < 1e-3 * eta["estimate"]
    assert "not distinguishable from 0" in eta["why"]


def test_one_start_alone_misleads(train_sets: list[TrainSet]) -> None:
    """The trap of the default start: an end without an error, far from the optimum."""
    for train_set in train_sets:
        points, chain = train_set.loss_points, train_set.chain
        at = {"N": points["parameters"].to_numpy(), "M": points["M"].to_numpy()}
        try:
            alone = fit(OVERTRAINED_FITTED, points[chain].to_numpy(), starts=[[1.0, 1.0, 1.0, -0.5]], **at)
        except ScalingError:
            continue
        assert alone.cost > 100 * train_set.fits[chain].cost


def test_exponents_hardly_depend_on_over_training(train_sets: list[TrainSet]) -> None:
    table = exponents(train_sets)
    assert set(table["train_set"]) == set(TABLE_2)
    spread = table.groupby("train_set")["eta"].agg(["min", "max", "mean"])
    assert ((spread["max"] - spread["min"]) / spread["mean"] < 0.25).all()
    assert (table["E"] > 0.1).all()


def test_the_configuration_search(testbed: Path) -> None:
    chosen = [model for row in CONFIG["fit"] for model in row["models"]]
    table, trend = configurations(
        read_grid(testbed), drop=tuple(CONFIG["search_drop"]), chosen=chosen, draws=50
    )
    assert (len(table), table["front"].sum(), table["kept"].sum()) == (435, 28, 21)
    assert sorted(table.loc[table["chosen"], "configuration"]) == sorted(set(chosen))
    assert table.loc[table["chosen"], "on_trend"].all()
    assert trend.points == 21


def test_the_front_is_what_nothing_beats() -> None:
    assert pareto_front([1, 2, 3, 3, 4], [5.0, 6.0, 4.0, 3.0, 3.0]).tolist() == [
        True,
        False,
        False,
        True,
        False,
    ]


def test_pins_are_the_mirrors_files(testbed: Path, tmp_path: Path) -> None:
    pins = read_pins(ROOT / CONFIG["testbed"]["pins"], CONFIG["testbed"]["source"])
    assert len(pins) == 210
    mirror = testbed.parents[4]
    fetch_pinned(pins[:3], tmp_path / "here", [mirror])
    assert len([p for p in (tmp_path / "here").rglob("*") if p.is_file()]) == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("abc models/a.json\n", "line 1"),
        (f"{'0' * 64}  ../a.json\n", "below the source"),
        (f"{'0' * 64}  a.json\n{'0' * 64}  a.json\n", "twice"),
        ("# nothing\n", "found no files"),
    ],
)
def test_bad_pins_are_sentences(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "pins").write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_pins(tmp_path / "pins", "data")


ROW = {"train_set": "web", "model": "small", "parameters": 1000, "tokens": 20000, "M": 20.0}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{**ROW, "quantity": "loss_web", "value": -1.0}], "a loss above 0"),
        ([{**ROW, "quantity": "loss_web", "value": np.nan}], "finite"),
        ([{**ROW, "quantity": "err_qa", "value": 1.2}], "between 0 and 1"),
        ([{**ROW, "quantity": "accuracy", "value": 0.5}], "loss_… or err_…"),
        ([{**ROW, "quantity": "loss_web", "value": 3.0}] * 2, "twice"),
        ([{**ROW, "tokens": 90000, "quantity": "loss_web", "value": 3.0}], "tokens per parameter"),
        ([{"model": "small"}], "column 'train_set' is missing"),
    ],
)
def test_bad_runs_are_sentences(rows: list[dict[str, object]], words: str) -> None:
    with pytest.raises(EbbtideError, match=words):
        make_runs(rows)


def test_a_study_may_be_of_scaling_laws_alone() -> None:
    study = read_study(STUDY)
    assert not study.has_metrics()
    assert study.config["scaling_laws"]["level"] == 0.95
