"""From texts to tokens: the rule of lm-evaluation-harness, and its errors."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, normalizers
from transformers import PreTrainedTokenizerFast

import tiny
from ebbtide.checkpoints import load_tokenizer
from ebbtide.errors import ScoringError
from ebbtide.scoring.encoding import Encoded, beginning, encode


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("checkpoint"))


# In the BPE vocabulary, `ab` and ` ab` are one token each, `abcd` is two or one.


def one(tokenizer: Any, context: str, continuation: str, window: int = 40) -> Encoded:
    [found] = encode(
        tokenizer, [context], [continuation], ["example 1"], encoding="harness", window=window, vocabulary=280
    )
    return found


def texts(tokenizer: Any, found: Encoded) -> tuple[str, str]:
    return tokenizer.decode(found.tokens[: found.context]), tokenizer.decode(found.continuation)


def test_trailing_whitespace_moves_to_the_continuation() -> None:
    tokenizer = tiny.bpe()
    assert one(tokenizer, "ab ", "ab") == one(tokenizer, "ab", " ab")
    assert texts(tokenizer, one(tokenizer, "cd \n", "ab")) == ("cd", " \nab")


def test_an_empty_context_becomes_the_beginning_token() -> None:
    for context in ("", " "):
        found = one(tiny.bpe(), context, "ab cd")
        assert (found.tokens[0], found.context) == (0, 1)
    # ... and not two of them, where the tokenizer adds its own.
    assert one(tiny.bpe(beginning=True), "", "ab cd") == one(tiny.bpe(), "", "ab cd")


def test_a_context_that_the_tokenizer_drops_counts_as_empty() -> None:
    tokenizer = tiny.bpe()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("~", "")
    assert one(tokenizer, "~~", "ab") == one(tokenizer, "", "ab")


def test_without_a_beginning_token_the_end_token_stands_for_it() -> None:
    tokenizer = tiny.bpe()
    tokenizer.bos_token = None
    assert one(tokenizer, "", "ab").tokens[0] == 1
    tokenizer.eos_token = None
    with pytest.raises(ScoringError, match="neither a beginning nor an end token"):
        one(tokenizer, "", "ab")
    one(tokenizer, "cd", " ab")  # not needed here


@pytest.mark.parametrize("end", [False, True])
def test_the_beginning_is_what_the_post_processor_puts_in_front(end: bool) -> None:
    assert beginning(tiny.bpe(beginning=True, end=end)) == [0]
    assert beginning(tiny.bpe(end=end)) == []
    bare, started = one(tiny.bpe(), "ab cd", " ab"), one(tiny.bpe(beginning=True, end=end), "ab cd", " ab")
    assert started.tokens == (0, *bare.tokens)
    assert started.context == bare.context + 1


def test_the_beginning_of_a_word_level_tokenizer(checkpoint: Path) -> None:
    tokenizer = load_tokenizer(checkpoint)
    assert beginning(tokenizer) == [0]
    without_a = {word: i for word, i in tokenizer.get_vocab().items() if word != "a"}
    assert len(without_a) < len(tokenizer.get_vocab())
    state = json.loads((checkpoint / "tokenizer.json").read_text())
    state["model"]["vocab"] = without_a
    state["post_processor"]["single"].append({"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}})
    ended = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)))
    assert beginning(ended) == [0]  # and not the one behind


def test_a_continuation_of_several_tokens_is_scored_whole() -> None:
    tokenizer = tiny.bpe()
    found = one(tokenizer, "ab", " cd xyz")
    assert len(found.continuation) > 3
    assert texts(tokenizer, found) == ("ab", " cd xyz")
    assert found.fed == found.tokens[:-1]


def test_tokens_that_merge_over_the_border_are_cut_after_the_context_s_count() -> None:
    """The rule of lm-evaluation-harness: `a` + `b` is one token `ab`; behind one token is nothing."""
    tokenizer = tiny.bpe()
    assert len(tokenizer("ab")["input_ids"]) == len(tokenizer("a")["input_ids"]) == 1
    with pytest.raises(ScoringError, match="example 1: the continuation has no tokens of its own"):
        one(tokenizer, "a", "b")
    found = one(tokenizer, "a", "b cd")
    whole = tokenizer("ab cd")["input_ids"]
    assert found.tokens == (*tokenizer("a")["input_ids"], *whole[1:])


def test_an_empty_continuation_is_an_error() -> None:
    with pytest.raises(ScoringError, match="example 1: the continuation has no tokens of its own"):
        one(tiny.bpe(), "ab", "")


def test_a_long_context_loses_its_left_end_and_is_flagged() -> None:
    tokenizer = tiny.bpe()
    whole = one(tokenizer, "x" * 30, "ab cd")
    assert not whole.truncated
    assert not one(tokenizer, "x" * 30, "ab cd", window=len(whole.fed)).truncated
    cut = one(tokenizer, "x" * 30, "ab cd", window=10)
    assert cut.truncated
    assert len(cut.fed) == 10
    assert cut.tokens == whole.tokens[-11:]
    assert cut.continuation == whole.continuation


def test_a_continuation_longer_than_the_window_is_an_error() -> None:
    tokenizer = tiny.bpe()
    assert one(tokenizer, "x", "y" * 10, window=10).context == 1  # its last token is not fed
    with pytest.raises(
        ScoringError, match=r"example 1: the continuation alone \(11 tokens\) exceeds the window of 10"
    ):
        one(tokenizer, "x", "y" * 11, window=10)


def test_an_unknown_word_names_the_example(checkpoint: Path) -> None:
    with pytest.raises(ScoringError, match="request 1: 'the zebra' cannot be encoded"):
        encode(
            load_tokenizer(checkpoint),
            ["the", "the zebra"],
            [" old", " old"],
            ["request 0", "request 1"],
            encoding="harness",
            window=40,
            vocabulary=271,
        )


def test_an_unknown_encoding_is_an_error() -> None:
    with pytest.raises(ScoringError, match="encoding: found 'best', allowed: harness"):
        encode(tiny.bpe(), ["a"], ["b"], ["x"], encoding="best", window=9, vocabulary=9)
