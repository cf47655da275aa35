"""Shots: never the example at hand, no repeats, the same for ever, whatever the order of the file."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebbtide.errors import TaskError
from ebbtide.tasks.few_shot import Shot, Shots
from ebbtide.tasks.freezing import freeze, frozen
from ebbtide.tasks.notices import text_notices
from ebbtide.tasks.render import BadRow
from task_data import define

SEPARATOR = "\n\n\n"
EXAMPLES = [
    {"prompt": f"Q{n}", "classes": [" no", " yes", " perhaps"], "answer_index": n % 3} for n in range(8)
]

prompts = st.text(st.characters(codec="utf-8", exclude_characters="\n"), min_size=1, max_size=4)
pools = st.lists(
    st.tuples(prompts, st.sampled_from([" a", " b"])), min_size=3, max_size=12, unique_by=lambda s: s[0]
).map(lambda pairs: [Shot(prompt, prompt + answer) for prompt, answer in pairs])


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def texts(before: str) -> list[str]:
    """The shots in what stands before a prompt."""
    parts = before.split(SEPARATOR)
    assert parts.pop() == ""
    return parts


@settings(max_examples=60, deadline=None)
@given(pool=pools, data=st.data(), seed=st.integers(0, 3))
def test_shots_are_other_examples_without_repeats(pool: list[Shot], data: st.DataObject, seed: int) -> None:
    k = data.draw(st.integers(1, len(pool) - 1))
    shots = Shots(pool, k, SEPARATOR, seed)
    for own in pool:
        drawn = texts("".join(shots.before(own.prompt)))
        assert len(drawn) == len(set(drawn)) == k
        assert set(drawn) <= {shot.text for shot in pool if shot != own}


@settings(max_examples=60, deadline=None)
@given(pool=pools, data=st.data())
def test_shots_do_not_depend_on_the_order_of_the_file_nor_on_repeated_rows(
    pool: list[Shot], data: st.DataObject
) -> None:
    other = data.draw(st.permutations(pool)) + data.draw(st.lists(st.sampled_from(pool), max_size=3))
    one, two = (Shots(p, 2, SEPARATOR, 0) for p in (pool, other))
    assert [one.before(s.prompt) for s in pool] == [two.before(s.prompt) for s in pool]


def test_an_example_that_occurs_twice_is_no_shot_of_itself() -> None:
    pool = [Shot("Q", "Q a"), Shot("Q", "Q b"), Shot("R", "R a"), Shot("S", "S a")]
    for seed in range(20):
        assert sorted(texts("".join(Shots(pool, 2, SEPARATOR, seed).before("Q")))) == ["R a", "S a"]


def test_every_other_example_is_drawn_as_often() -> None:
    pool = [Shot(f"Q{n}", f"Q{n} a") for n in range(6)]
    counts = dict.fromkeys((shot.text for shot in pool), 0)
    for seed in range(600):
        for text in texts("".join(Shots(pool, 2, SEPARATOR, seed).before("Q0"))):
            counts[text] += 1
    assert counts.pop("Q0 a") == 0
    assert all(180 < count < 300 for count in counts.values())  # 240 expected; four standard errors


def test_the_same_shots_precede_all_prompts_and_are_not_asked() -> None:
    pool = [Shot(f"Q{n}", f"Q{n} a") for n in range(6)] + [Shot("Q0", "Q0 b")]
    for seed in range(20):
        shots = Shots(pool, 2, SEPARATOR, seed, same=True)
        before = [shots.before(shot.prompt) for shot in pool]
        assert all(one == before[0] for one in before)
        drawn = texts("".join(before[0]))
        assert len(set(drawn)) == 2
        asked = {shot.prompt for shot in pool if shots.is_asked(shot.prompt)}
        assert asked == {shot.prompt for shot in pool} - {text[:2] for text in drawn}
    assert len({tuple(Shots(pool, 2, SEPARATOR, seed, same=True).before("")) for seed in range(20)}) > 5
    with pytest.raises(BadRow, match=r"few_shot\.k is 6, but there are only 6 different prompts"):
        Shots(pool, 6, SEPARATOR, 0, same=True)


def test_examples_that_are_shots_are_counted() -> None:
    task = define([*EXAMPLES, EXAMPLES[0]], few_shot={"k": 2, "same": True})
    requests, footer = frozen(task)
    [first] = {context.rsplit(SEPARATOR, 1)[0] for context in requests["context"]}
    assert footer["shots_not_asked"] == len(EXAMPLES) + 1 - requests["example"].nunique() in (2, 3)
    assert "few_shot.same" in " ".join(notice.detail for notice in text_notices(requests, footer))
    assert first.count(SEPARATOR) == 1


def test_frozen_shots_carry_the_right_answers() -> None:
    requests = freeze(define(EXAMPLES, few_shot={"k": 3, "seed": 5}))
    right = {row["prompt"]: row["classes"][row["answer_index"]] for row in EXAMPLES}
    for (_, own), rows in requests.groupby(["example", requests["context"].str.split(SEPARATOR).str[-1]]):
        [context] = rows["context"].unique()
        shots = context.split(SEPARATOR)[:-1]
        assert len(set(shots)) == 3
        assert all(shot == shot[:2] + right[shot[:2]] and shot[:2] != own for shot in shots)


def test_frozen_shots_are_what_they_were() -> None:
    # A change of these bytes needs another FREEZE_VERSION.
    requests = freeze(define(EXAMPLES, few_shot={"k": 2, "separator": "|"}))
    assert list(requests["context"].unique())[:3] == [
        "Q5 perhaps|Q3 no|Q0",
        "Q3 no|Q6 no|Q1",
        "Q5 perhaps|Q1 yes|Q2",
    ]


def test_seed_and_number_change_the_shots() -> None:
    contexts = {
        tuple(freeze(define(EXAMPLES, few_shot=few_shot))["context"])
        for few_shot in ({"k": 2}, {"k": 3}, {"k": 2, "seed": 1})
    }
    assert len(contexts) == 3


def test_shots_of_a_sequence_and_of_log_odds() -> None:
    sequence = [{"prompt": f"P{n}", "completion": f" c{n}"} for n in range(2)]
    assert list(freeze(define(sequence, kind="sequence", few_shot={"k": 1}))["context"]) == [
        f"P1 c1{SEPARATOR}P0",
        f"P0 c0{SEPARATOR}P1",
    ]
    odds = [
        {"prompt": f"P{n}", "other_prompt": f"O{n}", "classes": [" a", " b"], "answer_index": 1}
        for n in range(2)
    ]
    requests = freeze(define(odds, kind="log_odds", few_shot={"k": 1}))
    assert list(requests["context"].unique()) == [
        f"P1 b{SEPARATOR}P0",
        f"P1 b{SEPARATOR}O0",
        f"P0 b{SEPARATOR}P1",
        f"P0 b{SEPARATOR}O1",
    ]


def test_delimiter_stands_in_the_shots_too() -> None:
    rows = [{"prompt": f"Q{n}", "classes": ["a", "b"], "answer_index": n} for n in range(2)]
    requests = freeze(define(rows, delimiter=": ", few_shot={"k": 1}))
    assert list(requests["context"].unique()) == [f"Q1: b{SEPARATOR}Q0", f"Q0: a{SEPARATOR}Q1"]


def test_rating_that_is_none_of_the_choices_is_no_shot() -> None:
    rows = [{"prompt": f"Q{n}", "target": target} for n, target in enumerate((1, 2, 2.5))]
    task = define(rows, kind="rating", fields={"choices": [" 1", " 2"]}, few_shot={"k": 2})
    with pytest.raises(TaskError, match=r"mine\.yaml: few_shot\.k is 2, but there are only 1 other examples"):
        freeze(task)


def test_too_few_examples() -> None:
    task = define(EXAMPLES, few_shot={"k": 8})
    with pytest.raises(TaskError, match=r"few_shot\.k is 8, but there are only 7 other examples"):
        freeze(task)


def test_dropped_rows_are_no_shots() -> None:
    rows = [*EXAMPLES[:3], {**EXAMPLES[3], "answer_index": 7}]
    requests = freeze(define(rows, few_shot={"k": 2}, drop_bad_rows=True))
    assert not requests["context"].str.contains("Q3").any()


def test_fixed_prefix() -> None:
    requests = freeze(define(EXAMPLES[:1], few_shot={"prefix": "Q: 1?\nA: 2", "separator": "\n\n"}))
    assert list(requests["context"].unique()) == ["Q: 1?\nA: 2\n\nQ0"]
