"""Error rates by group, in a study of invented people and in the embedded twin, whose best rule is known."""

import subprocess
from pathlib import Path

import pandas as pd
import pytest

import tiny
from compas_file import BIRTH, CASE, NAME, compas_csv, people
from ebbtide.corpus.cases import best_rates
from ebbtide.files import file_sha256
from workspace import ROOT, Workspace

pytestmark = pytest.mark.slow
FAIRNESS = {
    "conditions": {"without race": ["compas_0"], "with race": ["compas_race_0"]},
    "group": "race",
    "levels": ["African-American", "Caucasian"],
    "reference": {"name": "COMPAS", "group": "compas", "positive": "high"},
}


def test_a_study_of_defendants(tmp_path: Path) -> None:
    study = Workspace(tmp_path)
    data = tmp_path / "compas.csv"
    data.write_bytes(compas_csv(*people(160)))
    catalogue = ROOT / "workflow/tasks"
    for name in ("compas_0", "compas_race_0"):
        definition = study.read_yaml(str(catalogue / "_compas_vignette.yaml"))
        for part in ("_compas", *(["_compas_race"] if "race" in name else []), name):
            for key, value in study.read_yaml(str(catalogue / f"{part}.yaml")).items():
                old = definition.get(key)
                definition[key] = {**old, **value} if isinstance(old, dict) else value
        definition.pop("include")
        definition["source"] = {
            "file": "compas.csv",
            "sha256": file_sha256(data),
            "prepare": {"function": "compas"},
        }
        study.write_yaml(f"{name}.yaml", definition)
    config = {
        "study": "defendants",
        "models": [tiny.hollow_model(tmp_path / f"models/m{layers}", layers) for layers in (1, 2)],
        "tasks": ["compas_0.yaml", "compas_race_0.yaml"],
        "scoring": {"backend": "fake", "max_length": 12000, "rescore_examples": 0},
        "fairness": FAIRNESS,
    }
    study.write_yaml("config.yaml", config)
    study.run()
    results = tmp_path / "results/defendants"
    table = pd.read_csv(results / "fairness.tsv", sep="\t")
    assert table["model"].tolist() == ["COMPAS"] * 2 + ["m1"] * 2 + ["m2"] * 2
    scored = table[table["checkpoint"].notna()]
    assert scored["shots"].str.fullmatch(r"\d+ of 50").all()  # the window holds some
    assert scored["p"].notna().tolist() == [False, True] * 2
    # Rates are those of metrics.parquet, which breaks them down by the same group.
    metrics = pd.read_parquet(results / "metrics.parquet").set_index(["model", "task", "metric"])["value"]
    for row in scored.to_dict("records"):
        for column, level in (("fpr_first", "African-American"), ("fpr_second", "Caucasian")):
            name = f"false_positive_rate[race={level}]"
            assert row[column] == pytest.approx(metrics[row["model"], row["task"], name], abs=1e-9)
    # The caution stands above the results, and no name is in any file but the one that was fetched.
    page = (results / "report/index.html").read_text()
    assert "should not be used for such tasks" in page
    assert (results / "figures/fairness.pdf").is_file()
    for path in tmp_path.rglob("*"):
        fetched = path.name == "compas.csv"
        if path.is_file() and not fetched and ".snakemake" not in path.parts:
            content = path.read_bytes().lower()
            for secret in (NAME, "quillfeather", BIRTH, CASE):
                assert secret.lower().encode() not in content, path
    assert study.planned() == {}


@pytest.mark.long
def test_the_twin_learns_the_best_rule_and_its_unequal_rates(tmp_path: Path) -> None:
    study = Workspace(tmp_path)
    table = "results/predictability_recidivism_ladder/fairness.tsv"
    file = str(ROOT / "studies/predictability_recidivism_ladder.yaml")
    command = [*study.command(file), "--cores", "2", table]
    done = subprocess.run(command, env=study.env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    rows = pd.read_csv(tmp_path / table, sep="\t")
    best = rows[rows["model"] == "best rule"].iloc[0]
    known = {level: best_rates(level) for level in ("iron", "copper")}
    for number, rate in enumerate(("accuracy", "fpr", "fnr")):
        for side, level in (("first", "iron"), ("second", "copper")):
            truth, n = known[level][number], best[f"n_{side}"] / 3  # at least so many that the rate counts
            assert abs(best[f"{rate}_{side}"] - truth) < 4 * (truth * (1 - truth) / n) ** 0.5
    trained = rows[(rows["checkpoint"] == "step512") & (rows["condition"] != "few-shot")]
    largest = trained[trained["model"] == "cases-d32"]
    smallest = trained[trained["model"] == "cases-d8"]
    assert (largest["accuracy"] > best["accuracy"] - 0.03).all()
    assert largest["accuracy"].min() > smallest["accuracy"].max() + 0.1
    assert largest["fpr_ratio"].between(1.8, 4.5).all()  # 2.4 by the best rule
