"""Continuations of RealToxicityPrompts, and remarks of the toy language: as many of each pair of kinds."""

from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from ebbtide.corpus.remarks import MARKED
from ebbtide.errors import TaskError
from ebbtide.tasks.definition import CATALOGUE, load_task, tasks_of
from ebbtide.tasks.freezing import frozen
from ebbtide.tasks.prepare import rows_of
from ebbtide.tasks.rows import Rows
from task_data import json_lines, put


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def row(number: int, prompt: Any, continuation: Any) -> dict[str, Any]:
    """A row in the shape of the original file; two rows are from one document."""
    texts = {"prompt": f"The river number {number} is", "continuation": f" calm {number}."}
    scores = {"prompt": prompt, "continuation": continuation}
    return {
        "filename": f"{number // 2}.txt", "begin": 0, "end": 60, "challenging": False,
        **{part: {"text": texts[part], "toxicity": scores[part], "threat": 0.1} for part in texts},
    }  # fmt: skip


PAIRS = list(product((0.9, 0.5), (0.51, 0.1)))
ROWS = [row(n, *PAIRS[n % 4]) for n in range(40)] + [row(40, None, 0.9), row(41, 0.9, None)]


def drawn(rows: list[dict[str, Any]], **arguments: int) -> Rows:
    Path("prompts.jsonl").write_bytes(json_lines(rows))
    prepare = {"function": "toxicity_continuations", "seed": 0, **arguments}
    return rows_of(Path("prompts.jsonl"), {"prepare": prepare}, "mine.yaml: source")


def test_a_quarter_is_of_each_pair_and_the_texts_stay_together(caplog: pytest.LogCaptureFixture) -> None:
    found = drawn(ROWS, count=20)
    counts = Counter((one["toxic"], one["continuation_toxic"]) for one in found)
    assert counts == dict.fromkeys(product(("yes", "no"), repeat=2), 5)
    for one in found:
        number = int(one["prompt"].split()[3])
        assert one["continuation"] == f" calm {number}." and one["document"] == f"{number // 2}.txt"
        prompt, continuation = PAIRS[number % 4]
        assert one["toxic"] == ("yes" if prompt > 0.5 else "no")
        assert one["continuation_toxic"] == ("yes" if continuation > 0.5 else "no")
    assert drawn(ROWS, count=20) == found != drawn(ROWS, count=20, seed=1)
    assert len(drawn(ROWS, count=40)) == 40


@pytest.mark.parametrize(
    ("rows", "count", "sentence"),
    [
        (ROWS, 6, r"prepare.count: found 6; allowed: a multiple of 4"),
        (
            ROWS,
            44,
            r"has 10 continuations that are toxic after prompts that are toxic, and 11 are needed",
        ),
        ([{"prompt": ROWS[0]["prompt"]}], 4, r"row 1: no fields continuation.text and continuation.toxicity"),
        ([row(1, 0.2, 7)], 4, r"row 1: continuation.toxicity: found 7; allowed: a number from 0 to 1"),
        ([{**row(1, 0.2, 0.2), "filename": None}], 4, r"row 1: filename: found None; allowed: the name"),
    ],
)
def test_other_files_are_refused(rows: list[dict[str, Any]], count: int, sentence: str) -> None:
    with pytest.raises(TaskError, match=sentence):
        drawn(rows, count=count)


def test_the_task_scores_the_continuation_as_it_is_written_and_clusters_by_document() -> None:
    definition = yaml.safe_load((CATALOGUE / "_toxic_continuations.yaml").read_text())
    source = {**definition["source"], **put(json_lines(ROWS), "prompts.jsonl")}
    source["prepare"] = {**source["prepare"], "count": 20}
    [task] = tasks_of({**definition, "source": source}, Path("toxic_continuations.yaml"))
    requests, footer = frozen(task)
    assert len(requests) == 20 and requests["continuation"].str.startswith(" calm").all()
    assert footer["definition"]["cluster"] == "document"
    assert {"group_toxic", "group_continuation", "group_document"} <= set(requests)


def test_remarks_of_both_kinds_follow_every_prompt() -> None:
    requests, _ = frozen(load_task("said_remarks", "here"))
    assert len(requests) == 16 * 2 * 2 * 4
    marked = requests["continuation"].str.count(MARKED)
    assert ((marked >= 2) == (requests["group_continuation"] == "yes")).all()
    assert requests.groupby(["context", "group_continuation"])["continuation"].nunique().eq(4).all()
    assert requests["continuation"].str.fullmatch(r"( \w+){3} \.").all()
