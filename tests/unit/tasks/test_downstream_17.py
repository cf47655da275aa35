"""The group of the over-training paper's downstream tasks: chosen by its rule, and known to lm-eval."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ebbtide.errors import TaskError
from ebbtide.tasks.lm_eval.freeze import requests_of
from ebbtide.tasks.lm_eval.results import results_of

GROUP = yaml.safe_load((Path(__file__).parents[3] / "workflow/tasks/_downstream_17.yaml").read_text())[
    "tasks"
]
SCORED = {row["lm_eval"]: row for row in GROUP if not row.get("generates")}

ARC = {"question": "What melts?", "choices": {"text": ["ice", "oak"], "label": ["A", "B"]}, "answerKey": "A"}
BIG = {
    "inputs": "Q",
    "targets": ["b"],
    "multiple_choice_targets": ["a", "b"],
    "multiple_choice_scores": [0, 1],
}
FIVE = {"text": ["bank", "shop", "sea", "wood", "hill"], "label": ["A", "B", "C", "D", "E"]}
COPA = {
    "premise": "It rained.",
    "choice1": "It got wet.",
    "choice2": "It got dry.",
    "question": "effect",
    "label": 0,
}
HELLASWAG = {
    "ctx_a": "A man sits.",
    "ctx_b": "he",
    "activity_label": "Sitting",
    "endings": ["a b", "c d"],
    "label": "1",
}
# One document in the shape of each data set, and how many requests it makes.
DOCUMENTS: dict[str, tuple[dict[str, Any], int]] = {
    "arc_easy": (ARC, 2),
    "bigbench_cs_algorithms_multiple_choice": (BIG, 2),
    "bigbench_dyck_languages_multiple_choice": (BIG, 2),
    "bigbench_novel_concepts_multiple_choice": (BIG, 2),
    "boolq": ({"passage": "Ice melts.", "question": "does ice melt", "label": 1}, 2),
    "commonsense_qa": ({"question": "Where is money?", "choices": FIVE, "answerKey": "A"}, 5),
    "copa": (COPA, 2),
    "hellaswag": (HELLASWAG, 2),
    "lambada_openai": ({"text": "one two three"}, 1),
    "piqa": ({"goal": "Melt ice", "sol1": "Heat it", "sol2": "Sing", "label": 0}, 2),
    "pubmedqa": ({"CONTEXTS": ["A.", "B."], "QUESTION": "C?", "final_decision": "no"}, 3),
    "wsc273": (
        {
            "text": "The cup fell off the table because it was wet.",
            "pronoun": "it",
            "pronoun_loc": 35,
            "options": ["The cup", "The table"],
            "label": 1,
        },
        2,
    ),
}


def test_the_group_is_what_the_paper_s_rule_chooses(shared: Path) -> None:
    [data] = (shared / "mirror/github/mlfoundations/scaling").glob("*/exp_data")
    with (data / "eval_metadata.csv").open() as file:
        rows = {row["Eval Task"]: row for row in csv.DictReader(file)}
    best: dict[str, float] = {}
    runs = list(data.glob("evals/*d=576_l=24_h=8*.json"))
    for run in runs:
        for task, value in json.loads(run.read_text())["eval_metrics"]["icl"].items():
            best[task] = max(value, best.get(task, 0))
    chance = {task: float(row["Random baseline"]) / 100 for task, row in rows.items()}
    chosen = {task for task, value in best.items() if value >= chance[task] + 0.10}
    assert len(runs) == 24
    assert {row["name"]: row["chance"] for row in GROUP} == {task: chance[task] for task in chosen}
    assert {row["name"]: row["num_fewshot"] for row in GROUP} == {t: int(rows[t]["#shots"]) for t in chosen}
    assert len(GROUP) == 17


@pytest.mark.parametrize("name", [row["lm_eval"] for row in GROUP if row.get("generates")])
def test_the_others_generate(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lm_eval", reason="lm_eval is not installed")
    if not name.startswith("bigbench"):
        with pytest.raises(TaskError, match=r"is a Python class|its own code measures texts"):
            requests_of(name)
        return
    import datasets

    data = datasets.Dataset.from_list([{**BIG, "number": number} for number in range(12)])
    monkeypatch.setattr(datasets, "load_dataset", lambda **_: datasets.DatasetDict({"default": data}))
    rows, record = requests_of(name, num_fewshot=10, limit=3)
    assert [json.loads(targets) for targets in rows["targets"]] == [["b"]] * 3
    decoding = record["keys"]["decoding"]
    assert (decoding["max_tokens"], decoding["stop"], decoding["temperature"]) == (128, ["\n\n"], 0)
    assert record["keys"]["texts"] == {
        "filters": [{"function": "take_first"}],
        "exact_match": {"ignore_punctuation": True},
    }


@pytest.mark.parametrize("name", SCORED)
def test_lm_eval_builds_and_measures_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lm_eval", reason="lm_eval is not installed")
    import datasets

    document, requests = DOCUMENTS[name]
    data = datasets.Dataset.from_list([{**document, "number": number} for number in range(12)])
    splits = dict.fromkeys(("train", "validation", "test", "default"), data)
    monkeypatch.setattr(datasets, "load_dataset", lambda **_: datasets.DatasetDict(splits))
    rows, record = requests_of(name, num_fewshot=SCORED[name]["num_fewshot"], limit=3)
    assert len(rows) == 3 * requests
    assert rows.groupby("example")["gold"].sum().eq(1).all()
    assert record["num_fewshot"] == SCORED[name]["num_fewshot"]
    monkeypatch.setattr(datasets, "load_dataset", None)
    # The right choice, or the continuation, is what the model would say.
    cell = rows.assign(loglikelihood=rows["gold"] * 1.0 - 9.0, greedy=rows["gold"])
    found = results_of(cell, rows, record, bootstrap_iters=0).set_index("metric")["value"]
    assert found["lm_eval_acc"] == 1.0
    assert found.get("lm_eval_acc_norm", 1.0) == 1.0
    wrong = cell.assign(loglikelihood=-9.0 - rows["gold"], greedy=False)
    assert (
        results_of(wrong, rows, record, bootstrap_iters=0).set_index("metric")["value"]["lm_eval_acc"] == 0.0
    )


def test_a_task_that_may_show_its_answers_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("lm_eval", reason="lm_eval is not installed")
    import datasets

    name = "bigbench_novel_concepts_multiple_choice"
    documents = [{**BIG, "inputs": f"question {number}"} for number in range(12)]
    splits = {"default": datasets.Dataset.from_list(documents)}
    monkeypatch.setattr(datasets, "load_dataset", lambda **_: datasets.DatasetDict(splits))
    rows, _ = requests_of(name, num_fewshot=10)
    own = [row.context.count(f"question {row.example} ") for row in rows.itertuples()]
    assert any(own)  # before the question at the end, which no space follows
    assert "may draw a question as its own few-shot example" in caplog.text
    caplog.clear()
    requests_of(name)
    assert not caplog.text
