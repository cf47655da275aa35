"""Load proofs in a study: made with the cells, judged in a table, and part of no cell."""

import json
import shutil
from pathlib import Path

import pytest

import trained_series as series
from ebbtide.scoring.proof.verdicts import load_proof_notices
from ebbtide.study.columns import read_described
from ebbtide.tables import CELL, read_parquet
from workspace import Workspace, write_small_study

pytestmark = pytest.mark.slow

ROW = {"name": "mine", "path": "runs/step{step}", "steps": "all", "tokens_per_step": 256}
TABLE = "results/mine/load_proofs.tsv"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return series.train(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def mine(trained: Path, tmp_path: Path) -> Workspace:
    """A study of four checkpoints on disk, the third with head and embedding exchanged."""
    study = write_small_study(tmp_path)
    for step in (20, 40, 80):
        shutil.copytree(trained / f"step{step}", tmp_path / f"runs/step{step}")
    series.with_fault(trained / "step60", tmp_path / "runs/step60", series.swapped_head)
    with study.edited("config.yaml") as config:
        config |= {"study": "mine", "models": [ROW], "tasks": ["tasks/fact_qa.yaml", "tasks/arithmetic.yaml"]}
    return study


def rows(study: Workspace) -> dict[str, dict]:
    table = read_described(study.path / TABLE)
    return {row["checkpoint"]: row for row in table.to_dict("records")}


def test_a_fault_is_named_in_the_log_the_table_and_the_notices(mine: Workspace) -> None:
    mine.run(TABLE)
    found = rows(mine)
    verdicts = {name: row["verdict"] for name, row in found.items()}
    assert verdicts == {"step20": "good", "step40": "good", "step60": "suspicious", "step80": "good"}
    sentence = "head and embedding exchanged: lm_head.weight has those of model.embed_tokens.weight"
    assert found["step60"]["finding"] == "load_loss load_tensors"
    assert sentence in found["step60"]["detail"]
    logs = [path.read_text() for path in mine.path.glob("logs/score/mine/**/*.log")]
    assert sum(text.count("made the load proof") for text in logs) == 4
    assert sum(sentence in text for text in logs) == 1
    [notice] = load_proof_notices(read_described(mine.path / TABLE))
    assert (notice.severity, notice.kind, notice.checkpoint) == ("warning", "suspicious", "step60")
    assert sentence in notice.detail

    # Proofs are inputs of nothing: without them no cell is scored again, and the table says so.
    cells = {path: read_parquet(path, CELL) for path in mine.cells()}
    shutil.rmtree(mine.path / "cells/proofs")
    assert mine.planned(TABLE) == {}
    mine.run(TABLE, "--forcerun", "load_proofs")
    assert {row["verdict"] for row in rows(mine).values()} == {"no proof"}
    with mine.edited("config.yaml") as config:
        config["tasks"].append("tasks/redefine.yaml")
    mine.run(TABLE)
    assert rows(mine) == found
    assert {path: read_parquet(path, CELL) for path in cells} == cells


def test_a_fault_can_stop_its_checkpoint_alone(mine: Workspace) -> None:
    with mine.edited("config.yaml") as config:
        config["audit"] = {"load_tensors": "stop"}
    failed = mine.snakemake("--cores", "1", "--keep-going", TABLE, check=False)
    assert failed.returncode != 0
    assert "mine/step60 has values of other tensors of step" in failed.stdout
    assert "set audit.load_tensors to warn, or allow the finding with a reason" in failed.stdout
    assert {path.parent.name for path in mine.cells()} == {"step20", "step40", "step80"}
    assert not (mine.path / TABLE).exists()
    with mine.edited("config.yaml") as config:
        config["audit"]["allow"] = [
            {"finding": "load_tensors", "models": ["mine"], "steps": [60], "reason": "planted here"}
        ]
    mine.run(TABLE)
    assert (rows(mine)["step60"]["action"], rows(mine)["step60"]["reason"]) == ("warn", "planted here")


def test_made_up_numbers_have_a_row_that_says_so(mine: Workspace) -> None:
    with mine.edited("config.yaml") as config:
        config["scoring"]["backend"] = "fake"
    mine.run(TABLE)
    assert {row["verdict"] for row in rows(mine).values()} == {"no proof"}
    assert "made up" in rows(mine)["step20"]["detail"]
    assert not (mine.path / "cells/proofs").exists()


def test_a_twin_with_another_configuration_differs(trained: Path, tmp_path: Path) -> None:
    study = write_small_study(tmp_path)
    for run in ("runs", "twins"):
        for step in (40, 60):
            shutil.copytree(trained / f"step{step}", tmp_path / f"{run}/step{step}")
    config_file = tmp_path / "twins/step60/config.json"
    config_file.write_text(json.dumps({**json.loads(config_file.read_text()), "rms_norm_eps": 0.1}))
    rows = [{**ROW, "twin": "theirs"}, {**ROW, "name": "theirs", "path": "twins/step{step}"}]
    with study.edited("config.yaml") as config:
        config |= {"study": "mine", "models": rows, "tasks": ["tasks/fact_qa.yaml"]}
        config["audit"] = {"config_changed": "warn"}
    study.run("results/mine/load_twins.tsv")
    table = read_described(study.path / "results/mine/load_twins.tsv").set_index("checkpoint")
    assert table["verdict"].to_dict() == {"step40": "equal", "step60": "differs"}
    assert table.loc["step40", "difference"] == 0
