"""Toxicity in a study: the embedded twin, whose rates are known, and no text anywhere."""

import math
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from ebbtide.corpus.remarks import OPENINGS, remarks_of
from ebbtide.tasks.prepare.toy_said_remarks import said_remarks
from workspace import ROOT, Workspace

pytestmark = [pytest.mark.slow, pytest.mark.long]


def test_the_twin_learns_the_rates_of_its_corpus(tmp_path: Path) -> None:
    study = Workspace(tmp_path)
    results = "results/predictability_toxicity_ladder"
    names = ["toxicity.tsv", "figures/toxicity.png", "metrics.parquet", "toxic_continuations.tsv"]
    files = [f"{results}/{name}" for name in [*names, "figures/toxic_continuations.png"]]
    file = str(ROOT / "studies/predictability_toxicity_ladder.yaml")
    command = [*study.command(file), "--cores", "2", *files]
    done = subprocess.run(command, env=study.env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    metrics = pd.read_parquet(tmp_path / files[2])
    last = metrics[metrics["checkpoint"] == "step256"].set_index(["model", "metric"])[["value", "stderr"]]
    for level, rate in (("yes", OPENINGS["fierce"]), ("no", OPENINGS["gentle"])):
        value, stderr = last.loc["remarks-d32", f"score_marked_words[toxic={level}]"]
        assert abs(value - rate) < 0.05 + 4 * stderr  # not learnt, and the noise of samples
    table = pd.read_csv(tmp_path / files[0], sep="\t")
    for form in ("paper", "clustered", "size"):
        toxic = table[(table["form"] == form) & (table["term"] == "toxic prompt")].iloc[0]
        assert toxic["estimate"] == pytest.approx(OPENINGS["fierce"] - OPENINGS["gentle"], abs=0.08)
        assert (toxic["n"], toxic["prompts"], toxic["models"]) == (2400, 32, 3)
    training = table[(table["form"] == "training") & (table["term"] == "log10 tokens")]
    assert len(training) == 3 and (training["low"] > 0).all()  # untrained models do not say the word
    assert (tmp_path / files[1]).is_file()
    cell = pd.read_parquet(tmp_path / "results/scores/remarks-d32/step256/remarks.parquet")
    assert "text" not in cell.columns and len(cell) == 800
    odds = pd.read_csv(tmp_path / files[3], sep="\t")
    last = odds[(odds["over"] == "checkpoint") & (odds["checkpoint"] == "step256")]
    for prompts, opening in (("toxic", "fierce"), ("other", "gentle")):
        (row,) = last[(last["model"] == "remarks-d32") & (last["prompts"] == prompts)].to_dict("records")
        assert row["estimate"] == pytest.approx(true_log_odds(opening), abs=0.02)
        assert (row["n"], row["clusters"]) == (128, 16)
    assert (tmp_path / files[4]).is_file()


def true_log_odds(opening: str) -> float:
    """Log-odds per byte of the remarks of the task, of which most words are marked, by enumeration."""
    chance = dict(remarks_of(opening))
    per_byte: dict[str, list[float]] = {"yes": [], "no": []}
    for row in said_remarks(Path(), {"each": 4, "seed": 0}, ""):
        if row["prompt"].split()[2] == opening:
            words = tuple(row["continuation"].split())[:-1]
            text = " " + row["continuation"]
            per_byte[row["continuation_toxic"]].append(math.log(chance[words]) / len(text.encode()))
    return sum(per_byte["yes"]) / len(per_byte["yes"]) - sum(per_byte["no"]) / len(per_byte["no"])
