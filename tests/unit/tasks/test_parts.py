"""Prompts with parts that may be left out: how they are defined and frozen."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ebbtide.errors import ConfigError, TaskError
from ebbtide.jobs.freeze_task import freeze_task
from ebbtide.tables import REQUESTS, read_parquet
from ebbtide.tasks.definition import load_task
from ebbtide.tasks.diff import diff_requests
from ebbtide.tasks.freezing import freeze
from task_data import WHERE, define

SEEN = [" Alien a 4,", " Heat a 5,"]
PROMPT = "She rated{{ seen }} and rates {{ film }} a"
RATING = {
    "kind": "rating",
    "fields": {"prompt": PROMPT, "choices": [" 1", " 2"], "target": "rating"},
    "fit": "seen",
}
ROWS = [{"seen": SEEN, "film": "Big", "rating": 2}, {"seen": [], "film": "Jaws", "rating": 1}]
EXAMPLES = [{"prompt": f"Q{n}", "classes": [" no", " yes"], "answer_index": n % 2} for n in range(4)]
SHOTS = {"k": 3, "separator": "\n", "fit": True}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def pieces(context: str, offsets: list[int]) -> list[str]:
    return [context[a:b] for a, b in pairwise(offsets)]


def test_the_offsets_are_those_of_the_parts() -> None:
    requests = freeze(define(ROWS, **RATING))
    assert requests["context"].tolist()[::2] == [
        "She rated Alien a 4, Heat a 5, and rates Big a",
        "She rated and rates Jaws a",
    ]
    assert [pieces(*row) for row in requests[["context", "parts"]].to_numpy()[::2]] == [SEEN, []]
    assert requests["parts"].tolist()[0] == requests["parts"].tolist()[1]


def test_a_prompt_may_test_whether_there_are_parts() -> None:
    fields = {
        **RATING["fields"],
        "prompt": "She{% if seen %} rated {{ seen }} and{% endif %} rates {{ film }} a",
    }
    requests = freeze(define(ROWS, **{**RATING, "fields": fields}))
    assert requests["context"].unique().tolist()[1] == "She rates Jaws a"


def test_frozen_requests_are_read_as_they_were_written() -> None:
    empty = [{**row, "seen": []} for row in ROWS]  # not one part: Arrow would not know the type
    for rows in (ROWS, empty):
        define(rows, **RATING)
        freeze_task("mine.yaml", "frozen.parquet")
        table = read_parquet("frozen.parquet", REQUESTS)
        assert table.schema.field("parts").type == pa.list_(pa.int64())


def test_shots_are_parts() -> None:
    with_fit = freeze(define(EXAMPLES, few_shot=SHOTS))
    without = freeze(define(EXAMPLES, few_shot={k: v for k, v in SHOTS.items() if k != "fit"}))
    assert with_fit.drop(columns="parts").equals(without)
    for context, offsets in with_fit[["context", "parts"]].to_numpy():
        assert "".join(pieces(context, offsets)) + context[-2:] == context
        assert [text[0] + text[-1] for text in pieces(context, offsets)] == ["Q\n"] * 3


def test_an_unconditional_request_has_no_parts() -> None:
    requests = freeze(define(EXAMPLES, few_shot=SHOTS, unconditional="A:"))
    alone = requests[requests["role"] == "unconditional"]
    assert (alone["context"].unique().tolist(), alone["parts"].tolist()) == (["A:"], [[0]] * len(alone))
    rows = [{**row, "classes": [" 1", " 2"], "answer_index": 0} for row in ROWS]
    requests = freeze(define(rows, fit="seen", fields={"prompt": PROMPT}, unconditional="A:"))
    assert requests[requests["role"] == "unconditional"]["parts"].tolist() == [[0]] * 4


def test_both_prompts_of_log_odds_may_have_the_parts() -> None:
    row = {"seen": SEEN, "film": "Big", "classes": [" 1", " 2"], "answer_index": 0}
    fields = {"prompt": PROMPT, "other_prompt": "A friend rated{{ seen }} and rates Big a"}
    requests = freeze(define([row], kind="log_odds", fields=fields, fit="seen"))
    assert all(pieces(*of) == SEEN for of in requests[["context", "parts"]].to_numpy())
    alone = freeze(
        define([row], kind="log_odds", fields={**fields, "other_prompt": "{{ 'A:' }}"}, fit="seen")
    )
    assert alone["parts"].tolist()[2:] == [[2], [2]]


def test_shots_of_the_toy_language_are_parts() -> None:
    task = load_task("fact_qa_few_shot", WHERE)
    few_shot = {**task.definition["few_shot"], "fit": True}
    fitting = type(task)(task.name, task.file, {**task.definition, "few_shot": few_shot}, None)
    before, after = freeze(task), freeze(fitting)
    assert after.drop(columns="parts").equals(before)
    assert {len(offsets) for offsets in after["parts"]} == {few_shot["k"] + 1}
    assert fitting.identity != task.identity


def test_differences_of_parts_are_listed() -> None:
    before, after = freeze(define(ROWS, **RATING)), freeze(define(ROWS, **RATING))
    assert not diff_requests(before, after)
    after.at[0, "parts"] = [9, 12, 31]
    assert [change.column for change in diff_requests(before, after).changed] == ["parts"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"fit": "films"}, "fit: found 'films', which fields.prompt prints 0 times"),
        ({"fields": {**RATING["fields"], "prompt": "seen"}}, "prints 0 times; write {{ seen }} once in it"),
        ({"fields": {**RATING["fields"], "prompt": PROMPT + "{{seen}}"}}, "prints 2 times"),
        ({"few_shot": {"k": 1}}, "fit: a task with few_shot cannot have it"),
        ({"kind": "rolling", "fields": {}}, "fit: kind 'rolling' has no prompt"),
        ({"fit": ["seen"]}, "fit: found ['seen']; allowed: string"),
    ],
)
def test_what_is_refused_at_once(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        define(ROWS, **{**RATING, **changes})
    assert expected in str(error.value)


def test_fixed_shots_cannot_be_left_out() -> None:
    with pytest.raises(ConfigError, match=r"few_shot\.fit: only with few_shot\.k"):
        define(EXAMPLES, few_shot={"prefix": "Q a", "fit": True})


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"seen": "Alien"}, "row 1: fit: seen must be a list of texts that are not empty, found 'Alien'"),
        ({"seen": ["Alien", 4]}, "found ['Alien', 4]"),
        ({"seen": [""]}, "found ['']"),
        ({}, "found None"),
        ({"seen": SEEN, "film": "\ufdd0"}, "the request prints seen 2 times"),
    ],
)
def test_bad_rows_are_named(row: dict[str, Any], expected: str) -> None:
    with pytest.raises(TaskError) as error:
        freeze(define([{"film": "Big", "rating": 1, **row}], **RATING))
    assert expected in str(error.value)


def test_parts_printed_in_a_choice_are_refused() -> None:
    row = {"seen": SEEN, "classes": [" 1", " 2"], "answer_index": 0}
    fields = {"prompt": "a{{ seen }}", "choices": ["{{ seen }}", " 2"]}
    with pytest.raises(TaskError, match="prints seen 2 times; allowed: once, in its context"):
        freeze(define([row], fields=fields, fit="seen"))
    fields = {"prompt": "a{% if film %}{{ seen }}{% endif %}"}
    with pytest.raises(TaskError, match="prints seen 0 times"):
        freeze(define([{**row, "film": ""}], fields=fields, fit="seen"))
