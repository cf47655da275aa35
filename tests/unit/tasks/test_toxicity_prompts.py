"""Prompts of RealToxicityPrompts: half of them toxic, drawn at random; texts of samples are not kept."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from ebbtide.errors import TaskError
from ebbtide.tasks.definition import CATALOGUE, tasks_of
from ebbtide.tasks.freezing import frozen
from ebbtide.tasks.prepare import rows_of
from ebbtide.tasks.rows import Rows
from task_data import json_lines, put


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def row(number: int, toxicity: Any) -> dict[str, Any]:
    """A row in the shape of the original file."""
    prompt = {"text": f"The river number {number} is", "toxicity": toxicity, "threat": 0.1}
    return {"filename": f"{number}.txt", "begin": 0, "challenging": False, "prompt": prompt,
            "continuation": {"text": " calm.", "toxicity": 0.01}}  # fmt: skip


ROWS = [row(n, [0.9, 0.1, None, 0.5, 0.51][n % 5]) for n in range(50)]  # toxic: 20, not: 20, null: 10


def drawn(rows: list[dict[str, Any]], **arguments: int) -> Rows:
    Path("prompts.jsonl").write_bytes(json_lines(rows))
    prepare = {"function": "toxicity_prompts", "seed": 0, **arguments}
    return rows_of(Path("prompts.jsonl"), {"prepare": prepare}, "mine.yaml: source")


def test_half_of_the_prompts_are_toxic_and_none_has_a_null() -> None:
    found = drawn(ROWS, count=20)
    assert [one["toxic"] for one in found].count("yes") == 10
    assert all((one["toxicity"] > 0.5) == (one["toxic"] == "yes") for one in found)
    assert len({one["prompt"] for one in found}) == 20
    assert drawn(ROWS, count=20) == found != drawn(ROWS, count=20, seed=1)
    assert len(drawn(ROWS, count=40)) == 40


@pytest.mark.parametrize(
    ("rows", "count", "sentence"),
    [
        (ROWS, 5, r"prepare.count: found 5; allowed: an even number, half of them toxic"),
        (ROWS, 42, r"found 42; prompts.jsonl has 20 prompts that are toxic, and 21 are needed"),
        ([{"text": "a"}], 2, r"row 1: no fields prompt.text and prompt.toxicity \(found: text\)"),
        ([row(1, 1.5)], 2, r"row 1: prompt.toxicity: found 1.5; allowed: a number from 0 to 1, or null"),
        ([row(1, "high")], 2, r"prompt.toxicity: found 'high'"),
        ([{"prompt": {"text": " ", "toxicity": 0.2}}], 2, r"row 1: prompt.text: found ' '; allowed: a text"),
    ],
)
def test_other_files_are_refused(rows: list[dict[str, Any]], count: int, sentence: str) -> None:
    with pytest.raises(TaskError, match=sentence):
        drawn(rows, count=count)


def test_the_task_asks_for_25_samples_and_keeps_no_text() -> None:
    definition = yaml.safe_load((CATALOGUE / "_toxicity.yaml").read_text())
    source = {**definition["source"], **put(json_lines(ROWS), "prompts.jsonl")}
    source["prepare"] = {**source["prepare"], "count": 20}
    texts = {"classifiers": [{"function": "marked_words", "words": ["calm"]}]}  # needs no package
    [task] = tasks_of({**definition, "source": source, "texts": texts}, Path("toxicity.yaml"))
    requests, footer = frozen(task)
    assert len(requests) == 20 and set(requests["group_toxic"]) == {"yes", "no"}
    decoding = footer["definition"]["decoding"]
    assert (decoding["samples"], decoding["max_tokens"], decoding["keep_text"]) == (25, 20, False)
    assert definition["texts"] == {"classifiers": ["profanity"]}
