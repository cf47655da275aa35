"""MMLU and program synthesis: from files of the shape of the originals to requests."""

import io
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ebbtide.study.published_points import read_points
from ebbtide.tasks.definition import CATALOGUE, Task, load_tasks, read_definition, tasks_of
from ebbtide.tasks.freezing import frozen
from task_data import put
from workspace import ROOT

MMLU = pa.schema(
    [("question", pa.string()), ("subject", pa.string()), ("choices", pa.list_(pa.string())),
     ("answer", pa.int64())]
)  # fmt: skip
PROGRAMS = pa.schema(
    [("task_id", pa.int32()), ("text", pa.string()), ("code", pa.string()),
     ("test_list", pa.list_(pa.string())), ("test_setup_code", pa.string()),
     ("challenge_test_list", pa.list_(pa.string()))]
)  # fmt: skip


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def on(name: str, rows: list[dict[str, Any]], schema: pa.Schema) -> list[Task]:
    """The tasks of a definition of the catalogue on other rows."""
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), buffer)
    definition = read_definition(CATALOGUE / f"{name}.yaml")
    source = {key: value for key, value in definition["source"].items() if key != "rows"}
    source |= put(buffer.getvalue(), "test-00000-of-00001.parquet")
    return tasks_of({**definition, "source": source}, Path(f"{name}.yaml"))


def test_mmlu_is_asked_as_cloze_and_by_letters_after_the_same_questions() -> None:
    rows = [
        {"question": f"How much is {n}?", "subject": f"s{n % 3}", "answer": n % 4,
         "choices": [f"{n}", f"{n + 1}", f"{n + 2}", f"{n + 3}"]}
        for n in range(12)
    ]  # fmt: skip
    rows.append({**rows[0], "question": "Which?", "choices": ["x", "x", "y", "z"]})
    cloze, letters = on("mmlu", rows, MMLU)
    for task in (cloze, letters):
        requests, footer = frozen(task)
        assert footer["dropped"] == 1
        assert len(requests) == 4 * 7  # five of twelve are before the others
        assert requests["context"].str.count("Question: ").eq(6).all()
        gold = requests[requests["gold"] > 0]
        asked = [int(context.rsplit("much is ", 1)[1].split("?")[0]) for context in gold["context"]]
        texts = [f" {n + n % 4}" if task is cloze else f" {'ABCD'[n % 4]}" for n in asked]
        assert gold["continuation"].tolist() == texts and len(gold) == 7
        assert set(requests["group_subject"]) <= {"s0", "s1", "s2"}
    assert set(frozen(letters)[0]["continuation"]) == {" A", " B", " C", " D"}


def test_a_program_follows_its_question_and_tests_with_line_breaks_of_one_kind() -> None:
    rows = [
        {"task_id": n, "text": f"Write a function to add {n}.",
         "code": f"def add(x):\r\n  return x + {n}\r\n",
         "test_list": [f"assert add(1) == {n + 1}", f"assert add(2) == {n + 2}"], "test_setup_code": "",
         "challenge_test_list": []}
        for n in range(6)
    ]  # fmt: skip
    [task] = on("program_synthesis", rows, PROGRAMS)
    requests, _ = frozen(task)
    assert len(requests) == 3  # three are before the others
    first = requests.iloc[0]
    number = first["context"].rsplit("add ", 1)[1].split(".")[0]
    assert first["continuation"] == f"\n\ndef add(x):\n  return x + {number}"
    assert first["context"].endswith(f"assert add(2) == {int(number) + 2}")
    assert first["context"].count("def add(x):") == 3 and "\r" not in first["context"]


def test_every_published_point_is_of_a_task_of_the_study() -> None:
    points = pd.DataFrame(read_points(str(ROOT / "studies/predictability_abrupt.published.tsv")))
    tasks = [*load_tasks("mmlu", "here"), "program_synthesis", "addition_3_digits"]
    assert set(points["task"]) == {"mmlu.choice", "program_synthesis", "addition_3_digits"} <= set(tasks)
    shares = points.set_index(["task", "parameters"])["value"]
    assert shares["mmlu.choice", 2.8e11] == 0.6 and shares["program_synthesis", 1.38e11] == 0.13
