"""Ratings: errors beside baselines, a law over sizes with its interval, and what is refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from ebbtide.errors import ConfigError, FigureError
from ebbtide.figures.ratings import plot_ratings
from ebbtide.schema import read_yaml
from ebbtide.statistics.ratings.law import at_common_tokens, law_of
from ebbtide.statistics.ratings.sentences import notices, rating_sentences
from ebbtide.statistics.ratings.tables import COLUMNS
from ebbtide.study.load import read_study
from simulate_ratings import N, predictions, series, tables, world
from workspace import ROOT


def test_a_row_has_the_error_of_the_model_and_of_the_baselines() -> None:
    [run, *_] = series(0.05)
    (row,) = tables([run])[0].to_dict("records")
    error = run.rating - run.target
    assert list(tables([run])[0].columns) == list(COLUMNS)
    assert row["rmse"] == pytest.approx(np.sqrt(np.mean(error**2)))
    assert row["low"] < row["rmse"] < row["high"]
    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * row["stderr"], rel=0.02)
    assert row["item_mean"] == row["constant_3"] == pytest.approx(np.sqrt(np.mean((3 - run.target) ** 2)))
    guess = [(k - t) ** 2 for t in run.target for k in range(1, 6)]
    assert row["random_guess"] == pytest.approx(np.sqrt(np.mean(guess)))
    assert (row["n"], row["coverage"]) == (N, pytest.approx(0.9))
    assert np.isnan([row["bayes"], row["kept_least"]]).all()


def test_the_histories_that_were_used_are_in_the_row() -> None:
    rng = np.random.default_rng(0)
    parts = {"kept_least": 2, "kept_median": 5, "kept_most": 9, "of": 500, "left_out": 3}
    (row,) = tables([predictions(world(rng), 1.0, rng, "m0", parts=parts)])[0].to_dict("records")
    assert [row[f"kept_{name}"] for name in ("least", "median", "most", "of")] == [2, 5, 9, 500]


@pytest.mark.parametrize("scatter", [0.0, 0.05])
def test_the_law_is_found_and_covered_as_often_as_stated(scatter: float) -> None:
    """`benchmarks/simulate_ratings.py` has the same with more draws."""
    laws = pd.DataFrame([tables(series(0.03, seed, scatter))[1].iloc[0] for seed in range(60)])
    assert laws["b"].mean() == pytest.approx(0.03, abs=0.005)
    assert ((laws["b_low"] <= 0.03) & (laws["b_high"] >= 0.03)).mean() > 0.88
    given = laws[laws["reason"] == ""]
    assert len(given) > 20
    exact = 1e6 * 0.5 ** (-1 / 0.03)  # RMSE is 1 at 1e6 parameters
    assert ((given["crossing_low"] <= exact) & (given["crossing_high"] >= exact)).mean() > 0.85


@pytest.mark.parametrize("scatter", [0.0, 0.05])
def test_without_a_law_a_crossing_is_refused(scatter: float) -> None:
    laws = pd.DataFrame([tables(series(0.0, seed, scatter))[1].iloc[0] for seed in range(60)])
    refused = laws[laws["reason"] != ""]
    assert len(refused) >= 54  # 2.5 % are expected not to be, at most
    assert refused["reason"].str.contains("contains 0").all()
    assert refused["crossing"].isna().all()
    assert refused["b"].notna().all()


def test_two_sizes_are_no_law() -> None:
    _, law = tables(series(0.1)[:2])
    assert law.iloc[0]["reason"] == "2 sizes; a line over sizes needs 3"
    assert law.iloc[0][["a", "b", "crossing"]].isna().all()


def test_models_are_compared_at_the_last_tokens_that_all_have() -> None:
    rows = pd.DataFrame(
        [("m0", 100, 1), ("m0", 200, 1), ("m1", 100, 2), ("m1", 300, 2), ("m2", 100, 0)],
        columns=["model", "tokens", "parameters"],
    )
    chosen, note = at_common_tokens(rows)
    assert (chosen["tokens"].tolist(), note) == ([100, 100], "")
    chosen, note = at_common_tokens(rows[rows["tokens"] != 100])
    assert chosen["tokens"].tolist() == [200, 300]
    assert note == "no training tokens are common to all models, so the last checkpoint of each is used"
    chosen, note = at_common_tokens(rows.assign(parameters=0))
    assert (len(chosen), note) == (0, "no model has a known size")
    law = law_of("films", chosen, [], note, target=0.5, level=0.95)
    assert law["reason"] == "0 sizes; a line over sizes needs 3"


def test_the_study_of_films(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    study = read_study("studies/predictability_ratings.yaml", uses_results=False)
    assert study.config["tasks"] == ["movielens", "movielens_zero_shot"]  # they are loaded with a lock
    assert study.config["ratings"] == {"target_rmse": 0.822, "level": 0.95}


def test_the_embedded_twin_asks_for_the_world_of_its_ladder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = read_study(ROOT / "studies/predictability_ratings_ladder.yaml", uses_results=False)
    assert study.rating_tasks() == ["toy_ratings"]
    assert len(study.models) == 4
    other = read_yaml(ROOT / "workflow/tasks/toy_ratings.yaml")
    other["source"]["prepare"]["world"]["seed"] = 1
    Path("other.yaml").write_text(yaml.safe_dump(other))
    config = {"study": "x", "models": [{"series": "ratings_ladder"}], "tasks": ["other.yaml"], "ratings": {}}
    Path("s.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError, match=r"other\.yaml: source\.prepare\.world: found .*'seed': 1"):
        read_study("s.yaml")


def test_a_section_without_ratings_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = {"study": "x", "models": [{"series": "ladder"}], "tasks": ["fact_qa"], "ratings": {}}
    Path("s.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError) as error:
        read_study("s.yaml")
    assert str(error.value) == (
        "ConfigError: s.yaml: ratings: found no model with a task of kind rating that has the groups user "
        "and item (tasks: fact_qa); add one, such as movielens, or remove the section."
    )


def test_what_is_said() -> None:
    ratings, laws = tables(series(0.05))
    best, law = rating_sentences(ratings, laws)
    assert best.startswith("films: the smallest RMSE is 0.")
    assert best.endswith(f"of m3, below that of the item mean ({ratings['item_mean'].iloc[0]:.3f}).")
    assert law.startswith("films: RMSE falls as N^-0.0")
    assert "over 4 sizes, and would reach 0.5 at " in law
    assert list(notices(ratings, laws)) == []
    ratings, laws = tables(series(0.05)[:2])
    [refusal] = notices(ratings, laws)
    assert refusal.detail == (
        "The size at which RMSE would reach 0.5 is not given: 2 sizes; a line over sizes needs 3."
    )
    rng = np.random.default_rng(0)
    missing, _ = notices(*tables([predictions(world(rng), 1.0, rng, "m0", baselines={})]))
    assert missing.detail == "The item mean of training ratings is unknown for films."


def test_the_figure_has_a_point_per_model_and_a_line_per_baseline() -> None:
    ratings, laws = tables(series(0.05))
    plot = plot_ratings(ratings, laws)
    assert plot.data["rmse"].tolist() == ratings["rmse"].tolist()
    labels = plot.layers[1]._data
    named = [label.rpartition(" ")[0] for label in labels["label"]]
    assert named == ["target", "constant 3", "item mean", "global mean", "random guess"]
    assert (labels["height"].diff().iloc[1:] > 0.02).all()  # also of the two that are equal here
    with pytest.raises(FigureError, match="no model has a known number of parameters"):
        plot_ratings(ratings.assign(parameters=0), laws)
