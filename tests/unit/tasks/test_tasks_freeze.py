"""From rows to requests: formats of files, kinds of tasks, and rows that cannot be asked."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ebbtide.errors import TaskError
from ebbtide.tables import REQUESTS, read_footer, read_frame, write_parquet
from ebbtide.tasks.freezing import footer, freeze, freeze_counting
from task_data import Row, define, json_lines

GOOD = {"prompt": "One and one is", "classes": [" two", " ten"], "answer_index": 0}
COLUMNS = ["example", "choice", "context", "continuation", "gold"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rows_of(requests: pd.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    return list(requests[list(columns)].itertuples(index=False, name=None))


def message(rows: list[Row] | bytes, **keys: Any) -> str:
    task = define(rows, **keys)
    with pytest.raises(TaskError) as error:
        freeze(task)
    return str(error.value)


# What is wrong with the second of three rows → what the message says of it.
BAD_ROWS: dict[str, tuple[Row, list[str]]] = {
    "missing field": (
        {"prompt": "x", "classes": [" a", " b"]},
        ["no field 'answer_index'", "prompt, classes"],
    ),
    "no prompt": ({**GOOD, "prompt": None}, ["prompt must be a text", "None"]),
    "prompt that is a list": ({**GOOD, "prompt": ["x"]}, ["prompt must be a text", "['x']"]),
    "no choices": ({**GOOD, "classes": None}, ["two or more", "None"]),
    "one choice": ({**GOOD, "classes": [" a"]}, ["two or more", "[' a']"]),
    "empty choice": ({**GOOD, "classes": [" a", ""]}, ["non-empty", "[' a', '']"]),
    "choice that is a number": ({**GOOD, "classes": [" a", 1]}, ["texts", "[' a', 1]"]),
    "equal choices": ({**GOOD, "classes": [" a", " a"]}, ["a choice occurs twice", "[' a', ' a']"]),
    "choices that are code": ({**GOOD, "classes": "open('x')"}, ["not a list", "open('x')"]),
    "gold out of range": ({**GOOD, "answer_index": 2}, ["the right choice is 2", "0 to 1"]),
    "negative gold": ({**GOOD, "answer_index": -1}, ["the right choice is -1"]),
    "gold that is a flag": ({**GOOD, "answer_index": True}, ["must be an index", "True"]),
    "gold that is no choice": ({**GOOD, "answer_index": "six"}, ["must be an index", "'six'"]),
    "too few weights": ({**GOOD, "answer_index": [1]}, ["2 weights", "[1]"]),
    "negative weight": ({**GOOD, "answer_index": [1, -1]}, ["at least 0", "[1, -1]"]),
    "no weight": ({**GOOD, "answer_index": [0, 0]}, ["not all 0", "[0, 0]"]),
}


@pytest.mark.parametrize("mistake", BAD_ROWS)
def test_bad_row_is_named_with_its_number_and_text(mistake: str) -> None:
    bad, parts = BAD_ROWS[mistake]
    text = message([GOOD, bad, GOOD])
    assert text.startswith("TaskError: resources/sources/")
    assert "/data.jsonl: row 2: " in text
    for part in parts:
        assert part in text


@pytest.mark.parametrize("mistake", BAD_ROWS)
def test_bad_rows_are_dropped_by_choice_and_counted(mistake: str) -> None:
    bad, _ = BAD_ROWS[mistake]
    task = define([GOOD, bad, GOOD], drop_bad_rows=True)
    requests, dropped, _ = freeze_counting(task)
    assert list(requests["example"].unique()) == ["0", "2"]
    [reason] = dropped
    record = footer(task, len(requests), 2, dropped)
    assert (record["dropped"], record["dropped_rows"]) == (1, [reason])
    assert reason.startswith("row 2: ")


def test_nothing_but_bad_rows() -> None:
    bad = {**GOOD, "answer_index": 9}
    assert "has no usable rows" in message([bad, bad], drop_bad_rows=True)
    assert "has no rows." in message([])


def test_wrong_number_of_rows() -> None:
    assert "mine.yaml: source.rows: found 1 rows in" in message([GOOD], source={"rows": 2})


HALF = st.characters(categories=["Cs"])  # half of a surrogate pair: JSON can spell it, UTF-8 cannot
FIELDS_OF_TEXT: dict[str, tuple[Callable[[str], Row], dict[str, Any], str]] = {
    "prompt": (lambda text: {**GOOD, "prompt": text}, {}, "prompt"),
    "choice": (lambda text: {**GOOD, "classes": [" a", text]}, {}, "choice 1"),
    "completion": (lambda text: {"prompt": "P", "completion": text}, {"kind": "sequence"}, "completion"),
    "document": (lambda text: {"text": text}, {"kind": "rolling"}, "text"),
    "other prompt": (lambda text: {**GOOD, "other_prompt": text}, {"kind": "log_odds"}, "other_prompt"),
    "template": (
        lambda text: {**GOOD, "q": text},
        {"fields": {"prompt": "Q: {{ q }}"}},
        "Q: {{ q }}",
    ),
    "group": (lambda text: {**GOOD, "part": text}, {"groups": {"part": "part"}}, "part"),
    "unconditional": (lambda text: {**GOOD, "q": text}, {"unconditional": "{{ q }}"}, "{{ q }}"),
}


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=st.text(max_size=3), half=HALF, after=st.text(max_size=3))
@pytest.mark.parametrize("place", FIELDS_OF_TEXT)
def test_half_of_a_surrogate_pair_is_refused_with_file_row_and_field(
    place: str, before: str, half: str, after: str
) -> None:
    row_of, keys, field = FIELDS_OF_TEXT[place]
    good, bad = row_of("x"), row_of(f"{before}{half}{after}")
    text = message([good, bad], **keys)
    assert re.match(r"TaskError: resources/sources/[0-9a-f]+/data\.jsonl: row 2: ", text)
    assert f"{field} has half of a surrogate pair ({half!r} at character " in text
    assert len(freeze_counting(define([good, bad], **keys, drop_bad_rows=True))[1]) == 1
    text.encode()


TEMPLATES = {
    "missing name": ("Q: {{ question }}", ["row 1: the template", "'question' is undefined"]),
    "missing name alone": ("{{ question }}", ["'question' is undefined"]),
    "division": ("{{ 1 // 0 }}", ["division"]),
    "escape": ("{{ ''.__class__.__mro__ }}", ["unsafe"]),
    "change of the row": ("{{ classes.append('x') }}", ["'append'", "unsafe"]),
    "list as text": ("{{ classes }}", ["must be a text"]),
}


@pytest.mark.parametrize("mistake", TEMPLATES)
def test_template_that_fails_on_a_row(mistake: str) -> None:
    template, parts = TEMPLATES[mistake]
    text = message([GOOD], fields={"prompt": template})
    for part in parts:
        assert part in text


FILES = {
    "not JSON lines": (b"{}\n{", {}, ["line 2 is not JSON"]),
    "JSON line without fields": (b"[1]", {}, ["line 1: found '[1]'"]),
    "not JSON": (b"{", {"format": "json"}, ["is not JSON"]),
    "JSON that is no list": (b"{}", {"format": "json"}, ["expected a list of rows"]),
    "not UTF-8": (b"\xff", {"format": "csv"}, ["is not UTF-8 text"]),
    "not Parquet": (b"PAR1", {"format": "parquet"}, ["is not a complete Parquet file"]),
    "wide row": (
        b"prompt,classes,answer_index\nx,\"['a', 'b']\",0,more\n",
        {"format": "csv"},
        ["row 1: more cells than the header has names", "more"],
    ),
    "short row": (b"prompt,classes,answer_index\nx\n", {"format": "csv"}, ["row 1: ", "None"]),
}


@pytest.mark.parametrize("mistake", FILES)
def test_file_that_is_not_of_its_format(mistake: str) -> None:
    content, source, parts = FILES[mistake]
    text = message(content, source=source)
    for part in parts:
        assert part in text


def _as(format_: str, rows: list[Row]) -> bytes:
    if format_ == "jsonl":
        return json_lines(rows)
    if format_ == "json":
        return json.dumps(rows).encode()
    frame = pd.DataFrame(rows)
    if format_ == "parquet":
        buffer = io.BytesIO()
        frame.to_parquet(buffer)
        return buffer.getvalue()
    return frame.to_csv(index=False, sep="," if format_ == "csv" else "\t").encode("utf-8-sig")


@pytest.mark.parametrize("format_", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_every_format_gives_the_same_requests(format_: str) -> None:
    rows = [{**GOOD, "prompt": 'A "tab"\tand\na line\u2028break,'}, {**GOOD, "answer_index": 1}]
    task = define(_as(format_, rows), f"data.{format_}", source={"format": format_})
    pd.testing.assert_frame_equal(freeze(task), freeze(define(rows)))


def test_lists_of_a_table_are_python_literals() -> None:
    row = {**GOOD, "classes": """[" it's", ' "so"']"""}
    assert list(freeze(define([row]))["continuation"]) == [" it's", ' "so"']


@pytest.mark.parametrize("printed", ["['one' 'two']", "['one' 'two'\n 'ten']", "[' one', ' two' ' ten']"])
def test_lists_as_numpy_prints_them_are_refused_not_joined(printed: str) -> None:
    with pytest.raises(TaskError, match=r"row 1: choices are not a list: "):
        freeze(define([{**GOOD, "classes": printed}]))


def test_choice_with_fields() -> None:
    requests = freeze(define([GOOD]))
    assert rows_of(requests, *requests.columns) == [
        ("0", 0, "One and one is", " two", True),
        ("0", 1, "One and one is", " ten", False),
    ]
    assert list(requests.columns) == COLUMNS


def test_choice_with_templates_and_delimiter() -> None:
    row = {"question": "Big?", "options": {"A": "yes", "B": "no"}, "label": "B"}
    fields = {
        "prompt": "Q: {{ question | upper }}\nA:\n",
        "choices": ["{{ options.A }}", "{{ options['B'] }}", "none"],
        "gold": "{{ 'ABC'.index(label) }}",
    }
    requests = freeze(define([row], fields=fields, delimiter=" "))
    assert list(requests["context"]) == ["Q: BIG?\nA:\n"] * 3
    assert rows_of(requests, "continuation", "gold") == [(" yes", False), (" no", True), (" none", False)]


GOLD = {
    "index": (1, [False, True]),
    "digits": ("1", [False, True]),
    "text": (" ten", [False, True]),
    "text without its space": ("ten", [False, True]),
    "labels": ([0, 1], [False, True]),
    "weights": ([0, 0.75], [0.0, 0.75]),
    "digits that are the text of the same choice": ("1", [False, True]),
    "literal": ("[0, 1]", [False, True]),
}


@pytest.mark.parametrize("form", GOLD)
def test_forms_of_gold(form: str) -> None:
    value, expected = GOLD[form]
    assert list(freeze(define([{**GOOD, "answer_index": value}]))["gold"]) == expected


def test_one_gold_for_all_and_weights_in_one_column() -> None:
    assert list(freeze(define([GOOD], fields={"gold": 1}))["gold"]) == [False, True]
    weighted = {**GOOD, "answer_index": [0, 2]}
    assert list(freeze(define([GOOD, weighted]))["gold"]) == [1.0, 0.0, 0.0, 2.0]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"answer_index": [1, 1]}, "row 1: at least one choice must be wrong (0), found"),
        ({"classes": ["1", "2", "3"], "answer_index": "1"}, "is an index, and the text of another choice"),
    ],
)
def test_gold_that_says_nothing_or_two_things(row: dict[str, Any], says: str) -> None:
    with pytest.raises(TaskError) as caught:
        freeze(define([{**GOOD, **row}]))
    assert says in str(caught.value)


def test_unconditional_context() -> None:
    requests = freeze(define([GOOD], unconditional="Answer:", few_shot={"prefix": "P"}))
    assert rows_of(requests, "choice", "role", "of", "context", "continuation", "gold") == [
        (0, "choice", 0, "P\n\n\nOne and one is", " two", True),
        (1, "choice", 1, "P\n\n\nOne and one is", " ten", False),
        (2, "unconditional", 0, "Answer:", " two", True),
        (3, "unconditional", 1, "Answer:", " ten", False),
    ]


def test_sequence() -> None:
    requests = freeze(define([{"prompt": "Say:", "completion": " melon"}], kind="sequence"))
    assert rows_of(requests, *COLUMNS) == [("0", 0, "Say:", " melon", True)]
    text = message([{"prompt": "Say:", "completion": ""}], kind="sequence")
    assert "row 1: the completion is empty" in text


def test_log_odds() -> None:
    row = {**GOOD, "other_prompt": "Two and one is", "answer_index": 1}
    requests = freeze(define([row], kind="log_odds"))
    assert rows_of(requests, "choice", "role", "of", "context", "continuation", "gold") == [
        (0, "choice", 0, "One and one is", " two", False),
        (1, "choice", 1, "One and one is", " ten", True),
        (2, "other", 0, "Two and one is", " two", False),
        (3, "other", 1, "Two and one is", " ten", True),
    ]
    text = message([{**row, "classes": [" a", " b", " c"]}], kind="log_odds")
    assert "row 1: there must be 2 choices" in text


def test_rating() -> None:
    fields = {"choices": [" 1", " 2", " 3"], "values": [1, 2.5, 4], "target": "stars"}
    rows = [{"prompt": "A:", "stars": 2.5}, {"prompt": "B:", "stars": "3.1"}]
    requests = freeze(define(rows, kind="rating", fields=fields))
    assert rows_of(requests, "example", "continuation", "value", "target", "gold") == [
        ("0", " 1", 1.0, 2.5, False),
        ("0", " 2", 2.5, 2.5, True),
        ("0", " 3", 4.0, 2.5, False),
        ("1", " 1", 1.0, 3.1, False),
        ("1", " 2", 2.5, 3.1, False),
        ("1", " 3", 4.0, 3.1, False),
    ]
    for bad in ("many", "nan", None, True):
        assert "the rating must be" in message([{"prompt": "A:", "stars": bad}], kind="rating", fields=fields)


@pytest.mark.parametrize("gold", [1, True, "Yes", [0, 1]])
def test_binary(gold: object) -> None:
    row = {"prompt": "Is it?", "label": gold}
    task = define([row], kind="binary", fields={"choices": [" No", " Yes"], "gold": "label"})
    requests = freeze(task)
    assert rows_of(requests, "continuation", "value", "gold") == [(" No", 0.0, False), (" Yes", 1.0, True)]


def test_documents_of_a_text() -> None:
    text = b"One.\r\nOne more.\n\nTwo.\n\n \n\n\nThree.\n"
    source = {"format": "text"}
    whole = freeze(define(text, "text.txt", kind="rolling", source=source))
    assert rows_of(whole, "context", "continuation") == [("", text.decode())]
    parts = freeze(define(text, "text.txt", kind="rolling", source={**source, "separator": "\n\n"}))
    assert list(parts["continuation"]) == ["One.\r\nOne more.", "Two.", "\nThree.\n"]
    assert list(parts["example"]) == ["0", "1", "2"]


def test_documents_of_a_table() -> None:
    task = define(
        [{"body": "One."}, {"body": ""}], kind="rolling", fields={"text": "body"}, drop_bad_rows=True
    )
    requests, dropped, _ = freeze_counting(task)
    assert (list(requests["continuation"]), dropped) == (["One."], ["row 2: the document is empty"])


def test_groups_are_texts() -> None:
    rows = [{**GOOD, "part": 1}, {**GOOD, "part": 2.5}]
    groups = {"part": "part", "round": "{{ round | default('') }}", "size": "{{ classes | length }}"}
    requests = freeze(define(rows, groups=groups)).drop_duplicates("example")
    assert rows_of(requests, "group_part", "group_round", "group_size") == [("1", "", "2"), ("2.5", "", "2")]
    assert "row 1: no field 'part'" in message([GOOD], groups={"part": "part"})


QUESTION = {
    "mc1": {"choices": ["a", "b"], "labels": [0, 1]},
    "mc2": {"choices": ["c", "b", "a"], "labels": [1, 1, 0]},
}
MC_FIELDS = {
    "prompt": "Q",
    "choices": "{{ mc2.choices }}",
    "gold": "{{ mc2.labels }}",
    "mc1": {"choices": "{{ mc1.choices }}", "gold": "{{ mc1.labels }}"},
}


def test_one_scoring_serves_mc1_and_mc2() -> None:
    fields = {**MC_FIELDS, "prompt": "{{ 'Q' }}"}
    requests = freeze(define([QUESTION], fields=fields))
    assert rows_of(requests, "continuation", "gold", "best") == [
        ("c", True, -1),
        ("b", True, 1),
        ("a", False, 0),
    ]


@pytest.mark.parametrize(
    ("mc1", "part"),
    [
        ({"choices": ["a", "d"], "labels": [1, 0]}, "MC1's choice 'd' is not among the choices"),
        ({"choices": ["a", "b"], "labels": [1, 1]}, "MC1 has 2 right choices, expected one"),
    ],
)
def test_mc1_that_is_not_in_mc2(mc1: object, part: str) -> None:
    fields = {**MC_FIELDS, "prompt": "{{ 'Q' }}"}
    assert f"row 1: {part}" in message([{**QUESTION, "mc1": mc1}], fields=fields)


@pytest.mark.parametrize("kind", ["choice", "log_odds", "rating"])
def test_what_is_frozen_can_be_written_and_read(kind: str) -> None:
    row = {**GOOD, "other_prompt": "Two", "target": 1}
    fields = {"rating": {"choices": [" 1", " 2"]}}.get(kind, {})
    task = define([row, row], kind=kind, fields=fields, groups={"part": "prompt"}, drop_bad_rows=True)
    requests, dropped, _ = freeze_counting(task)
    write_parquet(requests, "frozen.parquet", REQUESTS, footer(task, len(requests), 2, dropped))
    record = read_footer("frozen.parquet", REQUESTS)
    assert (record["dropped"], record["definition"]["kind"]) == (0, kind)
    assert rows_of(read_frame("frozen.parquet", REQUESTS), *COLUMNS) == rows_of(requests, *COLUMNS)
