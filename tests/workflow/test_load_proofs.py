"""Load proofs in a study: made with the cells, judged in a table, and part of no cell."""

import json
import shutil
from pathlib import Path

import pytest

import trained_series as series
from ebbtide.tables import CELL, read_parquet, read_tsv
from workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("small")]

ROW = {"name": "mine", "path": "runs/step{step}", "steps": "all", "tokens_per_step": 256}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return series.train(tmp_path_factory.mktemp("trained"))


def proofs(study: Workspace) -> list[Path]:
    return sorted(study.path.glob("cells/proofs/*.json"))


def test_a_clean_ladder_is_good_and_cells_of_an_earlier_version_get_a_proof_later(study: Workspace) -> None:
    table = read_tsv(study.path / "results/small/load_proofs.tsv")
    assert len(table) == len(proofs(study)) == 6
    assert set(table["verdict"]) == {"good"}
    assert set(table["texts"]) == {"toy-language"}
    assert "load proof" not in (study.path / "results/small/notices.tsv").read_text()
    # Without proofs, as if an earlier version had scored the cells.
    shutil.rmtree(study.path / "cells/proofs")
    assert study.planned() == {}, "a proof is no input of a cell"
    study.run("results/small/summary.txt", "--forcerun", "load_proofs")
    table = read_tsv(study.path / "results/small/load_proofs.tsv")
    assert set(table["verdict"]) == {"no proof"}
    assert "before there were load proofs" in table["detail"].iloc[0]
    assert (
        "6 of 6 checkpoints have no judged load proof"
        in (study.path / "results/small/notices.tsv").read_text()
    )
    with study.edited("config.yaml") as config:
        config["tasks"].append("tasks/arithmetic.yaml")
    before = {path: path.read_bytes() for path in study.cells()}
    study.run("results/small/summary.txt")
    assert {path: path.read_bytes() for path in before} == before, "nothing is scored again"
    assert set(read_tsv(study.path / "results/small/load_proofs.tsv")["verdict"]) == {"good"}


def test_a_swapped_head_is_named_before_the_first_task_and_can_stop(study: Workspace, trained: Path) -> None:
    for step in (20, 40, 80):
        shutil.copytree(trained / f"step{step}", study.path / f"runs/step{step}")
    series.with_fault(trained / "step60", study.path / "runs/step60", series.swapped_head)
    with study.edited("config.yaml") as config:
        config |= {"study": "mine", "models": [ROW], "tasks": config["tasks"][:2]}
        config["scoring"]["load_once_per"] = "checkpoint"
    study.run("results/mine/report/index.html", cores=1)
    table = read_tsv(study.path / "results/mine/load_proofs.tsv").set_index("checkpoint")
    assert table["verdict"].to_dict() == {
        "step20": "good",
        "step40": "good",
        "step60": "suspicious",
        "step80": "good",
    }
    assert table.loc["step60", "finding"] == "load_tensors load_loss"
    sentence = "head and embedding exchanged: lm_head.weight has those of model.embed_tokens.weight"
    assert sentence in table.loc["step60", "detail"]
    for file in ("summary.txt", "notices.tsv", "report/index.html"):
        assert sentence in (study.path / "results/mine" / file).read_text(), file
    logs = [path.read_text() for path in study.path.glob("logs/score/mine/step60/*.log")]
    [log] = [text for text in logs if "load proof: mine/step60" in text]
    assert log.index("load proof: mine/step60") < log.index("scored")

    # With stop, the cells of this checkpoint alone are not scored; each is told, with one load of weights.
    scored = {path.stem: read_parquet(path, CELL) for path in study.path.glob("results/scores/mine/step40/*")}
    shutil.rmtree(study.path / "results/scores/mine")
    for path in study.path.glob("cells/*.parquet"):
        path.unlink()
    for path in proofs(study):
        if json.loads(path.read_text())["proof"]["load"]["weights"].startswith("files:"):
            path.unlink()
    with study.edited("config.yaml") as config:
        config["audit"] = {"load_tensors": "stop"}
    failed = study.snakemake("--cores", "1", "--keep-going", check=False)
    assert failed.returncode != 0
    assert "mine/step60 has values of other tensors of step" in failed.stdout
    assert "set audit.load_tensors to warn, or allow the finding with a reason" in failed.stdout
    assert not list(study.path.glob("results/scores/mine/step60/*.parquet"))
    again = {path.stem: read_parquet(path, CELL) for path in study.path.glob("results/scores/mine/step40/*")}
    assert again == scored

    with study.edited("config.yaml") as config:
        config["audit"]["allow"] = [
            {"finding": "load_tensors", "models": ["mine"], "steps": [60], "reason": "planted here"}
        ]
    study.run("results/mine/summary.txt", cores=1)
    row = read_tsv(study.path / "results/mine/load_proofs.tsv").set_index("checkpoint").loc["step60"]
    assert (row["action"], row["reason"]) == ("warn", "planted here"), "the loss is not allowed"
