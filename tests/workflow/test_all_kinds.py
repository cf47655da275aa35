"""One study with tasks of every kind, scored, measured, imported and exported as a user would."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import tiny
from described import undescribed
from ebbtide.tables import CELL, METRICS, read_footer
from lm_eval_files import curve_lines, write_run
from workspace import ROOT, Workspace

FORMATS = ("cloze", "choice")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kinds")]
TASKS: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "choices": (
        {
            "fields": {"prompt": "Q: {{ question }} A:", "choices": "options", "gold": "answer"},
            "delimiter": " ",
            "few_shot": {"k": 1},
            "unconditional": "A:",
            "groups": {"part": "part"},
            "cluster": "part",
        },
        [
            {"question": f"ab {n} cd", "options": [f"ab{n}", "cd"], "answer": n % 2, "part": "ab"[n // 4]}
            for n in range(8)
        ],
    ),
    "odds": (
        {"kind": "log_odds"},
        [
            {"prompt": f"ab {n}", "other_prompt": f"cd {n}", "classes": [" ab", " cd"], "answer_index": n % 2}
            for n in range(4)
        ],
    ),
    "sequences": (
        {"kind": "sequence", "fields": {"stop": " ."}},
        [{"prompt": f"ab {n}", "completion": " ab cd"} for n in range(4)],
    ),
    "ratings": (
        {"kind": "rating", "fields": {"choices": [" 1", " 2", " 3"], "target": "stars"}},
        [{"prompt": f"ab {n} a", "stars": 1 + n % 3} for n in range(6)],
    ),
    "yes_or_no": (
        {
            "kind": "binary",
            "fields": {"question": "prompt", "choices": [" no", " yes"], "gold": "truth"},
            "groups": {"race": "race"},
            "formats": ["cloze", "choice"],
        },
        [{"prompt": f"ab {n}", "truth": n % 2, "race": "xy"[n // 4]} for n in range(8)],
    ),
    "texts": (
        {
            "kind": "generation",
            "fields": {"target": "answers"},
            "few_shot": {"k": 1},
            "decoding": {"max_tokens": 6, "samples": 5, "temperature": 1.0, "top_p": 0.9},
            "texts": {"filters": [{"function": "regex", "regex_pattern": "[a-z]"}]},
            "groups": {"part": "part"},
        },
        [{"prompt": f"ab {n}", "answers": ["a", "b"], "part": "ab"[n // 3]} for n in range(6)],
    ),
    "kept": (
        {
            "kind": "generation",
            "decoding": {"max_tokens": 4, "samples": 3, "temperature": 1.0, "keep_text": True},
            "texts": {"classifiers": [{"function": "marked_words", "words": ["ab"]}]},
        },
        [{"prompt": f"ab {n}"} for n in range(4)],
    ),
    "documents": ({"kind": "rolling"}, [{"text": "ab cd " * (20 + n)} for n in range(3)]),
}
NAMES = [
    task
    for name, (definition, _) in TASKS.items()
    for task in ([f"{name}.{one}" for one in FORMATS] if "formats" in definition else [name])
]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Five checkpoints on disk, four in the study, and every kind of task, run once."""
    workspace = Workspace(tmp_path_factory.mktemp("kinds"))
    for step in (1, 2, 3, 4, 5):  # the last is not in the study
        directory = workspace.path / f"models/step{step}"
        made = tiny.model("gpt_neox", vocabulary=tiny.BPE_VOCABULARY)
        with torch.no_grad():
            for weight in made.parameters():
                weight.mul_(1 + step / 20)
        made.float().save_pretrained(directory)
        tiny.bpe().save_pretrained(directory)
    for name, (definition, rows) in TASKS.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (workspace.path / f"{name}.jsonl").write_text(text)
        source = {"file": f"{name}.jsonl", "sha256": hashlib.sha256(text.encode()).hexdigest()}
        workspace.write_yaml(f"tasks/{name}.yaml", {"title": name, "source": source, **definition})
    published = "model,step,task,value\nother,1,choices,0.5\nother,2,choices,0.75\n"
    (workspace.path / "published.csv").write_text(published)
    columns = {"model": "model", "step": "step", "task": "task", "value": "value"}
    imported = {
        "format": "table",
        "files": ["published.csv"],
        "columns": columns,
        "metric": "accuracy",
        "models": [{"name": "other", "tokens_per_step": 100, "parameters": {"non_embedding": 1000}}],
    }
    workspace.write_yaml(
        "config.yaml",
        {
            "study": "kinds",
            "models": [
                {"name": "tiny", "path": "models/step{step}", "steps": [1, 2, 3, 4], "tokens_per_step": 100}
            ],
            "tasks": [f"tasks/{name}.yaml" for name in TASKS],
            "imported": [imported],
            "scoring": {"dtype": "float32"},
            "abrupt": {},
        },
    )
    done = subprocess.run(
        [*workspace.command(), "--cores", "2"],
        env=workspace.env,
        cwd=workspace.path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return workspace


def metrics(study: Workspace) -> pd.DataFrame:
    return pd.read_parquet(study.path / "results/kinds/metrics.parquet")


def test_every_kind_has_its_metrics(study: Workspace) -> None:
    rows = metrics(study)
    scored = rows[rows["source"] == "scored"].groupby("task")["metric"].agg(set)
    expected = {
        "choices": {
            *("accuracy", "accuracy_per_byte", "accuracy_pmi", "brier", "accuracy[part=a]"),
            *("gold_bits_per_byte", "gold_bits_per_byte_without_space", "gold_rank"),
        },
        "odds": {"log_odds", "absolute_log_odds"},
        "sequences": {"sequence_loss", "greedy_accuracy", "greedy_exact_match"},
        "ratings": {"expected_rating", "rmse"},
        "yes_or_no.cloze": {"accuracy", "false_positive_rate[race=x]"},
        "yes_or_no.choice": {"accuracy", "false_positive_rate[race=x]"},
        "texts": {"exact_match", "exact_match[part=a]", "pass_at_5", "sample_loss", "ended_by_length"},
        "documents": {"loss", "bits_per_byte", "perplexity"},
    }
    for task, names in expected.items():
        assert names <= scored[task], (task, names - scored[task])


def test_texts_that_are_kept_are_on_the_page_and_no_others(study: Workspace) -> None:
    kept = pd.read_parquet(study.path / "results/kinds/kept_texts.parquet")
    assert set(kept["task"]) == {"kept"} and set(kept["checkpoint"]) == {"step4"}
    cell = pd.read_parquet(study.path / "results/scores/tiny/step4/kept.parquet")
    texts = cell.set_index(["example", "sample"])["text"]
    assert all(texts[row.example, row.sample] == row.text for row in kept.itertuples())
    highest = kept[kept["choice"] == "highest"]
    assert highest["score"].iloc[0] == cell["score_marked_words"].max()
    assert set(kept["prompt"]) <= {f"ab {n}" for n in range(4)}
    page = (study.path / "results/kinds/report/index.html").read_text(encoding="utf-8")
    assert page.count('<div class="blurred" aria-hidden="true">') == len(kept)
    assert "tiny, step4: some of 12 samples" in page and "Texts are measured and not kept" in page
    other = pd.read_parquet(study.path / "results/scores/tiny/step4/texts.parquet")
    assert "text" not in other


def test_right_answers_and_log_probabilities_are_compared_over_training(study: Workspace) -> None:
    table = pd.read_csv(study.path / "results/kinds/abrupt.tsv", sep="\t")
    rows, left = table[table["form"].notna()], table[table["form"].isna()]
    assert {"odds", "ratings", "documents"} <= set(left["task"])
    assert left["note"].str.contains("no right answers with a log-probability").all()
    assert set(rows["over"]) == {"tokens"}  # one model, so no sizes, and no figure of them
    assert set(rows.groupby("task")["metric"].agg(tuple)) == {
        ("accuracy", "gold_bits_per_byte"),
        ("greedy_exact_match", "sequence_loss"),
    }
    assert (rows["points"] == 4).all() and rows["verdict"].notna().all()
    points = pd.read_csv(study.path / "results/kinds/abrupt_points.tsv", sep="\t")
    measured = metrics(study).set_index(["model", "task", "checkpoint", "metric"])["value"]
    for row in points.to_dict("records"):
        sign = 1 if row["form"] == "outcome" else -1
        expected = sign * measured[row["model"], row["task"], row["label"], row["metric"]]
        assert row["value"] == pytest.approx(expected, rel=1e-6)


def test_a_definition_in_two_formats_is_asked_twice(study: Workspace) -> None:
    asked = {
        name: pd.read_parquet(study.path / f"resources/tasks/yes_or_no.{name}.parquet") for name in FORMATS
    }
    first = {name: rows.iloc[1] for name, rows in asked.items()}
    assert (first["cloze"]["context"], first["cloze"]["continuation"]) == ("ab 0", " yes")
    listed = ("ab 0\n A. no\n B. yes\nAnswer:", " B")
    assert (first["choice"]["context"], first["choice"]["continuation"]) == listed
    scored = {name: study.path / f"results/scores/tiny/step1/yes_or_no.{name}.parquet" for name in FORMATS}
    assert len({read_footer(file, CELL)["requests_sha256"] for file in scored.values()}) == 2


def test_rolling_equals_the_engines_own_loss(study: Workspace) -> None:
    from ebbtide.scoring.documents import score_documents
    from ebbtide.scoring.engine import load_scorer

    losses = score_documents(load_scorer(study.path / "models/step2"), study.path / "documents.jsonl")
    rows = metrics(study).set_index(["task", "checkpoint", "metric"])["value"]
    assert rows["documents", "step2", "loss"] == pytest.approx(losses.footer["loss"], abs=1e-9)
    assert rows["documents", "step2", "bits_per_byte"] == pytest.approx(
        losses.footer["bits_per_byte"], abs=1e-9
    )


def test_imported_rows_stand_beside_scored_ones(study: Workspace) -> None:
    rows = metrics(study)
    other = rows[rows["model"] == "other"]
    assert set(other["source"]) == {"imported"}
    assert other.set_index("step")["value"].to_dict() == {1: 0.5, 2: 0.75}
    assert (study.path / "results/kinds/figures/curves.png").exists()


def test_a_change_of_what_is_measured_scores_nothing(study: Workspace) -> None:
    before = (study.path / "tasks/choices.yaml").read_text()
    with study.edited("tasks/choices.yaml") as task:
        task["metrics"] = ["accuracy"]
    try:
        planned = study.planned()
        assert "score" not in planned and "freeze" not in planned
        assert planned["measure"] == 4
    finally:
        (study.path / "tasks/choices.yaml").write_text(before)
    assert study.planned() == {}


def test_another_decoding_scores_its_column_and_a_checkpoint_its_cells(study: Workspace) -> None:
    files = ("tasks/texts.yaml", "config.yaml")
    before = {name: (study.path / name).read_text() for name in files}
    try:
        with study.edited("tasks/texts.yaml") as task:
            task["decoding"]["seed"] = 1
        planned = study.planned()
        assert planned["score"] == 4 and planned["freeze"] == 1
        (study.path / "tasks/texts.yaml").write_text(before["tasks/texts.yaml"])
        with study.edited("config.yaml") as config:
            config["models"][0]["steps"] = [1, 2, 3, 4, 5]
        planned = study.planned()
        assert planned["score"] == len(NAMES) and "freeze" not in planned
    finally:
        for name, text in before.items():
            (study.path / name).write_text(text)
    assert study.planned() == {}


def test_the_preview_marks_the_border(study: Workspace) -> None:
    text = (study.path / "resources/tasks/choices.preview.tsv").read_text()
    assert len(text.splitlines()) > 5


def test_export_for_other_tools(study: Workspace) -> None:
    call = [sys.executable, "-m", "ebbtide", "export", "--study", "config.yaml", "--to", "exported"]
    call += ["--format", "lm-eval", "every-eval-ever", "inspect", "tables", "csv"]
    env = {**study.env, "PYTHONPATH": str(ROOT / "workflow")}
    done = subprocess.run(call, cwd=study.path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    out = study.path / "exported"
    assert len(list(out.glob("*/results_*.json"))) == 4
    assert len(list(out.glob("*/samples_*.jsonl"))) == 4 * len(NAMES)
    generated = [json.loads(line) for line in (out / "tiny__step2/samples_texts_step2.jsonl").open()]
    assert [line["resps"] for line in generated] == [[[None] * 5]] * 6, "texts are not kept"
    assert generated[0]["target"] == "a" and generated[0]["arguments"]["gen_args_0"]["arg_1"]["top_p"] == 0.9
    assert all(0 <= line["exact_match"] <= 1 for line in generated)
    assert len(list(out.glob("inspect/*/*.json"))) == 4 * len(NAMES)
    records = [path for path in out.glob("data/*/*/*/*.json")]
    assert len(records) == 4 * len(NAMES)
    samples = list(out.glob("data/*/*/*/*_samples.jsonl"))
    without = f"every-eval-ever: {len(records) - len(samples)} cells without samples"
    assert samples and without in done.stdout
    examples = pd.read_parquet(out / "examples.parquet")
    assert set(examples["task"]) == set(NAMES)
    assert len(pd.read_csv(out / "metrics.csv")) == len(metrics(study))
    assert not undescribed(study.path / "results/kinds") and not undescribed(out)
    bins = pd.read_csv(out / "reliability.csv")
    assert set(bins["task"]) == {"choices", "yes_or_no.cloze", "yes_or_no.choice"}

    # What was exported comes back: as metrics of another study, and as cells on disk.
    row = {"format": "lm_eval_samples", "files": ["exported/tiny__step*/samples_*.jsonl"]}
    row["models"] = [{"name": "tiny", "tokens_per_step": 100}]
    study.write_yaml("back.yaml", {"study": "back", "imported": [row]})
    call = [sys.executable, "-m", "ebbtide", "import-cells", "--study", "back.yaml", "--to", "cells_back"]
    done = subprocess.run(call, cwd=study.path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    back = pd.read_parquet(study.path / "cells_back/tiny/step2/choices.parquet")
    cell = pd.read_parquet(study.path / "results/scores/tiny/step2/choices.parquet")
    asked = cell.merge(back, on=["example", "choice"], suffixes=("", "_back"))
    assert (asked["loglikelihood"] == asked["loglikelihood_back"]).all() and len(asked)


def test_a_study_of_imported_results_alone(study: Workspace, tmp_path: Path) -> None:
    """A lab with years of results gets regressions and plots without scoring anything."""
    workspace = Workspace(tmp_path)
    (tmp_path / "published.csv").write_text(
        "model,step,task,value\n"
        + "".join(
            f"m{size},{step},t,{0.5 + 0.05 * size - 0.04 * k * size + 0.01 * ((size * k) % 3)}\n"
            for size in (1, 2, 3)
            for k, step in enumerate((1, 2, 4, 8))
        )
    )
    models = [
        {"name": f"m{s}", "tokens_per_step": 100, "parameters": {"non_embedding": 10**s}} for s in (1, 2, 3)
    ]
    columns = {"model": "model", "step": "step", "task": "task", "value": "value"}
    row = {"format": "table", "files": ["published.csv"], "columns": columns, "metric": "accuracy"}
    for step, right in {1000: 60, 2000: 30}.items():
        args = f"pretrained=EleutherAI/pythia-70m,revision=step{step}"
        write_run(tmp_path / f"runs/{step}", args, {"questions": curve_lines(80, right)})
    samples = {"format": "lm_eval_samples", "files": ["runs/*/samples_*.jsonl"]}
    config = {"study": "old", "imported": [{**row, "models": models}, samples]}
    workspace.write_yaml("config.yaml", {**config, "alarms": {"baseline": 1000}})
    done = subprocess.run(
        [*workspace.command(), "--cores", "1"],
        env=workspace.env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    table = pd.read_csv(tmp_path / "results/old/regressions.tsv", sep="\t")
    assert table.loc[table["task"] == "t", "p"].notna().all()
    assert (tmp_path / "results/old/figures/curves.pdf").exists()
    # Samples have what cells have; the published table has only means, and that is said.
    tables = {
        name: pd.read_csv(tmp_path / f"results/old/{name}.tsv", sep="\t")
        for name in ("alarms", "trends", "forgetting", "early_warning", "example_model", "forgotten_examples")
    }
    for name in ("alarms", "trends", "early_warning", "forgotten_examples"):
        assert set(tables[name]["task"]) == {"questions"}
    forgetting = tables["forgetting"].set_index("task")
    assert set(forgetting.index) == {"questions", "t"}  # the published means have a row that says why not
    assert forgetting.loc["t", "note"].str.contains("imported summaries, which have no examples").all()
    assert set(tables["alarms"]["against"]) == {"predecessor", "best", "baseline"}
    assert set(tables["alarms"]["severity"]) == {"severe"} and set(tables["alarms"]["n"]) == {80}
    assert tables["forgotten_examples"]["prompt"].str.startswith("Question ").all()
    assert "questions" in set(tables["example_model"]["task"])
    notices = read_footer(tmp_path / "results/old/metrics.parquet", METRICS)["notices"]
    assert any("tables of published numbers are means" in notice["detail"] for notice in notices)
    assert not undescribed(tmp_path / "results/old")
    assert workspace.planned() == {}


def test_a_study_of_losses_alone_is_whole(study: Workspace, tmp_path: Path) -> None:
    """No task has an accuracy, and nobody says so: regressions and figures are those of the loss."""
    workspace = Workspace(tmp_path)
    (tmp_path / "models").symlink_to(study.path / "models")
    (tmp_path / "documents.jsonl").write_bytes((study.path / "documents.jsonl").read_bytes())
    workspace.write_yaml("tasks/documents.yaml", study.read_yaml("tasks/documents.yaml"))
    models = [{"name": "tiny", "path": "models/step{step}", "steps": [1, 2], "tokens_per_step": 100}]
    config = {"study": "losses", "models": models, "tasks": ["tasks/documents.yaml"]}
    workspace.write_yaml("config.yaml", {**config, "scoring": {"dtype": "float32"}})
    call = [*workspace.command(), "--cores", "1"]
    done = subprocess.run(call, env=workspace.env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert (tmp_path / "results/losses/figures/curves.png").stat().st_size > 1000
    assert "documents" in (tmp_path / "results/losses/summary.txt").read_text()
    regressions = pd.read_csv(tmp_path / "results/losses/regressions.tsv", sep="\t")
    assert set(regressions["metric"]) == {"loss"}
    assert not undescribed(tmp_path / "results/losses")
    assert set(regressions["note"]) == {
        "no regression: one model size only, but the regression is over sizes; see summary.txt for the trend "
        "of each model"
    }
