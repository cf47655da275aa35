"""From texts to tokens: three rules, the start of a text, truncation, and the errors."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers, pre_tokenizers

import tiny
from ebbtide.errors import ScoringError
from ebbtide.scoring.encoded import Encoded
from ebbtide.scoring.encoding import encode
from ebbtide.scoring.tokenizer import Tokenizer, load_tokenizer
from real_models import gemma3, smollm2

BOS_ID, EOS_ID = 0, 1


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("checkpoint"))


@cache
def fast(beginning: bool = False, end: bool = False) -> Any:
    return tiny.bpe(beginning=beginning, end=end)


# In the BPE vocabulary, `ab` and ` ab` are one token each, `abcd` is two or one.


def bpe(beginning: bool = False, end: bool = False, **changes: Any) -> Tokenizer:
    front = (BOS_ID,) if beginning else ()
    made = Tokenizer(fast(beginning, end).backend_tokenizer, BOS_ID, EOS_ID, front, by_words=True)
    return replace(made, **changes)


def one(
    tokenizer: Tokenizer,
    context: str,
    continuation: str,
    *,
    encoding: str = "harness",
    bos: str = "tokenizer",
    truncation: str = "left",
    window: int = 40,
    vocabulary: int = 280,
) -> Encoded:
    [found] = encode(
        tokenizer,
        [context],
        [continuation],
        ["example 1"],
        encoding=encoding,
        bos=bos,
        truncation=truncation,
        window=window,
        vocabulary=vocabulary,
    )
    return found


def texts(tokenizer: Tokenizer, found: Encoded) -> tuple[str, str]:
    decode = tokenizer.backend.decode
    return decode(found.tokens[: found.context]), decode(found.continuation)


def ids(text: str) -> tuple[int, ...]:
    return tuple(bpe().ids([text])[0])


def test_trailing_whitespace_moves_to_the_continuation() -> None:
    tokenizer = bpe()
    assert one(tokenizer, "ab ", "ab") == one(tokenizer, "ab", " ab")
    assert texts(tokenizer, one(tokenizer, "cd \n", "ab")) == ("cd", " \nab")


@pytest.mark.parametrize("encoding", ["joint", "separate"])
def test_whitespace_stays_where_it_is_in_the_other_rules(encoding: str) -> None:
    found = one(bpe(), "cd \n", "ab", encoding=encoding)
    assert texts(bpe(), found) == ("cd \n", "ab")


@pytest.mark.parametrize("encoding", ["harness", "joint", "separate"])
@pytest.mark.parametrize("bos", ["tokenizer", "always", "never"])
@pytest.mark.parametrize("beginning", [False, True])
def test_an_empty_context_becomes_the_beginning_token(encoding: str, bos: str, beginning: bool) -> None:
    found = one(bpe(beginning), "", "ab cd", encoding=encoding, bos=bos)
    assert found == Encoded((BOS_ID, *ids("ab cd")), 1, truncated=False)  # and not two of them
    # A continuation that itself begins with it is scored after it.
    assert one(bpe(beginning), "", "<s>ab cd", encoding=encoding, bos=bos) == found


def test_the_harness_starts_an_empty_context_with_the_beginning_token_alone() -> None:
    tokenizer = replace(bpe(), beginning=(7,))
    assert one(tokenizer, "", "ab").tokens == (BOS_ID, *ids("ab"))
    assert one(tokenizer, "cd", " ab").tokens == (7, *ids("cd ab"))
    assert one(tokenizer, "", "ab", encoding="joint").tokens == (7, *ids("ab"))


def test_a_context_of_whitespace_counts_as_empty() -> None:
    assert one(bpe(), " ", "ab cd") == Encoded((BOS_ID, *ids(" ab cd")), 1, truncated=False)


def test_a_context_that_the_tokenizer_drops_counts_as_empty() -> None:
    backend = Backend.from_str(fast().backend_tokenizer.to_str())
    backend.normalizer = normalizers.Replace("~", "")
    tokenizer = Tokenizer(backend, BOS_ID, EOS_ID, ())
    for encoding in ("harness", "joint", "separate"):
        assert one(tokenizer, "~~", "ab", encoding=encoding) == one(tokenizer, "", "ab", encoding=encoding)


@pytest.mark.parametrize("encoding", ["harness", "joint", "separate"])
def test_without_a_beginning_token_the_end_token_stands_for_it(encoding: str) -> None:
    assert one(bpe(bos=None), "", "ab", encoding=encoding).tokens[0] == EOS_ID
    with pytest.raises(ScoringError, match="neither a beginning nor an end token"):
        one(bpe(bos=None, eos=None), "", "ab", encoding=encoding)
    one(bpe(bos=None, eos=None), "cd", " ab", encoding=encoding)  # not needed here


@pytest.mark.parametrize("end", [False, True])
@pytest.mark.parametrize("encoding", ["harness", "joint", "separate"])
def test_what_is_put_before_a_text(encoding: str, end: bool) -> None:
    bare = Encoded((*ids("ab cd"), *ids(" ab")), len(ids("ab cd")), truncated=False)
    started = Encoded((BOS_ID, *bare.tokens), bare.context + 1, truncated=False)

    def found(beginning: bool, bos: str) -> Encoded:
        return one(bpe(beginning, end), "ab cd", " ab", encoding=encoding, bos=bos)

    assert found(False, "tokenizer") == found(False, "never") == found(True, "never") == bare
    assert found(True, "tokenizer") == found(True, "always") == found(False, "always") == started


@pytest.mark.parametrize("encoding", ["harness", "joint", "separate"])
@pytest.mark.parametrize("bos", ["tokenizer", "always", "never"])
def test_a_text_that_begins_with_the_beginning_token_gets_no_second_one(encoding: str, bos: str) -> None:
    found = one(bpe(beginning=True), "<s>ab", " cd", encoding=encoding, bos=bos)
    assert found.tokens == (BOS_ID, *ids("ab cd"))


def test_always_begins_with_the_end_token_where_there_is_no_other() -> None:
    assert one(bpe(bos=None), "ab", " cd", bos="always").tokens == (EOS_ID, *ids("ab cd"))
    with pytest.raises(ScoringError, match="bos: always, but the tokenizer has neither"):
        one(bpe(bos=None, eos=None), "ab", " cd", bos="always")


def test_always_keeps_what_else_the_tokenizer_puts_in_front() -> None:
    for front in ((BOS_ID, 7), (7,)):
        tokenizer = replace(bpe(), beginning=front)
        assert one(tokenizer, "ab", " cd", bos="always").tokens == (BOS_ID, 7, *ids("ab cd"))


def test_a_continuation_of_several_tokens_is_scored_whole() -> None:
    tokenizer = bpe()
    found = one(tokenizer, "ab", " cd xyz")
    assert len(found.continuation) > 3
    assert texts(tokenizer, found) == ("ab", " cd xyz")
    assert found.fed == found.tokens[:-1]


def test_tokens_that_merge_over_the_border() -> None:
    """`a` + `b` is one token `ab`."""
    tokenizer = bpe()
    assert len(ids("ab")) == len(ids("a")) == 1
    # The harness cuts after as many tokens as the context has: behind one token is nothing.
    with pytest.raises(ScoringError) as error:
        one(tokenizer, "a", "b")
    assert str(error.value) == (
        "ScoringError: example 1: the continuation has no tokens of its own after its context; a token spans "
        "its border with the context, so begin it with a space."
    )
    found = one(tokenizer, "a", "b cd")
    assert found == Encoded((*ids("a"), *ids("ab cd")[1:]), 1, truncated=False, border=True)
    # Together, the token over the border is the continuation's.
    assert one(tokenizer, "a", "b cd", encoding="joint") == Encoded(
        (BOS_ID, *ids("ab cd")), 1, truncated=False, border=True
    )
    assert one(tokenizer, "cda", "b", encoding="joint") == Encoded(
        (*ids("cd"), *ids("ab")), 1, truncated=False, border=True
    )
    # Alone, nothing merges.
    assert one(tokenizer, "a", "b cd", encoding="separate") == Encoded(
        (*ids("a"), *ids("b cd")), 1, truncated=False
    )


def test_a_space_before_the_border_belongs_to_the_token_behind_it() -> None:
    found = one(bpe(), "cd ", "ab", encoding="joint")
    assert texts(bpe(), found) == ("cd", " ab")
    assert not found.border
    assert texts(bpe(), one(bpe(), "cd ", "ab", encoding="separate")) == ("cd ", "ab")


@pytest.mark.parametrize("beginning", [False, True])
@pytest.mark.parametrize("by_words", [False, True])
def test_a_token_over_the_border_is_flagged(by_words: bool, beginning: bool) -> None:
    """A context that ends within a word: of `hello wor` + `ld is round`, the harness scores ` is round`."""
    tokenizer = bpe(beginning, by_words=by_words)
    found = one(tokenizer, "xy ab cda", "b ab")
    assert found.border
    assert texts(tokenizer, found)[1] == " ab"
    assert not one(tokenizer, "xy ab cd", " ab").border
    assert not one(tokenizer, "xy ab cd ", "ab").border
    assert not one(tokenizer, "", "ab").border
    assert one(tokenizer, "x" * 30 + "a", "b cd", window=6).border  # also if the context is cut
    joint = one(tokenizer, "xy ab cda", "b ab", encoding="joint")
    assert joint.border
    assert texts(tokenizer, joint)[1] == "ab ab"
    assert not one(tokenizer, "xy ab cda", "b ab", encoding="separate").border


def test_a_character_of_several_tokens_is_not_split() -> None:
    for context, continuation in (("Ü東", "京🤯"), ("🤯", "🤯"), ("e", "\u0301x")):
        found = one(bpe(), context, continuation, encoding="joint")
        assert texts(bpe(), found) == (context, continuation)
        assert len(found.continuation) > len(continuation)


def test_a_border_between_words_that_are_no_tokens() -> None:
    """The space belongs to no token of a word-level vocabulary."""
    backend = Backend(models.WordLevel({"<s>": 0, "one": 1, "two": 2}))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = Tokenizer(backend, 0, None, ())
    for encoding in ("harness", "joint", "separate"):
        for context, continuation in (("one", " two"), ("one ", "two"), ("one  ", "  two")):
            assert one(tokenizer, context, continuation, encoding=encoding) == Encoded((1, 2), 1, False)


TEXTS = st.text("ab cdé🤯\n", max_size=16)


@given(TEXTS, TEXTS)
@settings(deadline=None, max_examples=200)
@pytest.mark.parametrize("encoding", ["harness", "joint", "separate"])
@pytest.mark.parametrize("bos", ["tokenizer", "never"])
def test_cutting_between_words_changes_no_request(
    encoding: str, bos: str, context: str, continuation: str
) -> None:
    def found(by_words: bool) -> Encoded | str:
        try:
            return one(bpe(True, by_words=by_words), context, continuation, encoding=encoding, bos=bos)
        except ScoringError as error:
            return str(error)

    assert found(True) == found(False)


@given(TEXTS, TEXTS.filter(bool))
@settings(deadline=None, max_examples=200)
def test_nothing_is_lost_at_the_border(context: str, continuation: str) -> None:
    for encoding, whole in (
        ("joint", ids(context + continuation)),
        ("separate", ids(context) + ids(continuation)),
    ):
        found = one(bpe(beginning=True), context, continuation, encoding=encoding, window=99)
        assert found.tokens == (BOS_ID, *whole)
        scored = texts(bpe(), found)[1]
        assert scored.endswith(continuation)
        if encoding == "separate":
            assert scored == continuation


@pytest.mark.parametrize("encoding", ["harness", "joint", "separate"])
def test_an_empty_continuation_is_an_error(encoding: str) -> None:
    for context in ("ab", ""):
        with pytest.raises(ScoringError, match="example 1: the continuation has no tokens of its own"):
            one(bpe(), context, "", encoding=encoding)


def test_a_long_context_loses_its_left_end_and_is_flagged() -> None:
    tokenizer = bpe()
    whole = one(tokenizer, "x" * 30, "ab cd")
    assert not whole.truncated
    assert not one(tokenizer, "x" * 30, "ab cd", window=len(whole.fed)).truncated
    cut = one(tokenizer, "x" * 30, "ab cd", window=10)
    assert cut.truncated
    assert len(cut.fed) == 10
    assert cut.tokens == whole.tokens[-11:]
    assert cut.continuation == whole.continuation


def test_a_long_context_is_refused_on_request() -> None:
    whole = one(bpe(), "x" * 30, "ab cd")
    refuse: dict[str, Any] = {"truncation": "refuse"}
    assert one(bpe(), "x" * 30, "ab cd", window=len(whole.fed), **refuse) == whole
    with pytest.raises(
        ScoringError, match=rf"example 1: {len(whole.fed)} tokens to read exceed the window of 10; shorten"
    ):
        one(bpe(), "x" * 30, "ab cd", window=10, **refuse)


@pytest.mark.parametrize("truncation", ["left", "refuse"])
def test_a_continuation_longer_than_the_window_is_an_error(truncation: str) -> None:
    tokenizer = bpe()
    assert one(tokenizer, "x", "y" * 10, window=10, truncation=truncation).context == 1  # the last is not fed
    with pytest.raises(
        ScoringError, match=r"example 1: the continuation alone \(11 tokens\) exceeds the window of 10"
    ):
        one(tokenizer, "x", "y" * 11, window=10, truncation=truncation)


def test_a_token_outside_the_vocabulary_is_an_error() -> None:
    largest = max(ids("ab cd xyz"))
    one(bpe(), "ab", " cd xyz", vocabulary=largest + 1)
    with pytest.raises(ScoringError, match=rf"token {largest} is outside the model's vocabulary"):
        one(bpe(), "ab", " cd xyz", vocabulary=largest)


@pytest.mark.parametrize("encoding", ["harness", "joint", "separate"])
def test_an_unknown_word_names_the_example(checkpoint: Path, encoding: str) -> None:
    with pytest.raises(ScoringError, match=r"request 1: 'the zebra.*' cannot be encoded"):
        encode(
            load_tokenizer(checkpoint),
            ["the", "the zebra"],
            [" old", " old"],
            ["request 0", "request 1"],
            encoding=encoding,
            bos="tokenizer",
            truncation="left",
            window=40,
            vocabulary=271,
        )


def test_an_unknown_rule_is_an_error() -> None:
    for key, allowed in (
        ("encoding", "harness, joint, separate"),
        ("bos", "tokenizer, always, never"),
        ("truncation", "left, refuse"),
    ):
        rule: dict[str, Any] = {key: "best"}
        with pytest.raises(ScoringError, match=f"{key}: found 'best', allowed: {allowed}"):
            one(bpe(), "a", "b", **rule)


def test_equal_texts_are_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    real = Tokenizer.ids
    monkeypatch.setattr(Tokenizer, "ids", lambda self, texts: seen.extend(texts) or real(self, texts))
    encode(
        bpe(),
        ["ab"] * 3,
        [" cd", " ab", " cd"],
        ["x"] * 3,
        encoding="harness",
        bos="tokenizer",
        truncation="left",
        window=40,
        vocabulary=280,
    )
    assert sorted(seen) == ["", "ab", "ab ab", "ab cd"]


# The rule of lm-evaluation-harness, by its own code.

CONTEXTS = [
    "",
    "ab",
    "ab ",
    "a",
    "cd \n\t",
    "<s>",
    "<s>ab",
    "<s> ",
    "</s>",
    "<",
    " ab",
    "Ü東 🤯 ",
    "ab cd xyz " * 3,
]
ENDS = [" cd", "b cd", "cd", "<s> ab", "s>ab", "<s>", " ", "\u00a0ab", "🤯東", "abcd abcd ", "</s>ab"]


def by_harness(tokenizer: Any, context: str, continuation: str, add_bos: bool | None) -> Any:
    """(context tokens, continuation tokens) as the harness asks its model, None where it stops."""
    huggingface = pytest.importorskip("lm_eval.models.huggingface", reason="lm_eval is not installed")
    from lm_eval.api.instance import Instance

    class Captures(huggingface.HFLM):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            self.tokenizer, self.backend, self.enable_thinking = tokenizer, "causal", None
            self.add_bos_token, self.custom_prefix_token_id = add_bos, None

        def _loglikelihood_tokens(self, requests: Any, **_: Any) -> Any:
            return [request[1:] for request in requests]

    request = Instance("loglikelihood", {}, (context, continuation), 0)
    try:
        [(given, scored)] = Captures().loglikelihood([request], disable_tqdm=True)
    except IndexError:
        return None
    return (given, scored) if given and scored else None


def check_against_harness(made: Any, tokenizer: Tokenizer, contexts: list[str], ends: list[str]) -> None:
    compared = 0
    for bos, add in (("tokenizer", None), ("never", False)):
        for context in contexts:
            for end in ends:
                expected = by_harness(made, context, end, add)
                if expected:
                    found = one(tokenizer, context, end, bos=bos, window=200, vocabulary=10**6)
                    split = [*found.tokens[: found.context]], [*found.continuation]
                    assert split == expected, (bos, context, end)
                    compared += 1
    assert compared > len(contexts) * len(ends)


@pytest.mark.parametrize("beginning", [False, True])
def test_the_harness_rule_is_the_harness_s(beginning: bool) -> None:
    check_against_harness(fast(beginning), bpe(beginning), CONTEXTS, ENDS)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("model", [smollm2, gemma3])
def test_the_harness_rule_on_a_real_tokenizer(model: Any) -> None:
    from transformers import AutoTokenizer

    made = AutoTokenizer.from_pretrained(str(model()), local_files_only=True)
    start = made.decode(made.bos_token_id)
    contexts = [*CONTEXTS, start, f"{start}The heart", "The capital of France is ", "Q: 2+2?\nA:"]
    check_against_harness(made, load_tokenizer(model()), contexts, [*ENDS, start, f"{start}Paris", " Paris"])
