"""Scaling laws from training to words: a ladder of five tiny runs predicts a sixth."""

import math
from pathlib import Path

import pandas as pd
import pytest

from ebbtide.corpus import World
from ebbtide.corpus.entropy import source_entropy
from ebbtide.statistics.scaling_laws.runs import RUNS
from ebbtide.tables import METRICS, read_frame
from workspace import SMALL_SERIES, Workspace, write_small_study

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.xdist_group("overtraining_ladder")]

STEPS = {"laws-d8-m4": 20, "laws-d8-m8": 41, "laws-d8-m16": 82, "laws-d16-m2": 30, "laws-d16-m4": 60}
HELD_OUT = {"laws-d16-m8": 119}
DOCUMENTS = 300


def write_ladder_study(path: Path) -> Workspace:
    """A study of runs with steps of their own, in an empty directory."""
    workspace = write_small_study(path)
    with workspace.edited("series.yaml") as series:
        sizes = {name.removeprefix("small-"): shape for name, shape in series["models"].items()}
        series["models"] = {
            name: {**sizes[name.split("-")[1]], "steps": steps} for name, steps in (STEPS | HELD_OUT).items()
        }
        series["checkpoints"] = "last"
        del series["recipe"]["steps"]
    with workspace.edited("tasks/held_out_loss.yaml") as task:
        task["source"] |= {"mixture": SMALL_SERIES["corpus"]["mixture"], "examples": DOCUMENTS}
    with workspace.edited("config.yaml") as config:
        config |= {
            "models": [{"series": "series.yaml"}],
            "tasks": ["tasks/held_out_loss.yaml", "tasks/fact_qa.yaml", "tasks/memo_trap.yaml"],
            "scaling_laws": {
                "scored": {"errors": ["fact_qa", "memo_trap"]},
                "loss": "held_out_loss",
                "fit": [{"models": list(STEPS)}],
            },
        }
    return workspace


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, str]:
    """The study, run once, and what Snakemake printed."""
    workspace = write_ladder_study(tmp_path_factory.mktemp("laws"))
    return workspace, workspace.run().stdout


def results(finished: tuple[Workspace, str]) -> Path:
    return finished[0].path / "results/small"


def test_every_run_is_the_end_of_its_own_cosine(finished):
    runs = read_frame(results(finished) / "runs.parquet", RUNS)
    losses = runs[runs["quantity"] == "loss_held_out_loss"].set_index("model")
    assert losses["tokens"].to_dict() == {name: 1024 * n for name, n in (STEPS | HELD_OUT).items()}
    assert losses["parameters"].unique().tolist() == [5224, 15264]
    assert losses["M"].round().to_dict() == {name: int(name.rsplit("-m")[-1]) for name in losses.index}
    assert set(runs["quantity"]) == {"loss_held_out_loss", "err_fact_qa", "err_memo_trap", "err_avg"}


def test_the_loss_is_that_of_whole_documents_and_above_the_entropy(finished):
    metrics = read_frame(results(finished) / "metrics.parquet", METRICS)
    losses = metrics[(metrics["task"] == "held_out_loss") & (metrics["metric"] == "loss")]
    assert (losses["n"] == DOCUMENTS).all() and len(losses) == 6
    entropy = source_entropy(World(**SMALL_SERIES["corpus"]["world"]), SMALL_SERIES["corpus"]["mixture"])
    assert (losses["value"] > entropy.rate).all() and (losses["value"] < math.log(271)).all()
    by_model = losses.set_index("model")["value"]
    assert by_model["laws-d8-m16"] < by_model["laws-d8-m4"]
    assert by_model["laws-d16-m8"] < by_model["laws-d16-m2"]


def test_the_held_out_run_is_predicted_and_the_others_are_in_the_fit(finished):
    table = pd.read_csv(results(finished) / "predictions.tsv", sep="\t")
    loss = table[table["quantity"] == "loss_held_out_loss"].set_index("model")
    assert loss.index[~loss["in_fit"]].tolist() == list(HELD_OUT)
    row = loss.loc["laws-d16-m8"]
    assert row["relative_error"] == pytest.approx(abs(row["predicted"] - row["actual"]) / row["actual"])
    assert row["compute_ratio"] > 0
    fits = pd.read_csv(results(finished) / "fits.tsv", sep="\t")
    assert (
        fits.loc[fits["parameter"] == "E", "verdict"]
        .isin(["identified", "weakly identified", "not identified"])
        .all()
    )


def test_the_summary_is_printed(finished):
    """Predicted against actual, and E against the entropy of the source."""
    workspace, printed = finished
    words = (workspace.path / "results/small/scaling.txt").read_text()
    assert words.strip() in printed
    assert "laws-d16-m8 (M = 7.98, " in words and "the entropy of the source is" in words.lower()
    assert "no run is below it" in words


def test_figures_are_there(finished):
    for name in ("laws", "exponents", "error", "relative_error", "tradeoff"):
        assert (results(finished) / f"figures/scaling_{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (results(finished) / f"figures/scaling_{name}.pdf").read_bytes().startswith(b"%PDF")


def test_a_second_run_plans_nothing_and_a_new_length_plans_its_own_run(finished):
    workspace, _ = finished
    assert workspace.planned() == {}
    with workspace.edited("series.yaml") as series:
        series["models"]["laws-d8-m2"] = {**series["models"]["laws-d8-m4"], "steps": 10}
    planned = workspace.planned()
    assert planned["train_laws-d8-m2"] == 1 and planned["score"] == 3
    assert not [rule for rule in planned if rule.startswith("train_") and rule != "train_laws-d8-m2"]
