"""The target `check_alarms` as a user runs it: what it says, and the exit status."""

import pandas as pd
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("workflow")]


def test_alarms_are_a_table_and_figures_of_every_study(finished_study):
    results = finished_study.path / "results/small"
    table = pd.read_csv(results / "alarms.tsv", sep="\t")
    # Two models, three tasks, two trained checkpoints (step 0 is none): the last against the first.
    assert table["against"].value_counts().to_dict() == {"predecessor": 6, "best": 6}
    assert set(table["reference"]) == {"step16"}
    fallen = table[(table["task"] == "memo_trap") & (table["checkpoint"] == "step256")]
    assert (fallen["severity"] == "severe").all()
    for name in ("alarms", "changes"):
        assert (results / f"figures/{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_exit_status_says_whether_something_fell(study):
    run = study.snakemake("--cores", "1", "check_alarms", check=False)
    assert run.returncode == 1
    assert "severe    memo_trap  small-d16  step256: accuracy" in run.stdout
    assert "12 comparisons of 2 models on 3 tasks" in run.stdout
    assert "Error" not in run.stdout and "Traceback" not in run.stdout
    assert not list((study.path / ".snakemake").glob("locks/*"))

    with study.edited("config.yaml") as config:
        config["alarms"] = {"fail_on": "never"}
    assert study.snakemake("--cores", "1", "check_alarms").returncode == 0
    with study.edited("config.yaml") as config:
        config["alarms"] = {"baseline": 17}
    wrong = study.snakemake("--cores", "1", "check_alarms", check=False)
    assert wrong.returncode != 0
    assert "alarms.baseline: found 17, but small-d8 has no such checkpoint" in wrong.stdout


def test_other_settings_rerun_the_comparison_alone(study):
    with study.edited("config.yaml") as config:
        config["alarms"] = {"baseline": "small-d8/step16", "family": "checkpoint"}
    planned = study.planned()
    assert planned == {"alarms": 1, "plot_alarms": 1, "summary": 1}
    study.run()
    table = pd.read_csv(study.path / "results/small/alarms.tsv", sep="\t")
    baseline = table[table["against"] == "baseline"]
    assert set(baseline["reference"]) == {"step16", "small-d8/step16"}
    assert baseline.groupby("model").size().to_dict() == {"small-d8": 3, "small-d16": 9}
