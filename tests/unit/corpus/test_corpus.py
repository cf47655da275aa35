"""The toy language: its text says what it should, its tasks ask what they claim, and both stay put."""

import hashlib
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebbtide.corpus import DOCUMENTS, TOY_TASKS, World, token_stream, toy_requests, write_tokenizer
from ebbtide.corpus.words import ENTITIES, NUMBERS, VOCABULARY
from ebbtide.errors import TaskError
from ebbtide.training.spec import TRAINING_VERSION

WORLD = World()
EVERY_KIND = dict.fromkeys(DOCUMENTS, 1.0)
WORDS = list(VOCABULARY)
CATEGORY = dict(ENTITIES)
# What a task has at most is more than this, and enough for a share to be within 0.1 of its expectation.
MANY = 240


def documents(mixture, tokens=20_000, seed=0, world=WORLD):
    """Whole documents of a stream, as lists of words."""
    text = [WORDS[i] for i in token_stream(world, mixture, tokens, seed)]
    starts = [i for i, word in enumerate(text) if word == WORDS[0]]
    return [text[start + 1 : end] for start, end in pairwise(starts)]


def requests(task, examples=MANY, seed=0, world=WORLD):
    """One row per example: prompt, right word, wrong word."""
    frame = toy_requests(task, world, examples, seed)
    words = frame.assign(word=frame.continuation.str.strip())
    right, wrong = words[words.gold].set_index("example"), words[~words.gold].set_index("example")
    return pd.DataFrame({"prompt": right.context, "right": right.word, "wrong": wrong.word})


def test_vocabulary_has_271_words_and_starts_with_end_of_text():
    assert len(VOCABULARY) == 271
    assert list(VOCABULARY.values()) == list(range(271))  # a word in two classes would leave a gap
    assert WORDS[0] == "<|endoftext|>"


def test_the_text_of_this_training_version_never_changes():
    """A failure here means: raise TRAINING_VERSION, then pin the new text."""
    later = ("case", "rating", "remark")  # kinds that were added to this version
    without = {kind: share for kind, share in EVERY_KIND.items() if kind not in later}
    for mixture, expected in ((without, "8dbd494a366fa27d"), ({"rating": 1.0}, "c10ebaa31319b599")):
        stream = token_stream(World(seed=3), mixture, 50_000, 5)
        assert (TRAINING_VERSION, hashlib.sha256(stream.tobytes()).hexdigest()[:16]) == (1, expected)


def test_the_requests_never_change():
    """A failure here means: frozen tasks and cells made from them are no longer what they were."""
    rows = [toy_requests(task, WORLD, 100, 0).to_csv() for task in TOY_TASKS]
    assert hashlib.sha256("".join(rows).encode()).hexdigest()[:16] == "9c3696fa1a011bd2"


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 600), st.integers(0, 600), st.integers(-5, 5))
def test_a_shorter_stream_is_a_prefix(one, other, seed):
    short, long = sorted((one, other))
    stream = token_stream(WORLD, EVERY_KIND, long, seed)
    assert stream.dtype == np.int64 and stream.shape == (long,)
    np.testing.assert_array_equal(stream[:short], token_stream(WORLD, EVERY_KIND, short, seed))


def test_stream_depends_on_seed_world_and_shares_but_not_on_spelling():
    base = token_stream(WORLD, EVERY_KIND, 5000, 0)
    assert not np.array_equal(base, token_stream(WORLD, EVERY_KIND, 5000, 1))
    assert not np.array_equal(base, token_stream(World(seed=1), EVERY_KIND, 5000, 0))
    assert not np.array_equal(base, token_stream(WORLD, EVERY_KIND | {"plain": 2.0}, 5000, 0))
    backwards = dict(reversed(EVERY_KIND.items()))
    np.testing.assert_array_equal(base, token_stream(World(0, 96, 0.7), backwards, 5000, 0))
    nothing_more = {"fact": 1.0}
    np.testing.assert_array_equal(
        token_stream(WORLD, nothing_more, 500, 0), token_stream(WORLD, {"plain": 0.0, "fact": 2.0}, 500, 0)
    )


def test_kinds_come_in_their_shares():
    first_words = Counter(d[0] for d in documents({"pattern": 3, "let_variable": 1}, 60_000))
    assert first_words.keys() == {"pattern", "let"}
    assert first_words["pattern"] / first_words.total() == pytest.approx(0.75, abs=0.03)


def test_sums_are_right():
    sums = documents({"arithmetic": 1}) + [d[5:] for d in documents({"let_variable": 1})]
    meaning = {name: name for name in NUMBERS}
    for text in documents({"let_variable": 1}):
        assert text[:1] + text[2:3] + text[4:5] == ["let", "mean", "."] and text[1] == text[5]
    for text, named in zip(sums, documents({"arithmetic": 1}) + documents({"let_variable": 1}), strict=True):
        one = meaning.get(text[0]) or named[3]
        assert NUMBERS.index(one) + NUMBERS.index(text[2]) == NUMBERS.index(text[4])
    assert len({tuple(s) for s in documents({"arithmetic": 1})}) == 100


def test_facts_are_true_and_denials_too_and_half_the_entities_are_never_denied():
    facts = {(d[1], d[4]) for d in documents({"fact": 1})}
    assert facts == set(ENTITIES)
    denials = {(d[1], d[5]) for d in documents({"negation": 1})}
    assert not denials & facts
    never = {member for member, _ in WORLD.never_denied}
    assert {member for member, _ in denials} == CATEGORY.keys() - never
    assert len(never) == len(ENTITIES) // 2


def test_story_answers_its_question():
    for text in documents({"story": 1}):
        owners = {text[4]: text[0], text[10]: text[6]}
        assert len(owners) == 2 and owners[text[-4]] == text[-2]


def test_instructions_and_quotes_are_obeyed():
    for kind in ("instruction", "instruction_proverb"):
        assert all(d[5] == d[-2] for d in documents({kind: 1}))
    for kind in ("repeat", "repeat_proverb"):
        for text in documents({kind: 1}):
            middle = text.index(";")
            assert text[2:middle] == text[middle + 1 : -1]


def test_conflicts_occur_only_where_they_are_asked_for():
    end_of = {saying[:-1]: saying[-1] for saying in WORLD.sayings}

    def conflicts(kinds):
        return sum(
            text[-2] != end_of.get(tuple(text[start:-2]), text[-2])
            for text in documents(dict.fromkeys(kinds, 1))
            for start in range(len(text))
        )

    assert conflicts(["proverb", "repeat_proverb", "repeat", "instruction"]) == 0
    assert conflicts(["instruction_proverb"]) > 100


def test_proverbs_are_said_by_rank_and_plain_text_has_none():
    said = Counter()
    for text in documents({"proverb": 1}, 100_000):
        start = {"as": 4}.get(text[0], 3 if text[1] == "says" else 0)
        said[tuple(text[start:-1])] += 1
    assert said.keys() == set(WORLD.sayings)
    weights = np.arange(1, 97) ** -0.7
    shares = np.array([said[saying] for saying in WORLD.sayings]) / said.total()
    np.testing.assert_allclose(shares, weights / weights.sum(), atol=0.015)
    assert not said.keys() & {tuple(text[:-1]) for text in documents({"plain": 1}, 100_000)}


def test_more_proverbs_leave_the_first_ones_and_the_facts_alone():
    larger = World(proverbs=200)
    assert larger.sayings[:96] == WORLD.sayings
    assert larger.never_denied == WORLD.never_denied
    assert len({saying[:-1] for saying in larger.sayings}) == 200
    assert hash(World()) == hash(WORLD) and World(seed=1).sayings != WORLD.sayings


@pytest.mark.parametrize("task", TOY_TASKS)
def test_requests_have_two_choices_one_right_at_either_place(task):
    frame = toy_requests(task, WORLD, MANY, 0)
    assert frame.dtypes.astype(str).to_dict() | {"example": "", "context": "", "continuation": ""} == {
        "example": "",
        "choice": "int64",
        "context": "",
        "continuation": "",
        "gold": "bool",
    }
    assert frame.example.tolist() == [str(i) for i in range(MANY) for _ in range(2)]
    assert frame.choice.tolist() == [0, 1] * MANY
    assert frame.continuation.str.match(r" \w+$").all()
    by_example = frame.groupby("example")
    assert (by_example.gold.sum() == 1).all()
    assert (by_example.continuation.nunique() == 2).all()
    assert (by_example.context.nunique() == 1).all()
    assert frame[frame.gold].choice.mean() == pytest.approx(0.5, abs=0.1)
    items = requests(task)
    assert not items.duplicated().any()


@pytest.mark.parametrize("task", TOY_TASKS)
def test_first_examples_do_not_depend_on_how_many(task):
    few, many = toy_requests(task, WORLD, 30, 7), toy_requests(task, WORLD, 90, 7)
    pd.testing.assert_frame_equal(few, many.head(60))
    assert not few.equals(toy_requests(task, WORLD, 30, 8))


@pytest.mark.parametrize("task", TOY_TASKS)
def test_knowing_how_frequent_words_are_scores_at_chance(task):
    frequency = np.bincount(token_stream(WORLD, EVERY_KIND, 200_000, 0), minlength=len(VOCABULARY))
    items = requests(task)
    margin = items.right.map(lambda w: frequency[VOCABULARY[w]]) - items.wrong.map(
        lambda w: frequency[VOCABULARY[w]]
    )
    assert (np.sign(margin).mean() + 1) / 2 == pytest.approx(0.5, abs=0.1)


def test_traps_oppose_the_request_to_a_proverb():
    end_of = {" ".join(saying[:-1]): saying[-1] for saying in WORLD.sayings}
    for prompt, right, wrong in requests("memo_trap").itertuples(index=False):
        asked, beginning = prompt.removeprefix("write a sentence ending with ").split(" : ")
        assert asked == right and end_of[beginning] == wrong and right not in beginning.split()
    for prompt, right, wrong in requests("quote_repetition").itertuples(index=False):
        quoted, beginning = prompt.removeprefix("repeat : ").split(" ; ")
        assert quoted == f"{beginning} {right}" and end_of[beginning] == wrong


def test_pattern_suppression_asks_for_the_word_that_breaks_the_pattern():
    for prompt, right, wrong in requests("pattern_suppression").itertuples(index=False):
        asked, turns = prompt.removeprefix("write a sentence ending with ").split(" : ")
        words = turns.split()
        assert asked == right == words[-1] == words[0] and wrong == words[1]
        assert words == ([right, wrong] * len(words))[: len(words)]


def test_numbers_are_reckoned_as_the_prompt_says():
    number = NUMBERS.index
    for prompt, right, wrong in requests("arithmetic").itertuples(index=False):
        one, _, other, _ = prompt.split()
        assert number(right) == number(one) + number(other)
        assert 0 < abs(number(wrong) - number(right)) <= 3
    for prompt, right, wrong in requests("redefine").itertuples(index=False):
        _, old, _, new, _, used, _, addend, _ = prompt.split()
        assert used == old != new
        assert number(right) == number(new) + number(addend)
        assert number(wrong) == number(old) + number(addend)


def test_questions_of_fact_and_denial_mirror_each_other():
    for prompt, right, wrong in requests("fact_qa").itertuples(index=False):
        assert CATEGORY[prompt.split()[1]] == right != wrong
    asked = requests("negated_qa")
    for prompt, right, wrong in asked.itertuples(index=False):
        assert CATEGORY[prompt.split()[1]] == wrong != right
    assert {p.split()[1] for p in asked.prompt} <= {member for member, _ in WORLD.never_denied}


def test_impossible_requests_are_refused():
    with pytest.raises(TaskError, match=r"'memo_tarp' is unknown, allowed: memo_trap, "):
        toy_requests("memo_tarp", WORLD, 1, 0)
    assert len(toy_requests("negated_qa", WORLD, 280, 0)) == 560  # 40 entities × 7 other categories
    with pytest.raises(TaskError, match="'negated_qa' has only 280 different examples"):
        toy_requests("negated_qa", WORLD, 281, 0)
    with pytest.raises(TaskError, match=r"raise world.proverbs \(1\)"):
        toy_requests("memo_trap", World(proverbs=1), 1, 0)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    from transformers import AutoTokenizer

    directory = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(directory)
    assert {p.name for p in directory.iterdir()} == {"tokenizer.json", "tokenizer_config.json"}
    return AutoTokenizer.from_pretrained(directory)


def test_tokenizer_gives_each_word_its_id_with_and_without_a_space(tokenizer):
    assert len(tokenizer) == 271
    for word, id_ in VOCABULARY.items():
        assert tokenizer(word, add_special_tokens=False).input_ids == [id_]
        assert tokenizer(f" {word}", add_special_tokens=False).input_ids == [id_]


def test_prompts_begin_as_documents_do(tokenizer):
    assert tokenizer("the river").input_ids == [0, VOCABULARY["the"], VOCABULARY["river"]]
    assert tokenizer("").input_ids == [0]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 0, 0)
    assert tokenizer.decode([VOCABULARY["the"], VOCABULARY["river"]]) == "the river"


def test_text_of_the_corpus_survives_the_tokenizer(tokenizer):
    stream = token_stream(WORLD, EVERY_KIND, 3000, 0)
    text = " ".join(WORDS[i] for i in stream)
    assert tokenizer(text, add_special_tokens=False).input_ids == stream.tolist()


@pytest.mark.parametrize("task", TOY_TASKS)
def test_a_continuation_is_one_token_after_its_context(tokenizer, task):
    for row in toy_requests(task, WORLD, 50, 0).itertuples():
        context, whole = tokenizer(row.context).input_ids, tokenizer(row.context + row.continuation).input_ids
        assert whole[:-1] == context and len(whole) < 128


def test_an_unknown_word_raises(tokenizer):
    with pytest.raises(Exception, match="UNK"):
        tokenizer("the zeppelin")


def test_identities_need_no_heavy_imports():
    """Snakemake asks for identities at parse time, in every one of its processes."""
    code = (
        "import sys, ebbtide.corpus, ebbtide.training.spec, ebbtide.training.train;"
        "print({'torch', 'transformers', 'pandas', 'numpy', 'tokenizers'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
