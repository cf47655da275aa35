"""Prompts are fitted into a window: the most parts that fit by the tokens of the whole text."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import tiny
from ebbtide.errors import ScoringError
from ebbtide.scoring.encoded_file import read_encoded, write_encoded
from ebbtide.scoring.encoded_task import encode_task
from ebbtide.scoring.encoding import NO_LIMIT, encode
from ebbtide.scoring.engine import load_scorer, score_requests, score_task
from ebbtide.scoring.fitting import Fitted, fit, with_kept
from ebbtide.scoring.rescore import largest_difference
from ebbtide.scoring.tokenizer import Tokenizer
from ebbtide.tables import CELL, FOOTER, REQUESTS, read_parquet, write_parquet

RULES = {"encoding": "harness", "bos": "tokenizer", "truncation": "left", "vocabulary": NO_LIMIT}
SHARED = {"definition": {"few_shot": {"k": 3, "fit": True}}}

Example = tuple[str, list[str], str, list[str]]  # head, parts, tail, continuations


@cache
def bpe(beginning: bool = False) -> Tokenizer:
    front = (0,) if beginning else ()
    return Tokenizer(tiny.bpe(beginning=beginning).backend_tokenizer, 0, 1, front, by_words=True)


def table_of(examples: list[Example], *, shared: bool = False) -> pa.Table:
    rows = [
        {
            "example": str(number),
            "choice": choice,
            "context": head + "".join(parts) + tail,
            "continuation": text,
            "parts": np.cumsum([len(head), *map(len, parts)]).tolist(),
        }
        for number, (head, parts, tail, texts) in enumerate(examples)
        for choice, text in enumerate(texts)
    ]
    table = pa.Table.from_pylist(rows)
    return table.replace_schema_metadata({FOOTER: json.dumps(SHARED if shared else {})})


def fitted(table: pa.Table, window: int, tokenizer: Tokenizer | None = None, **rules: Any) -> Fitted:
    names = [f"request {row}" for row in range(len(table))]
    return fit(tokenizer or bpe(), table, names, window=window, **{**RULES, **rules})


def read(table: pa.Table, contexts: list[str], tokenizer: Tokenizer, **rules: Any) -> np.ndarray:
    """Tokens that the model reads of each request."""
    texts = table.column("continuation").to_pylist()
    found = encode(tokenizer, contexts, texts, texts, window=NO_LIMIT, **{**RULES, **rules})
    return np.asarray(np.diff(found.bounds) - 1)


words = st.sampled_from(["ab", " ab", "cd", " cd", "b", " a", "abab", " x y"])
texts = st.lists(words, min_size=1, max_size=4).map("".join)
choices = st.lists(st.sampled_from([" ab", " cd ab", " x y ab"]), min_size=1, max_size=3)
drawn = st.tuples(texts, st.lists(texts, min_size=1, max_size=8), texts, choices)


@settings(max_examples=150, deadline=None)
@example(  # the second part saves a token at each of its two borders
    examples=[("ab", ["ab"], "ab", [" ab"]), ("ab a x y", [" x y ab", "cd a"], "babab a", [" x y ab"])],
    window=21,
    shared=False,
    beginning=False,
    encoding="harness",
)
@given(
    examples=st.lists(drawn, min_size=1, max_size=3),
    window=st.integers(1, 60),
    shared=st.booleans(),
    beginning=st.booleans(),
    encoding=st.sampled_from(["harness", "separate"]),
)
def test_the_most_parts_that_fit_are_kept(
    examples: list[Example], window: int, shared: bool, beginning: bool, encoding: str
) -> None:
    """Against every number of parts, tried one after the other."""
    table, tokenizer = table_of(examples, shared=shared), bpe(beginning)
    contexts, offsets = (table.column(name).to_pylist() for name in ("context", "parts"))
    group = [0 if shared else int(example) for example in table.column("example").to_pylist()]
    most = max(len(ends) - 1 for ends in offsets)
    by_number = np.array(
        [
            read(
                table,
                [with_kept(c, o, min(n, len(o) - 1)) for c, o in zip(contexts, offsets, strict=True)],
                tokenizer,
                encoding=encoding,
            )
            for n in range(most + 1)
        ]
    )
    fits = np.array([by_number[:, np.equal(group, g)].max(axis=1) <= window for g in group])  # (R, n)
    expected = [int(np.flatnonzero(of_row).max(initial=0)) for of_row in fits]
    if min(expected) == 0:
        with pytest.raises(ScoringError, match="not even one of"):
            fitted(table, window, tokenizer, encoding=encoding)
        return
    found = fitted(table, window, tokenizer, encoding=encoding)
    available = [len(ends) - 1 for ends in offsets]
    assert found.kept.tolist() == np.minimum(expected, available).tolist()
    assert read(table, found.contexts, tokenizer, encoding=encoding).max() <= window


EXAMPLES: list[Example] = [
    ("ab", [" cd", " ab", " x"], " cd", [" ab", " ab ab ab"]),
    ("ab", [" cd", " ab"], " cd cd cd cd", [" ab", " ab"]),
    ("ab", [], " cd", [" ab", " cd"]),
]


def test_the_longest_choice_decides_for_all_choices_of_an_example() -> None:
    head, parts, tail, (short, long) = EXAMPLES[0]
    assert fitted(table_of([(head, parts, tail, [short])]), 6).kept.tolist() == [3]
    assert fitted(table_of([(head, parts, tail, [short, long])]), 6).kept.tolist() == [2, 2]


def test_the_longest_request_of_a_task_decides_where_the_number_is_shared() -> None:
    """No example has fewer shots than another, so that accuracies of examples are of one condition."""
    assert fitted(table_of(EXAMPLES), 6).kept.tolist() == [2, 2, 1, 1, 0, 0]
    assert fitted(table_of(EXAMPLES, shared=True), 6).kept.tolist() == [1, 1, 1, 1, 0, 0]


def test_what_was_kept_is_counted_by_example() -> None:
    assert fitted(table_of(EXAMPLES), 6).facts == {
        "kept_least": 1,
        "kept_median": 1,
        "kept_most": 2,
        "of": 3,
        "left_out": 2,
        "examples": 2,  # the third has no parts
        "shared": False,
    }
    assert fitted(table_of(EXAMPLES), 99).facts["left_out"] == 0
    assert fitted(table_of(EXAMPLES[2:]), 99).facts["of"] == 0


def test_a_window_too_small_for_one_part() -> None:
    with pytest.raises(ScoringError) as error:
        fitted(table_of(EXAMPLES), 4)
    assert str(error.value) == (
        "ScoringError: request 1: not even one of 3 parts fits: 5 tokens to read exceed the window of 4; "
        "shorten the prompt, or use a longer window."
    )


def test_texts_of_parts_are_encoded_once_and_whole_texts_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts with as many parts as a history of films: few of their lengths are tried."""
    parts = [f" {'ab' * (n % 5 + 1)} cd" for n in range(200)]
    examples: list[Example] = [("x", parts[n:], f" {'cd' * n}", [" ab", " cd"]) for n in range(20)]
    encoded: list[str] = []
    ids = Tokenizer.ids

    def counted(self: Tokenizer, of: list[str]) -> Any:
        encoded.extend(of)
        return ids(self, of)

    monkeypatch.setattr(Tokenizer, "ids", counted)
    found = fitted(table_of(examples), 150)
    assert 0 < found.kept.min() <= found.kept.max() < 180
    assert max(encoded.count(part) for part in set(parts)) == 1
    long = [text for text in encoded if len(text) > 100]
    assert len(long) <= 4 * len(examples)  # the first attempt is right, or nearly


def test_prompts_keep_the_prefix_that_they_share() -> None:
    examples: list[Example] = [
        ("x", [" ab cd", " cd", " ab", " ab"], f" {last} is", [" a", " b"]) for last in ("ab", "cd", "x y")
    ]
    found = fitted(table_of(examples), 14)
    assert len({context[: len("x ab cd cd ab")] for context in found.contexts}) == 1


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    table = table_of(
        [
            ("the old", [" child"] * 60, " is", [" young", " not young ."]),
            ("every", [" tall"] * 30, " child is", [" a", " the short"]),
        ]
    )
    write_parquet(table.replace_schema_metadata(None), tmp_path / "r.parquet", REQUESTS, {"identity": "t"})
    return tmp_path / "r.parquet"


def test_a_cell_says_how_many_parts_were_kept_and_is_rescored_with_them(
    requests: Path, tmp_path: Path
) -> None:
    directory = tiny.checkpoint(tmp_path / "checkpoint")
    scored = score_requests(load_scorer(directory), requests)
    kept = scored.rows.column("parts").to_pylist()
    assert kept[0] == kept[1] < 60
    assert kept[2:] == [30, 30]
    assert scored.footer["parts"]["left_out"] == 1
    assert not any(scored.rows.column("truncated").to_pylist())
    assert max(scored.rows.column("context_tokens").to_pylist()) <= tiny.WINDOW
    write_parquet(scored.rows, tmp_path / "cell.parquet", CELL)
    assert read_parquet(tmp_path / "cell.parquet", CELL).column("parts").to_pylist() == kept
    settings_ = {"encoding": "harness", "bos": "tokenizer", "truncation": "left", "max_length": None}
    check = largest_difference(directory, requests, scored.rows, examples=2, dtype="float32", **settings_)
    assert check["largest_difference"] < 1e-4
    fewer = scored.rows.set_column(
        scored.rows.column_names.index("parts"), "parts", pa.array([n - 1 for n in kept])
    )
    wrong = largest_difference(directory, requests, fewer, examples=2, dtype="float32", **settings_)
    assert wrong["largest_difference"] > 1e-3  # the kept parts do decide


def test_an_encoded_task_on_disk_gives_the_same_cell(requests: Path, tmp_path: Path) -> None:
    scorer = load_scorer("nowhere", backend="fake", weights="files:0")
    table = read_parquet(requests, REQUESTS)
    task = encode_task(scorer, table, requests, window=100)
    assert task.facts["parts"]["left_out"] == 2
    write_encoded(task, tmp_path / "e.safetensors", {"key": 1})
    again = read_encoded(tmp_path / "e.safetensors", {"key": 1})
    of = [score_task(scorer, one, table, requests) for one in (task, again)]
    assert of[0].rows.equals(of[1].rows)
    assert of[0].footer["parts"] == of[1].footer["parts"]
