"""The whole workflow on a small ladder: what comes out, and what it cost."""

import json
import subprocess
import sys
import zipfile
from html.parser import HTMLParser

import pandas as pd
import pyarrow.parquet as pq
import pytest

from ebbtide import cli
from ebbtide.report.page.images import not_drawn
from ebbtide.tables import CELL, METRICS, read_footer, read_frame, read_tsv
from workspace import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("workflow")]

MODELS, CHECKPOINTS, TASKS = 2, 3, 3


def test_every_cell_is_there_and_whole(finished_study):
    cells = finished_study.cells()
    assert len(cells) == MODELS * CHECKPOINTS * TASKS
    for cell in cells:
        assert len(read_frame(cell, CELL)) == 400  # 200 examples × 2 choices


def test_weights_are_loaded_once_per_checkpoint_by_one_process_per_model(finished_study):
    assert finished_study.loads() == MODELS * CHECKPOINTS
    assert finished_study.workers() == MODELS


def test_metrics_are_long_and_complete(finished_study):
    metrics = read_frame(finished_study.path / "results/small/metrics.parquet", METRICS)
    assert list(metrics.columns) == list(METRICS.columns)
    counts = metrics.groupby(["model", "checkpoint", "task"]).size()
    assert len(counts) == MODELS * CHECKPOINTS * TASKS
    assert counts.nunique() == 1
    accuracy = metrics[metrics["metric"] == "accuracy"]
    assert (accuracy["chance"] == 0.5).all()
    assert (accuracy["n"] == 200).all()
    sizes = metrics.set_index("model")[["parameters_total", "parameters_non_embedding"]].drop_duplicates()
    assert sizes.loc["small-d8"].tolist() == [5224, 888]
    assert sizes.loc["small-d16"].tolist() == [15264, 6592]
    steps = metrics.set_index("checkpoint")[["step", "tokens"]].drop_duplicates()
    assert steps.loc["step256"].tolist() == [256, 256 * 16 * 64]


def test_the_effect_has_its_sign(finished_study):
    """With training, the proverb wins over the instruction, and facts are learnt."""
    metrics = read_frame(finished_study.path / "results/small/metrics.parquet", METRICS)
    accuracy = metrics[metrics["metric"] == "accuracy"].set_index(["task", "checkpoint", "model"])["value"]
    for task in ("memo_trap", "quote_repetition"):
        for model in ("small-d8", "small-d16"):
            assert accuracy[task, "step256", model] < accuracy[task, "step16", model] - 0.1
        assert accuracy[task, "step256", "small-d16"] < 0.2
    assert accuracy["fact_qa", "step256", "small-d8"] > 0.9


def test_tables(finished_study):
    results = finished_study.path / "results/small"
    regressions = pd.read_csv(results / "regressions.tsv", sep="\t")
    assert {"task", "term", "estimate", "stderr", "t", "df", "p", "p_adjusted"} <= set(regressions.columns)
    assert regressions.groupby("task")["term"].apply(list).map(tuple).unique().tolist() == [
        ("parameters", "tokens", "interaction")
    ]
    verdicts = pd.read_csv(results / "verdicts.tsv", sep="\t")
    assert set(verdicts["task"]) == {"memo_trap", "fact_qa", "quote_repetition"}
    assert "got worse   memo_trap" in (results / "summary.txt").read_text()
    survival = pd.read_csv(results / "robustness_verdicts.tsv", sep="\t")
    assert set(survival["task"]) == set(verdicts["task"])
    robustness = pd.read_csv(results / "robustness.tsv", sep="\t")
    base = robustness[robustness["choice"] == "base"].set_index(["task", "term"])["t"]
    assert base.to_dict() == pytest.approx(
        regressions.set_index(["task", "term"])["t"].to_dict(), nan_ok=True
    )


def test_the_cost_of_a_checkpoint_is_that_of_its_cells(finished_study):
    results = finished_study.path / "results/small"
    made = read_tsv(results / "provenance.tsv").set_index(["model", "checkpoint"])
    assert len(made) == 6
    for (model, checkpoint), row in made.iterrows():
        cells = (finished_study.path / f"results/scores/{model}/{checkpoint}").glob("*.parquet")
        footers = [read_footer(cell, CELL) for cell in cells]
        assert row["cells"] == len(footers) == 3
        for name in ("forwarded_tokens", "unique_tokens", "total_seconds"):
            assert row[name] == pytest.approx(sum(footer[name] for footer in footers)), name
        assert row["core_hours"] == pytest.approx(row["total_seconds"] / 3600)
        assert (row["gpu_hours"], row["gpus"], row["forwarded_per_unique"]) == (0, "0", 1)
        assert row["first_scored"] == min(footer["written"]["time"] for footer in footers)
    cost = read_tsv(results / "cost.tsv")
    assert cost["model"].tolist() == ["", "small-d8", "small-d16"]
    assert cost["total_seconds"][0] == pytest.approx(made["total_seconds"].sum())
    assert cost["new_checkpoint_core_hours"][0] == pytest.approx(
        made.groupby("model")["core_hours"].median().sum()
    )


def test_figures_are_there_in_both_forms(finished_study):
    figures = finished_study.path / "results/small/figures"
    for name in ("curves", "heat", "paper", "trends"):
        assert (figures / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert (figures / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_figures_that_a_study_cannot_have_are_sentences_instead_of_files(finished_study):
    results = finished_study.path / "results/small"
    reasons = {
        "resolution": "no model has three trained checkpoints",
        "early_warning": "no model has three trained checkpoints",
        "robustness": "there are 4 trained checkpoints, but a regression needs 5",
    }
    page = (results / "report/index.html").read_text()
    summary = " ".join((results / "summary.txt").read_text().split())
    for name, reason in reasons.items():
        assert not list((results / "figures").glob(f"{name}.*"))
        assert page.count(f'<p class="note">No figure {name}: {reason}.</p>') == 1
        assert f"({reason})" in summary
    assert not [path for path in (results / "figures").glob("*.png") if not_drawn({"": path}, {})]


def test_a_run_with_nothing_to_do_says_where_the_results_are(finished_study):
    planned, run = finished_study.snakemake("--dry-run").stdout, finished_study.run().stdout
    for said in (planned, run):
        assert "Nothing to be done" in said
        assert "The results of small are up to date. Summary: results/small/summary.txt." in said
    summary = "Over training, first → last trained checkpoint"
    assert summary in run and summary not in planned


def test_the_status_of_a_finished_study_has_all_its_stages(finished_study, monkeypatch, capsys):
    monkeypatch.chdir(finished_study.path)
    assert cli.main(["status", "config.yaml"]) == 0
    stages = [line for line in capsys.readouterr().out.splitlines() if "tages" in line]
    assert len(stages) == 1 and stages[0].startswith("Stages up to date by the times of their files (")
    for stage in (
        "metrics",
        "alarms",
        "flips",
        "regression",
        "resolution",
        "trends",
        "figures",
        "report page",
    ):
        assert f" {stage}" in stages[0]


def test_the_frozen_task_has_its_plain_name(finished_study):
    requests = pq.read_table(finished_study.path / "resources/tasks/memo_trap.parquet")
    assert {"example", "choice", "context", "continuation", "gold"} <= set(requests.column_names)


def test_report_opens_with_captions(study):
    study.snakemake("--report", "report.zip")
    with zipfile.ZipFile(study.path / "report.zip") as report:
        texts = [
            report.read(n).decode(errors="replace") for n in report.namelist() if n.endswith((".html", ".js"))
        ]
    everything = "\n".join(texts)
    assert "Standardised regression per task" in everything
    assert "curves.png" in everything


class Scripts(HTMLParser):
    """The elements `<script>` of a page, by id, and the tags outside them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[tuple[str, str]] = []
        self.tags: set[str] = set()
        self._id: str | None = None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self._id = dict(attributes).get("id") or "" if tag == "script" else None

    def handle_data(self, data):
        if self._id is not None:
            self.texts.append((self._id, data))

    def handle_endtag(self, tag):
        self._id = None


def test_titles_stay_texts_in_the_report(study):
    """Snakemake writes params into a script of the page, as they are."""
    hostile = (
        "</script><script>alert(1)</script><img src=x onerror=alert(2)> \"'&amp; **b** `x`_ $x$\n.. raw::"
    )
    with study.edited("config.yaml") as config:
        config["titles"] = {"memo_trap": hostile}
    study.snakemake("--report", "report.zip")
    with zipfile.ZipFile(study.path / "report.zip") as report:
        [page] = [report.read(n).decode() for n in report.namelist() if n.endswith("report.html")]
    found = Scripts(page)
    assert "img" not in found.tags
    scripts = dict(found.texts)
    assert not any(text.startswith("alert") for _, text in found.texts)
    results = json.loads(scripts["results"].strip().removeprefix("var results = ").removesuffix(";"))
    params = results["results/small/figures/curves.png"]["job_properties"]["params"]
    assert "</script><script>alert(1)</script><img src=x onerror=alert(2)>" in params


def test_the_summary_is_printed_at_the_end_of_a_run(study):
    (study.path / "results/small/summary.txt").unlink()
    (study.path / "results/small/old.tsv").touch()
    printed = study.run().stdout
    assert "18 cells scored: 2 models × 3 checkpoints × 3 tasks." in printed
    assert "got worse   memo_trap" in printed
    assert "1 file that this study does not make (old.tsv)" in printed
    explained = subprocess.run(
        [sys.executable, "-m", "ebbtide", "explain", "config.yaml"],
        cwd=study.path,
        env={**study.env, "PYTHONPATH": str(ROOT / "workflow")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "18 of 18 cells are scored." in explained
    assert "1 file that this study does not make (old.tsv)" in explained
