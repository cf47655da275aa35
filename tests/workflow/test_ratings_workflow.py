"""A study of ratings: it prepares, fits histories, scores, compares with baselines, and reports."""

from pathlib import Path

import pandas as pd
import pytest

import movielens
import tiny
from ebbtide.corpus import World
from ebbtide.corpus.ratings import ratings_of
from ebbtide.files import file_sha256
from ebbtide.tables import CELL, read_footer
from workspace import ROOT, Workspace

pytestmark = pytest.mark.slow


def test_a_study_of_ratings(tmp_path: Path) -> None:
    study = Workspace(tmp_path)
    (tmp_path / "ml.zip").write_bytes(movielens.one_million())
    prepare = {"function": "movielens", "test_share": 0.2}
    source = {"file": "ml.zip", "sha256": file_sha256(tmp_path / "ml.zip"), "prepare": prepare}
    for name in ("movielens", "movielens_zero_shot"):
        definition = study.read_yaml(str(ROOT / f"workflow/tasks/{name}.yaml"))
        study.write_yaml(f"{name}.yaml", definition | {"source": source})
    config = {
        "study": "rated",
        "models": [tiny.hollow_model(tmp_path / f"models/m{layers}", layers) for layers in (1, 2, 3)],
        "tasks": ["movielens.yaml", "movielens_zero_shot.yaml"],
        "scoring": {"backend": "fake", "max_length": 300, "rescore_examples": 0},
        "ratings": {"target_rmse": 0.5},
    }
    study.write_yaml("config.yaml", config)
    said = study.run().stdout
    results = tmp_path / "results/rated"
    ratings = pd.read_csv(results / "ratings.tsv", sep="\t")
    assert list(ratings.groupby("task").size()) == [3, 3]
    by_task = ratings.set_index("task")
    assert by_task.loc["movielens_zero_shot", "kept_most"].isna().all()
    histories = by_task.loc["movielens"]
    assert ((histories["kept_least"] > 0) & (histories["kept_most"] < histories["kept_of"])).all()
    assert ratings["item_mean"].nunique() == 1  # the same ratings in both conditions
    assert (ratings["low"] < ratings["rmse"]).all() and (ratings["rmse"] < ratings["high"]).all()
    law = pd.read_csv(results / "ratings_law.tsv", sep="\t")
    assert (law["sizes"].tolist(), law["tokens"].tolist()) == ([3, 3], [1000, 1000])
    assert "Expected ratings against true ones" in said
    assert "movielens: the smallest RMSE is " in (results / "summary.txt").read_text()
    assert "prompts lost the last of their parts (kept: " in (results / "summary.txt").read_text()
    assert (results / "figures/ratings.pdf").is_file()
    assert '<section id="ratings"' in (results / "report/index.html").read_text()
    cell = next((tmp_path / "results/scores/m1").glob("*/movielens.parquet"))
    assert read_footer(cell, CELL)["parts"]["examples"] == histories["n"].iloc[0]
    assert study.planned() == {}

    # Another target is cheap; another history is another task.
    with study.edited("config.yaml") as content:
        content["ratings"]["target_rmse"] = 0.6
    assert "score" not in study.planned()
    assert study.planned()["ratings"] == 1
    with study.edited("movielens.yaml") as content:
        content["source"]["prepare"] = {**prepare, "history": 3}
    assert study.planned()["score"] == 3


@pytest.mark.long
def test_trained_models_are_between_the_best_prediction_and_the_global_mean(tmp_path: Path) -> None:
    """Two sizes of the embedded twin: errors fall with training and with size, towards the exact one."""
    study = Workspace(tmp_path)
    series = study.read_yaml(str(ROOT / "workflow/series/ratings_ladder.yaml"))
    series["models"] = {name: series["models"][name] for name in ("ratings-d4", "ratings-d8")}
    study.write_yaml("series.yaml", series | {"checkpoints": [0, 64, 1024]})
    config = study.read_yaml(str(ROOT / "studies/predictability_ratings_ladder.yaml"))
    study.write_yaml("config.yaml", config | {"study": "twin", "models": [{"series": "series.yaml"}]})
    study.run("results/twin/ratings.tsv")
    ratings = pd.read_csv(tmp_path / "results/twin/ratings.tsv", sep="\t")
    world = study.read_yaml(str(ROOT / "workflow/tasks/toy_ratings.yaml"))["source"]["prepare"]["world"]
    exact = ratings_of(World(**world)).errors()
    for name, error in exact.items():
        assert ratings[name].nunique() == 1
        assert ratings[name].iloc[0] == pytest.approx(error, abs=0.06)
    rmse = ratings.pivot(index="model", columns="checkpoint", values="rmse")
    assert (rmse["step1024"] < rmse["step64"] - 0.1).all()
    assert rmse.loc["ratings-d8", "step1024"] < rmse.loc["ratings-d4", "step1024"] - 0.05
    assert (rmse["step1024"] < exact["global_mean"] - 0.1).all()
    assert (rmse["step1024"] > exact["bayes"]).all()
    untrained = ratings[ratings["checkpoint"] == "step0"]
    assert (untrained["rmse"] - untrained["constant_3"]).abs().max() < 0.05
