"""Texts are what the file says: kept character by character through every field, or refused with a row."""

import bz2
import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ebbtide.errors import ConfigError, EbbtideError, TaskError
from ebbtide.tables import REQUESTS, read_frame, write_parquet
from ebbtide.tasks.definition import load_task
from ebbtide.tasks.freezing import freeze, freeze_counting, frozen
from task_data import WHERE, Row, define, json_lines

GOOD = {"prompt": "One and one is", "classes": [" two", " ten"], "answer_index": 0}
QUICK = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def through_a_file(requests: pd.DataFrame) -> pd.DataFrame:
    write_parquet(requests, "frozen.parquet", REQUESTS)
    return read_frame("frozen.parquet", REQUESTS)


def message(rows: list[Row] | bytes, name: str = "data.jsonl", **keys: Any) -> str:
    with pytest.raises(TaskError) as error:
        freeze(define(rows, name, **keys))
    return str(error.value)


# White space around a template.


def test_white_space_around_a_lone_template_is_kept() -> None:
    row = {"q": "Q: capital?\nA:", "a": "Paris", "b": "Rome", "k": 0}
    fields = {"prompt": "{{ q }}\n", "choices": [" {{ a }}", " {{ b }}"], "gold": "k"}
    requests = freeze(define([row], fields=fields))
    assert list(requests["context"]) == ["Q: capital?\nA:\n"] * 2
    assert list(requests["continuation"]) == [" Paris", " Rome"]
    assert list(requests["gold"]) == [True, False]


FORMS = {
    "completion": ({"kind": "sequence", "fields": {"completion": " {{ t }}\t"}}, "continuation", 0, " x\t"),
    "completion with a filter": (
        {"kind": "sequence", "fields": {"completion": " {{ t | upper }}\n"}},
        *("continuation", 0, " X\n"),
    ),
    "unconditional": ({"unconditional": "\u2028{{ t }} "}, "context", 2, "\u2028x "),
    "other prompt": ({"kind": "log_odds", "fields": {"other_prompt": "{{ t }}\n"}}, "context", 2, "x\n"),
    "document": ({"kind": "rolling", "fields": {"text": "\n{{ t }}\n"}}, "continuation", 0, "\nx\n"),
    "group": ({"groups": {"part": " {{ t }}"}}, "group_part", 0, " x"),
    "removed by Jinja": ({"fields": {"prompt": " {{- t -}}\n"}}, "context", 0, "x"),
    "number": ({"fields": {"prompt": "{{- n }} "}}, "context", 0, "7 "),
}


@pytest.mark.parametrize("form", FORMS)
def test_white_space_is_kept_in_every_form(form: str) -> None:
    keys, column, row, expected = FORMS[form]
    data = {**GOOD, "t": "x", "n": 7, "completion": "c"}
    assert freeze(define([data], **keys))[column][row] == expected


def test_white_space_around_a_list_or_an_index_means_nothing() -> None:
    fields = {"choices": "{{ classes }}\n", "gold": " {{ answer_index }}\n"}
    pd.testing.assert_frame_equal(freeze(define([GOOD], fields=fields)), freeze(define([GOOD])))


def test_a_definition_that_was_rendered_otherwise_has_a_new_identity_and_others_have_not() -> None:
    def version(**keys: Any) -> bool:
        task = define([GOOD], **keys)
        before = {"source": {"sha256": task.definition["source"]["sha256"], "format": "jsonl"}}
        settings = {key: task.definition[key] for key in keys if key != "fields"}
        from ebbtide.files import digest

        old = digest({**before, "fields": task.definition["fields"], "version": 1, **settings})
        return task.identity != old

    assert version(fields={"prompt": "{{ prompt }}\n"})
    assert version(groups={"part": " {{ prompt }}"})
    assert version(fields={"gold": "{{- answer_index }}"})
    assert not version(fields={"prompt": "{{ prompt }}"})
    assert not version(fields={"prompt": "Q: {{ prompt }}\n"})
    assert not version(fields={"choices": "{{ classes }}\n", "gold": "{{ answer_index }} "})


def test_a_carriage_return_of_a_template_is_refused_before_freezing() -> None:
    with pytest.raises(ConfigError) as error:
        define([GOOD], fields={"prompt": "Q: {{ prompt }}\r\nA:"})
    assert str(error.value) == (
        "ConfigError: mine.yaml: fields.prompt: 'Q: {{ prompt }}\\r\\nA:' has a carriage return, which Jinja "
        "replaces by a line feed; write {{ '\\r' }} in its place, in single quotes or a block of YAML."
    )
    requests = freeze(define([GOOD], fields={"prompt": "Q: {{ prompt }}{{ '\\r' }}\nA:"}))
    assert requests["context"][0] == "Q: One and one is\r\nA:"


# Missing values and other values that are not text.

MISSING = {"null": "null", "NaN": "NaN", "infinite": "Infinity", "too large": "1e999"}
PLACES: dict[str, tuple[dict[str, Any], str]] = {
    "field": ({"fields": {"prompt": "q"}}, "q"),
    "lone template": ({"fields": {"prompt": "{{ q }}"}}, "{{ q }}"),
    "longer template": ({"fields": {"prompt": "Q: {{ q }}"}}, "'Q: {{ q }}'"),
    "joined": ({"fields": {"prompt": "{{ 'Q: ' ~ q }}"}}, "\"{{ 'Q: ' ~ q }}\""),
    "filter": ({"fields": {"prompt": "{{ [q, 'x'] | join(' ') }}"}}, "\"{{ [q, 'x'] | join(' ') }}\""),
    "document": ({"kind": "rolling", "fields": {"text": "q"}}, "q"),
    "document of a template": ({"kind": "rolling", "fields": {"text": "A {{ q }}"}}, "'A {{ q }}'"),
    "group": ({"groups": {"part": "q"}, "cluster": "part"}, "q"),
    "completion": ({"kind": "sequence", "fields": {"completion": "q"}}, "q"),
    "unconditional": ({"unconditional": "A: {{ q }}"}, "'A: {{ q }}'"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("missing", MISSING)
def test_a_missing_value_is_refused_as_null_is_and_can_be_dropped(missing: str, place: str) -> None:
    keys, what = PLACES[place]
    found = {"null": "None", "NaN": "nan", "infinite": "inf", "too large": "1e999"}[missing]
    lines = json_lines([{**GOOD, "q": "x"}, {**GOOD, "q": "???"}]).replace(
        b'"???"', MISSING[missing].encode()
    )
    assert message(lines, **keys).endswith(f"data.jsonl: row 2: {what} must be a text, found {found}.")
    requests, [reason], _ = freeze_counting(define(lines, **keys, drop_bad_rows=True))
    assert requests["example"].unique().tolist() == ["0"]
    assert reason == f"row 2: {what} must be a text, found {found}"


def test_a_text_that_reads_like_a_missing_value_is_text() -> None:
    rows = [{**GOOD, "prompt": text} for text in ("nan", "None", "null", "NaN")]
    assert freeze(define(rows))["context"].unique().tolist() == ["nan", "None", "null", "NaN"]


def test_templates_may_ask_whether_a_value_is_missing() -> None:
    prompt = "{% if q is none %}-{% elif q %}{{ q }}{% endif %}{{ r or '' }}{{ '!' if r == none }}"
    rows = [{**GOOD, "q": None, "r": None}, {**GOOD, "q": "x", "r": math.nan}]
    assert list(freeze(define(rows, fields={"prompt": prompt}))["context"][::2]) == ["-!", "x!"]


def test_a_template_that_computes_with_a_missing_value_names_it() -> None:
    line = json.dumps({**GOOD, "q": None}).encode()
    expected = "fails: unsupported operand type(s) for +: 'missing value' and 'int'."
    assert message(line, fields={"prompt": "{{ q + 1 }}"}).endswith(expected)


NOT_TEXT = {"true": "True", "[1]": "[1]", '{"a": null}': "{'a': None}"}


@pytest.mark.parametrize("value", NOT_TEXT)
def test_lists_and_flags_in_a_longer_template_are_refused_as_in_a_lone_one(value: str) -> None:
    line = json.dumps({**GOOD, "q": "???"}).replace('"???"', value).encode()
    expected = f"row 1: 'Q: {{{{ q }}}}' must be a text, found {NOT_TEXT[value]}."
    assert message(line, fields={"prompt": "Q: {{ q }}"}).endswith(expected)


def test_a_missing_choice_is_refused() -> None:
    line = json.dumps({**GOOD, "classes": [" a", math.nan]}).encode()
    assert message(line).endswith("row 1: choices must be two or more non-empty texts, found [' a', nan].")


# Numbers.


@pytest.mark.parametrize("number", ["1.10", "1e3", "-0", "100000000000000000000000.0", "7", "9" * 5000])
@pytest.mark.parametrize("prompt", ["q", "{{ q }}", "It is {{ q }}."])
def test_a_number_is_the_text_of_the_file(number: str, prompt: str) -> None:
    line = json.dumps({**GOOD, "q": "???"}).replace('"???"', number).encode()
    [context, _] = freeze(define(line, fields={"prompt": prompt}))["context"]
    assert context == (f"It is {number}." if "." in prompt else number)
    requests = freeze(
        define(b"[" + line + b"]", "data.json", source={"format": "json"}, fields={"prompt": prompt})
    )
    assert requests["context"][0] == context


def test_a_number_of_a_file_is_a_number_in_templates() -> None:
    line = json.dumps({**GOOD, "q": "???"}).replace('"???"', "1.10").encode()
    prompt = "{{ q * 2 }} {{ '%.3f' | format(q) }}"
    assert freeze(define(line, fields={"prompt": prompt}))["context"][0] == "2.2 1.100"


@pytest.mark.parametrize("template", ["{{ 9**(9**9) }}", "{{ 'x' * 10**9 }}", "{{ [1] * 10**9 }}"])
def test_a_template_that_would_take_hours_is_a_sentence(template: str) -> None:
    assert " fails: the result of *" in message([GOOD], fields={"prompt": template})


NO_GOLD = "the right choice must be an index, the text of a choice, or one weight per choice, found "
BAD_GOLD: dict[str, tuple[Any, str]] = {
    "circled": ("②", f"{NO_GOLD}'②'"),
    "superscript": ("²", f"{NO_GOLD}'²'"),
    "Arabic": ("٣", f"{NO_GOLD}'٣'"),
    "sign": ("+1", f"{NO_GOLD}'+1'"),
    "space": (" 1", f"{NO_GOLD}' 1'"),
    "underscore": ("1_0", f"{NO_GOLD}'1_0'"),
    "half of an emoji": ("\ud83d", f"{NO_GOLD}'\\ud83d'"),
    "5,000 digits": ("1" * 5000, f"the right choice is '{'1' * 78}…, allowed: 0 to 1"),
    "whole": (1.0, f"{NO_GOLD}1.0"),
    "half": (1.5, f"{NO_GOLD}1.5"),
    "flag": (True, f"{NO_GOLD}True"),
    "NaN": (math.nan, f"{NO_GOLD}nan"),
    "null": (None, f"{NO_GOLD}None"),
    "weight too large": (
        [0, 10**400],
        "the right choices must be 2 weights of at least 0, one per choice and not all 0, found [0, 1",
    ),
}


@pytest.mark.parametrize("mistake", BAD_GOLD)
def test_gold_that_is_no_index_is_a_sentence_with_its_row(mistake: str) -> None:
    value, says = BAD_GOLD[mistake]
    rows = [GOOD, {**GOOD, "answer_index": value}]
    assert f"data.jsonl: row 2: {says}" in message(rows)
    assert len(freeze_counting(define(rows, drop_bad_rows=True))[1]) == 1


def test_gold_of_bytes_is_a_sentence() -> None:
    frame = pd.DataFrame([{**GOOD, "answer_index": b"1"}])
    frame.to_parquet("data.parquet")
    content = Path("data.parquet").read_bytes()
    text = message(content, "data.parquet", source={"format": "parquet"})
    assert text.endswith(f"row 1: {NO_GOLD}b'1'.")


@pytest.mark.parametrize("rating", ["²", "1_0", "٣", "1" * 5000, "nan", "1e999"])
def test_a_rating_is_a_number_of_ascii_digits(rating: str) -> None:
    fields = {"choices": [" 1", " 2"]}
    text = message([{"prompt": "A:", "target": rating}], kind="rating", fields=fields)
    assert "row 1: the rating must be a number, found '" in text


# Files.


def _zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


PACKED: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".bz2": bz2.compress, ".zst": _zstd}


@pytest.mark.parametrize("suffix", PACKED)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_compressed_files_are_read(suffix: str, mark: bytes) -> None:
    lines = json_lines([{**GOOD, "prompt": "Zürich\u2028"}])
    task = define(PACKED[suffix](mark + lines), f"data.jsonl{suffix}")
    assert freeze(task)["context"][0] == "Zürich\u2028"


@pytest.mark.parametrize("suffix", PACKED)
def test_a_damaged_compressed_file_is_a_sentence(suffix: str) -> None:
    content = PACKED[suffix](json_lines([GOOD]))
    assert f"/data.jsonl{suffix} cannot be read (" in message(content[:-9], f"data.jsonl{suffix}")


MARKED = {
    "jsonl": json_lines([GOOD]),
    "json": json.dumps([GOOD]).encode(),
    "csv": b"prompt,classes,answer_index\nOne and one is,\"[' two', ' ten']\",0\n",
    "tsv": b"prompt\tclasses\tanswer_index\nOne and one is\t[' two', ' ten']\t0\n",
}


@pytest.mark.parametrize("format_", MARKED)
def test_a_byte_order_mark_is_no_text(format_: str) -> None:
    task = define(b"\xef\xbb\xbf" + MARKED[format_], f"data.{format_}", source={"format": format_})
    requests, footer = frozen(task)
    assert list(requests["context"]) == ["One and one is"] * 2
    assert footer["byte_order_mark"] == "removed"


def test_a_byte_order_mark_of_a_document_or_a_prefix_is_no_text() -> None:
    task = define(b"\xef\xbb\xbfOne.\r\n", "a.txt", kind="rolling", source={"format": "text"})
    assert list(freeze(task)["continuation"]) == ["One.\r\n"]
    Path("prefix.txt").write_bytes(b"\xef\xbb\xbfQ: 1?\r\n")
    task = define([GOOD], few_shot={"prefix_file": "prefix.txt", "separator": ""})
    assert freeze(task)["context"][0] == "Q: 1?\r\nOne and one is"


def test_another_encoding_is_a_sentence_with_its_remedy() -> None:
    text = message(json_lines([GOOD]).decode().encode("utf-16"))
    assert text.endswith(
        "is not UTF-8 text ('utf-8' codec can't decode byte 0xff in position 0: invalid start byte); save it "
        "as UTF-8."
    )


def test_quotes_and_line_breaks_of_a_table_are_kept_or_refused() -> None:
    head = b"prompt,classes,answer_index\n"
    table = head + b'"a\r\nb ""c""","[\' x\', \' y\']",0\r\n'
    assert freeze(define(table, "data.csv", source={"format": "csv"}))["context"][0] == 'a\r\nb "c"'
    text = message(head + b"\"so\" he said,\"[' x', ' y']\",0\n", "data.csv", source={"format": "csv"})
    assert text.endswith(
        "/data.csv is not a table: line 2: ',' expected after '\"'; quotes around a cell must be closed, and "
        'a quote inside is written twice ("").'
    )
    text = message(b"prompt,prompt\na,b\n", "data.csv", source={"format": "csv"})
    assert text.endswith("/data.csv: the column 'prompt' occurs twice in the header; rename one.")


def test_a_key_that_occurs_twice_is_a_sentence() -> None:
    text = message(b'{"prompt": "a", "prompt": "b"}')
    assert text.endswith("/data.jsonl: line 1 is not JSON (the key 'prompt' occurs twice).")


def test_documents_with_the_line_breaks_of_windows_are_not_silently_one() -> None:
    source = {"format": "text", "separator": "\n\n"}
    text = message(b"One.\r\n\r\nTwo.", "a.txt", kind="rolling", source=source)
    assert text.endswith(
        "/a.txt: source.separator: found '\\n\\n', but the file has the line breaks of Windows; write "
        "'\\r\\n\\r\\n'."
    )


def test_a_local_file_that_was_edited_after_pinning_is_noticed_and_one_with_a_new_date_is_not() -> None:
    task = define([GOOD])
    freeze(task)
    data = Path("data.jsonl")
    data.touch()
    assert load_task("mine.yaml", WHERE).identity == task.identity
    data.write_bytes(json_lines([{**GOOD, "prompt": "Two and two is"}]))
    with pytest.raises(ConfigError) as error:
        load_task("mine.yaml", WHERE)
    assert str(error.value).startswith("ConfigError: mine.yaml: source.sha256: data.jsonl has sha256 ")
    assert str(error.value).endswith(
        "it has changed since it was pinned; restore it, or remove sha256 and rows from the source, run "
        "`ebbtide pin TASK.yaml --to NEW.yaml` and use NEW.yaml."
    )
    data.unlink()  # the fetched copy is what was pinned
    assert load_task("mine.yaml", WHERE).identity == task.identity


# Any text, through every form of a field.

PIECES = st.one_of(
    st.characters(exclude_categories=["Cs"]),
    st.sampled_from(" \t\n\r\x0b\x0c\x00\x1c\x85\xa0\u2028\u2029\u3000\ufeff{}%#'\"\\[]"),
    st.sampled_from(["{{", "}}", "{%", "%}", "{#", " {{ a }} ", "\r\n", "nan", "None", "②"]),
)
TEXT = st.lists(PIECES, min_size=1, max_size=8).map("".join)
SPACE = st.text(st.sampled_from(" \t\n\x0b\x0c\x1c\x85\xa0\u2028\u3000"), max_size=3)


@QUICK
@given(prompt=TEXT, choices=st.lists(TEXT, min_size=2, max_size=4, unique=True), delimiter=TEXT, group=TEXT)
def test_every_text_comes_back_from_fields(
    prompt: str, choices: list[str], delimiter: str, group: str
) -> None:
    rows = [{"prompt": prompt, "classes": choices, "answer_index": 1, "part": group}]
    task = define(
        rows, delimiter=delimiter, groups={"part": "part"}, unconditional=delimiter.replace("{", "(")
    )
    requests = through_a_file(freeze(task))
    first = requests[requests["role"] == "choice"]
    assert list(first["context"]) == [prompt] * len(choices)
    assert list(first["continuation"]) == [delimiter + choice for choice in choices]
    assert list(first["gold"]) == [index == 1 for index in range(len(choices))]
    assert set(requests["group_part"]) == {group}
    again = requests[requests["role"] == "unconditional"]
    assert list(again["context"]) == [delimiter.replace("{", "(")] * len(choices)


@QUICK
@given(q=TEXT, a=TEXT, b=TEXT, before=SPACE, after=SPACE)
def test_every_text_comes_back_from_templates(q: str, a: str, b: str, before: str, after: str) -> None:
    def around(name: str) -> str:
        return before + "{{ " + name + " }}" + after

    b = b if a != b else f"{b}."
    row = {"q": q, "a": a, "b": b, "k": 0}
    keys = {
        "fields": {"prompt": around("q"), "choices": [around("a"), around("b")], "gold": "{{ k }}"},
        "unconditional": around("q"),
        "groups": {"part": around("b")},
    }
    requests = through_a_file(freeze(define([row], **keys)))
    assert list(requests["context"]) == [before + q + after] * 4
    assert list(requests["continuation"]) == [before + a + after, before + b + after] * 2
    assert set(requests["group_part"]) == {before + b + after}

    fields = {"prompt": f"Q{around('q')}", "completion": around("a") + "{{ b }}"}
    [request] = through_a_file(freeze(define([row], kind="sequence", fields=fields))).itertuples()
    assert (request.context, request.continuation) == (f"Q{before}{q}{after}", before + a + after + b)
    [request] = freeze(
        define([row], kind="rolling", fields={"text": around("a | replace('', '')")})
    ).itertuples()
    assert request.continuation == before + a + after
    fields = {
        "prompt": "{{ q }}",
        "other_prompt": around("a"),
        "choices": "{{ [a, b] }}" + after,
        "gold": "{{ k }}",
    }
    requests = freeze(define([row], kind="log_odds", fields=fields))
    assert list(requests["context"]) == [q, q, before + a + after, before + a + after]
    assert list(requests["continuation"]) == [a, b] * 2


@QUICK
@given(texts=st.lists(TEXT, min_size=3, max_size=3, unique=True), separator=TEXT)
def test_every_text_comes_back_from_few_shot_examples(texts: list[str], separator: str) -> None:
    rows = [{"prompt": text, "completion": text} for text in texts]
    task = define(rows, kind="sequence", few_shot={"k": 2, "separator": separator})
    for number, context in enumerate(through_a_file(freeze(task))["context"]):
        one, two = (text * 2 + separator for text in texts if text != texts[number])
        assert context in (one + two + texts[number], two + one + texts[number])


@QUICK
@given(texts=st.lists(TEXT.filter(lambda text: text.strip() and not text.startswith("\ufeff")), min_size=1))
def test_every_text_comes_back_from_a_text_file_and_a_table(texts: list[str]) -> None:
    source = {"format": "text", "separator": "<|end|>"}
    content = "<|end|>".join(texts).encode()
    requests = through_a_file(freeze(define(content, "a.txt", kind="rolling", source=source)))
    assert list(requests["continuation"]) == texts
    table = pd.DataFrame({"text": texts}).to_csv(index=False, quoting=1, lineterminator="\n").encode()
    requests = freeze(define(table, "a.csv", kind="rolling", source={"format": "csv"}))
    assert list(requests["continuation"]) == texts


# Any row: a result, or an error in one sentence.

VALUE = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=4),
        st.text(st.characters(categories=["Cs", "Nd", "No"]), max_size=3),
        st.sampled_from(["0", "1", "[0, 1]", "['a', 'b']", "²", "1" * 5000, 10**4000]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=4,
)
LIKELY = st.one_of(st.just([" a", " b"]), st.lists(st.text(max_size=2), max_size=3), VALUE)
ROW = st.fixed_dictionaries(
    {"prompt": VALUE, "classes": LIKELY, "answer_index": st.one_of(st.integers(-1, 2), VALUE)},
    optional={"part": VALUE, "text": VALUE, "target": VALUE},
)
KEYS: list[dict[str, Any]] = [
    {"groups": {"part": "{{ part | default('') }}"}},
    {"fields": {"prompt": "Q: {{ prompt }} {{ text }}\n"}, "drop_bad_rows": True},
    {"fields": {"choices": [" {{ prompt }}", "{{ classes | join(' ') }}"]}},
    {"kind": "binary", "fields": {"gold": "{{ answer_index }}"}},
    {"kind": "rating", "fields": {"choices": [" 1", " 2"]}},
    {"kind": "rolling", "drop_bad_rows": True},
    {"kind": "sequence", "fields": {"completion": "text"}},
    {"few_shot": {"k": 1}},
]


@QUICK
@given(rows=st.lists(ROW, min_size=1, max_size=3), keys=st.sampled_from(KEYS))
def test_any_row_gives_requests_or_a_sentence(rows: list[Row], keys: dict[str, Any]) -> None:
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    try:
        requests, _ = frozen(define(content, **keys))
        through_a_file(requests)
    except EbbtideError as error:
        assert "\n" not in str(error)
        str(error).encode()


@QUICK
@given(
    template=st.text(st.sampled_from("{}%#- \nqk'\"|~+*()[].,=0"), max_size=12).map(lambda t: "{{" + t),
    field=st.sampled_from(["prompt", "gold", "choices"]),
)
def test_any_template_gives_requests_or_a_sentence(template: str, field: str) -> None:
    Path("mine.yaml").unlink(missing_ok=True)
    try:
        freeze(define([{**GOOD, "q": "x", "k": 1}], fields={field: template}))
    except EbbtideError as error:
        assert "\n" not in str(error)
    assert isinstance(yaml.safe_load(Path("mine.yaml").read_text()), dict)
