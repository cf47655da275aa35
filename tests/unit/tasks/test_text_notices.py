"""Notices of the texts of frozen tasks: each names the first example as the model reads it."""

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from ebbtide.errors import SourceError
from ebbtide.notices import Notice
from ebbtide.scoring.tokenizer import Tokenizer
from ebbtide.sources import fetch
from ebbtide.tasks.definition import CATALOGUE, load_task
from ebbtide.tasks.freezing import frozen
from ebbtide.tasks.notices import spanning, text_notices
from ebbtide.tasks.preview import preview
from task_data import WHERE, Row, define


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def row(prompt: str, *choices: str, gold: int = 0, **more: Any) -> Row:
    return {"prompt": prompt, "classes": list(choices), "answer_index": gold, **more}


def notices(rows: list[Row] | bytes, name: str = "data.jsonl", **keys: Any) -> list[Notice]:
    found = text_notices(*frozen(define(rows, name, **keys)))
    assert {notice.task for notice in found} <= {"mine"}
    return found


def details(*args: Any, **keys: Any) -> list[str]:
    return [notice.detail for notice in notices(*args, **keys)]


CLEAN = [row("The capital of France is", " Paris", " Rome"), row("One and one is", " ten", " two", gold=1)]


def test_a_task_without_faults_has_no_notices() -> None:
    assert notices(CLEAN) == []


def test_choices_without_a_leading_space() -> None:
    rows = [*CLEAN, row("Which city has the Eiffel tower as its landmark, capital? A: is", "Paris", "Rome")]
    [notice] = notices(rows)
    assert notice == Notice(
        severity="warning",
        kind="text",
        detail="1 of 3 examples have no white space between prompt and choice; the first is example 2, "
        "choice 0: '…s its landmark, capital? A: is' + 'Paris'.",
        remedy='Begin the choices with a space, or set delimiter: " ".',
        task="mine",
        count=1,
    )
    assert details([row("A:", "1", "2")], kind="binary") != []
    assert details([{"prompt": "hello wor", "completion": "ld is round"}], kind="sequence") == [
        "1 of 1 examples have no white space between prompt and choice; the first is example 0, choice 0: "
        "'hello wor' + 'ld is round'."
    ]


NO_WARNING = {
    "line break": ("Answer:\n", "Paris", "Rome"),
    "opening bracket": ("Answer: (", "A", "B"),
    "quote": ('He said "', "yes", "no"),
    "punctuation": ("The end", ".", "!"),
    "Chinese": ("答案：", "是", "不是"),
    "Chinese prompt, Latin choice": ("答案：", "A", "B"),
    "Thai": ("คำตอบ", "ใช่", "ไม่"),
    "no prompt": ("", "Paris is nice", "Rome is"),
}


@pytest.mark.parametrize("case", NO_WARNING)
def test_borders_that_need_no_space(case: str) -> None:
    assert not [d for d in details([row(*NO_WARNING[case])]) if "white space" in d]


def test_white_space_on_both_sides() -> None:
    assert details([*CLEAN, row("A: ", " x", " y"), row("A:\n", " x", "\ny")]) == [
        "2 of 4 examples have white space both at the end of the prompt and at the beginning of the choice; "
        "the first is example 2, choice 0: 'A: ' + ' x'."
    ]


def test_repeated_examples() -> None:
    one, other = CLEAN
    rows = [
        one,
        other,
        one,
        row(one["prompt"], " Rome", " Paris", gold=1),
        row(one["prompt"], " Rome", " Paris"),
    ]
    assert [(n.severity, n.kind, n.count) for n in notices(rows)] == [
        ("note", "duplicated", 2),
        ("warning", "duplicated", 1),
    ]
    equal, contradiction = details(rows)
    assert equal.startswith(
        "2 of 5 examples repeat an earlier example, and count again; the first is example 2"
    )
    assert contradiction.startswith(
        "1 of 5 examples repeat an earlier example with another right choice; the "
    )


def test_equal_contexts_are_named_where_they_are_not_by_design() -> None:
    rows = [row("Which?", " a", " b"), row("Which?", " c", " d", gold=1)]
    assert "have the context of an earlier example, with other choices" in details(rows)[0]
    pairs = [{"prompt": "The", "completion": f" {word}"} for word in ("cat", "cats")]
    assert notices(pairs, kind="sequence") == []
    assert notices([row("", " a", " b"), row("", " c", " d", gold=1)]) == []


def test_choices_that_cannot_be_told_apart() -> None:
    rows = [
        *CLEAN,
        row("How many?", " 1", " 10"),
        row("Who?", " I am", " I was"),
        row("So?", " yes", "yes", gold=1),
    ]
    assert details(rows) == [
        "1 of 5 examples have no white space between prompt and choice; the first is example 4, choice 1: "
        "'So?' + 'yes'.",
        "1 of 5 examples have two choices with the same text, apart from white space around it; the first is "
        "example 4, choice 0: 'So?' + ' yes'.",
        "1 of 5 examples have a choice that begins with another one, which sums of log-likelihoods favour; "
        "the first is example 2, choice 1: 'How many?' + ' 10'.",
        "2 of 5 examples have a wrong choice that begins with the same word as the right one; the first is "
        "example 3, choice 1: 'Who?' + ' I was'.",
    ]


@pytest.mark.parametrize(("gold", "place"), [(0, 0), (1, 1), ("{{ [1, 0] }}", 0)])
def test_a_right_choice_that_is_always_at_one_position(gold: Any, place: int) -> None:
    rows = [row(f"Question {n}:", " x", " y") for n in range(4)]
    [notice] = notices(rows, fields={"gold": gold})
    assert (notice.severity, notice.kind, notice.count) == ("warning", "suspicious", 4)
    assert notice.detail.startswith(
        f"4 of 4 examples have their right choice at position {place}; the first is "
    )
    rows[3] = row("Question 3:", " x", " y", gold=1)
    assert notices(rows, fields={"gold": "answer_index"}) == []


def test_texts_of_missing_values_in_tasks_frozen_earlier() -> None:
    requests, footer = frozen(define(CLEAN, groups={"part": "prompt"}))
    requests.loc[requests["example"] == "1", "context"] = "nan"
    requests.loc[requests["example"] == "1", "group_part"] = "nan"
    prompt, group = text_notices(requests, footer)
    assert prompt.detail.startswith(
        "1 of 2 examples have only nan or None as their prompt; the first is example 1"
    )
    assert "; if it has this text, remove these rows from the data." in prompt.remedy
    assert group.detail.startswith("1 of 2 examples have the level nan of part; the first is example 1")
    documents, footer = frozen(define([{"text": "A text."}, {"text": "nan"}], kind="rolling"))
    [notice] = text_notices(documents, footer)
    assert (
        notice.detail
        == "1 of 2 examples have only nan or None as their text; the first is example 1, choice 0: "
        "'' + 'nan'."
    )


def test_dropped_rows_and_a_byte_order_mark() -> None:
    bad = row("What?", " a", " b", gold=7)
    dropped = notices([*CLEAN, bad], drop_bad_rows=True)
    assert [(n.severity, n.kind, n.count) for n in dropped] == [("warning", "dropped", 1)]
    assert dropped[0].detail == (
        "1 of 3 rows were dropped (drop_bad_rows); the first is row 3: the right choice is 7, allowed: 0 to "
        "1."
    )
    many = [{**CLEAN[n % 2], "prompt": f"Question {n}:"} for n in range(30)]
    assert [n.severity for n in notices([*many, bad], drop_bad_rows=True)] == ["note"]
    marked = details(b"\xef\xbb\xbfOne.", "a.txt", kind="rolling", source={"format": "text"})
    assert marked == ["A byte-order mark at the beginning of the data was removed."]


def _tokenizer(*words: str) -> Tokenizer:
    """A vocabulary of whole words, else characters."""
    vocabulary = {word: n for n, word in enumerate(["<s>", *words])}
    backend = Backend(models.WordLevel(vocabulary, unk_token="<s>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.decoder = decoders.Fuse()
    return Tokenizer(backend, 0, 0, ())


def test_a_token_across_the_border() -> None:
    tokenizer = _tokenizer("hello", "wor", "world", "ld", "is", "round")
    rows = [{"prompt": "hello wor", "completion": "ld is round"}, {"prompt": "hello", "completion": " world"}]
    requests, footer = frozen(define(rows, kind="sequence"))
    across = text_notices(requests, footer, tokenizer)[-1]
    assert across.detail == (
        "1 of 2 examples have a token across the border of prompt and choice, whose part in the choice is "
        "not scored; the first is example 0, choice 0: 'hello wor' + 'ld is round'."
    )
    assert not [n for n in text_notices(requests, footer) if "token" in n.detail]
    assert spanning(tokenizer, list(zip(requests["context"], requests["continuation"], strict=True))) == [
        True,
        False,
    ]


def test_first_tokens_are_compared_with_a_tokenizer() -> None:
    requests, footer = frozen(
        define([row("Who?", " I am", " I was"), row("Who?", " I am", " You are", gold=1)])
    )
    first = text_notices(requests, footer, _tokenizer("I", "You", "am", "was", "are", "Who?"))[-1]
    assert first.detail.startswith(
        "1 of 2 examples have a wrong choice that begins with the same token as the "
    )


def test_freezing_prints_the_notices(capsys: pytest.CaptureFixture[str]) -> None:
    from ebbtide import cli

    define([*CLEAN, row("A: is", "Paris", "Rome")])
    assert cli.main(["freeze", "--task", "mine.yaml", "--to", "frozen.parquet"]) == 0
    printed = capsys.readouterr().err
    assert (
        "warning: mine: 1 of 3 examples have no white space between prompt and choice; the first is example "
        "2, choice 0: 'A: is' + 'Paris'. Begin the choices with a space, or set delimiter: \" \".\n"
    ) in printed
    assert cli.main(["preview", "frozen.parquet", "--examples", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "example\tchoice\tgold\ttext\tnotice"
    assert [line.split("\t")[0] for line in lines[1:]] == ["0", "0", "2", "2"]
    assert "1 of 3 examples have no white space between prompt and choice" in lines[3].split("\t")[-1]


def test_the_preview_adds_the_examples_that_notices_name() -> None:
    rows = [{**CLEAN[n % 2], "prompt": f"Question {n}:"} for n in range(9)]
    shown = preview(*_swapped(frozen(define([*rows, row("A", "x", "y")]))))
    assert list(shown["example"].unique()) == ["0", "1", "2", "3", "4", "9"]
    assert [bool(notice) for notice in shown["notice"]] == [False] * 10 + [True, False]
    assert list(preview(frozen(define(rows))[0])["notice"].unique()) == [""]


def _swapped(pair: tuple[Any, Any]) -> tuple[Any, int, None, Any]:
    requests, footer = pair
    return requests, 5, None, footer


GENERATED = sorted(
    path.stem
    for path in CATALOGUE.glob("[!_]*.yaml")
    if "toy:" in path.read_text() and "held" not in path.stem
)


@pytest.mark.parametrize("name", GENERATED)
def test_generated_tasks_have_no_notices(name: str) -> None:
    assert text_notices(*frozen(load_task(name, WHERE))) == []


def test_memo_trap_has_only_true_notices(shared: Path) -> None:
    task = load_task("memo_trap_proverbs", WHERE)
    assert task.source and task.data
    try:
        fetch(task.source, Path(task.data), [shared / "mirror"])
    except SourceError as error:
        pytest.skip(str(error))
    assert [(n.severity, n.kind, n.count) for n in text_notices(*frozen(task))] == [
        ("note", "duplicated", 21),
        ("note", "duplicated", 2),
    ]


def test_cells_of_a_table_that_stand_for_missing_values() -> None:
    text = "q,unread,a\nWhat?,,0\n,x,1\nnan,x,1\n"
    fields = {"prompt": "Q: {{ q }}\nA:", "choices": [" a", " b"], "gold": "a"}
    found = details(text.encode(), "a.csv", fields=fields, source={"format": "csv"})
    assert found == [
        "2 of 3 rows have an empty cell, or one such as nan or NA, in a column that the task reads; the "
        "first is row 2, column q: ''."
    ]
    assert (
        details(
            text.splitlines()[0].encode() + b"\nWhat?,,0\nWho?,,1\n",
            "a.csv",
            fields=fields,
            source={"format": "csv"},
        )
        == []
    )
