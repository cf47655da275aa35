"""The target `check_alarms` as a user runs it: what it says, and the exit status."""

import json
from datetime import date

import pandas as pd
import pytest

from ebbtide.statistics.flips.on_disk import read_flips

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


def test_the_examples_behind_every_alarm_are_listed(study):
    results = study.path / "results/small"
    alarms = pd.read_csv(results / "alarms.tsv", sep="\t").dropna(subset="severity")
    pairs = pd.read_csv(results / "flips.tsv", sep="\t")
    examples = read_flips(results / "flips.parquet")
    keys = ["model", "task", "metric"]
    assert set(pairs[keys].itertuples(index=False)) == set(alarms[keys].itertuples(index=False))
    assert len(pairs) and set(pairs["against"]) == {"predecessor, best"}
    for pair in pairs.itertuples():
        [alarm, *_] = alarms[(alarms["model"] == pair.model) & (alarms["task"] == pair.task)].itertuples()
        assert pair.lost + pair.gained == alarm.discordant
        assert (pair.gained - pair.lost) / pair.n == pytest.approx(alarm.change)
        own = examples[(examples["model"] == pair.model) & (examples["task"] == pair.task)]
        assert (own["flip"] == "lost").sum() == pair.listed_lost == min(pair.lost, 200)
        lost = own[own["flip"] == "lost"]
        assert (lost["margin_before"] >= 0).all() and (lost["margin_after"] <= 0).all()
        assert lost["margin_lost"].is_monotonic_decreasing
        sums = [sum(of) for of in (*own["probability_before"], *own["probability_after"])]
        assert sums == pytest.approx([1.0] * len(sums))
        assert set(own["other_models"]) == {1} and own["prompt"].str.len().min() > 0
    with study.edited("config.yaml") as config:
        config["flips"] = {"examples": 1}
    assert study.planned() == {"flips": 1, "summary": 1, "report_page": 1}
    study.run()
    assert study.planned() == {}
    assert pd.read_csv(results / "flips.tsv", sep="\t")["listed_lost"].eq(1).all()
    assert (
        "flips.parquet lists the examples that changed most and leaves out"
        in (results / "summary.txt").read_text()
    )


def test_the_exit_status_says_whether_something_fell(study):
    run = study.snakemake("--cores", "1", "check_alarms", check=False)
    assert run.returncode == 1
    assert "severe    memo_trap  small-d16  step256: accuracy" in run.stdout
    assert "12 comparisons of 2 models on 3 tasks" in run.stdout
    # The checkpoint before is also the best: one line.
    assert run.stdout.count("step256: accuracy") == run.stdout.count("the previous checkpoint and its best")
    assert run.stdout.rstrip().splitlines()[-1].endswith("at or above moderate: exit status 1.")
    assert "Error" not in run.stdout and "Traceback" not in run.stdout
    gate = json.loads((study.path / "results/small/gate/gate.json").read_text())
    assert gate["status"] == 1 and f"\n{gate['reason']}\n" in run.stdout
    worst = gate["drops"][0]
    assert len(worst["examples"]) == 3 and all(one["prompt"] for one in worst["examples"])
    assert all(one["answer_before"] == one["right"][0] for one in worst["examples"])
    assert not list((study.path / ".snakemake").glob("locks/*"))

    with study.edited("config.yaml") as config:
        config["alarms"] = {"fail_on": "never"}
    assert study.snakemake("--cores", "1", "check_alarms").returncode == 0
    with study.edited("config.yaml") as config:
        config["alarms"] = {"baseline": 17}
    wrong = study.snakemake("--cores", "1", "check_alarms", check=False)
    assert wrong.returncode == 2
    assert "alarms.baseline: found 17, but small-d8 has no such checkpoint" in wrong.stdout


def test_allowed_drops_and_the_last_checkpoint_for_cron(study):
    """The recipe of the docs: the last checkpoint of each model, without what is known."""
    known = {"model": "small-d16", "reason": "known", "checkpoints": {"from": 256}, "until": date(2999, 1, 1)}
    with study.edited("config.yaml") as config:
        table = pd.read_csv(study.path / "results/small/alarms.tsv", sep="\t")
        fallen = sorted(
            set(zip(*(table[table["severity"].notna()][c] for c in ("model", "task")), strict=True))
        )
        allow = [{**known, "model": model, "task": task} for model, task in fallen]
        config["alarms"] = {"checkpoints": "last", "allow": allow}
    assert study.planned("check_alarms") == {"alarms": 1, "flips": 1, "check_alarms": 1}
    run = study.snakemake("--cores", "1", "check_alarms")
    assert run.returncode == 0 and "allowed   memo_trap  small-d16  step256: accuracy" in run.stdout
    assert "[severe, allowed until 2999-01-01: known]" in run.stdout
    assert "allowed): exit status 0." in run.stdout
    with study.edited("config.yaml") as config:
        config["alarms"]["allow"] = [{**allow[0], "task": "memo_trp"}]
    wrong = study.snakemake("--cores", "1", "check_alarms", check=False)
    assert wrong.returncode == 2 and "did you mean 'memo_trap'?" in wrong.stdout


def test_a_gate_that_compares_nothing_or_breaks_ends_with_2(study):
    with study.edited("config.yaml") as config:
        for model in config["models"]:
            model["steps"] = [256]
    run = study.snakemake("--cores", "1", "check_alarms", check=False)
    assert run.returncode == 2
    assert (
        "one trained checkpoint, so there is nothing to compare it with. Score more checkpoints."
        in run.stdout
    )
    assert "Nothing was compared, so the gate fails: exit status 2." in run.stdout

    for part in (study.path / "results/small/examples").glob("*/*.parquet"):
        part.write_bytes(b"damaged")
    broken = study.snakemake("--cores", "1", "check_alarms", "--forcerun", "alarms", check=False)
    assert broken.returncode == 2
    assert "A job failed, so alarms were not checked: exit status 2." in broken.stdout
    gate = json.loads((study.path / "results/small/gate/gate.json").read_text())
    assert gate["status"] == 2  # not that of the run before
    assert "not a complete Parquet file" in " ".join(gate["causes"])


def test_other_settings_rerun_the_comparison_alone(study):
    with study.edited("config.yaml") as config:
        config["alarms"] = {"baseline": "small-d8/step16", "family": "checkpoint"}
    planned = study.planned()
    assert planned == {"alarms": 1, "flips": 1, "plot_alarms": 1, "summary": 1, "report_page": 1}
    study.run()
    table = pd.read_csv(study.path / "results/small/alarms.tsv", sep="\t")
    baseline = table[table["against"] == "baseline"]
    assert set(baseline["reference"]) == {"step16", "small-d8/step16"}
    assert baseline.groupby("model").size().to_dict() == {"small-d8": 3, "small-d16": 9}
