"""Tasks that generate: definitions and their identities, freezing, filters, matches and measures of texts."""

import hashlib
import itertools
import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import tiny
from ebbtide.errors import ConfigError, ScoringError, TaskError
from ebbtide.tasks import definition
from ebbtide.tasks.definition import load_task
from ebbtide.tasks.freezing import freeze, frozen
from ebbtide.tasks.generation.classifiers import CLASSIFIERS, Classifier, fixed
from ebbtide.tasks.generation.filters import FILTERS, filtered
from ebbtide.tasks.generation.matching import matches
from ebbtide.tasks.generation.measures import text_columns
from ebbtide.tasks.preview import preview
from task_data import define

ROWS = [{"prompt": "2 + 2 =", "answer": ["4", "four"]}, {"prompt": "1 + 1 =", "answer": ["2", "two"]}]
DECODING = {"max_tokens": 5, "samples": 4, "temperature": 1.0}
TARGET = {"target": "answer"}
LOWER = [{"function": "lowercase"}]
LOOSE = [{"name": "loose", "filters": LOWER}]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def classifier() -> Iterator[Classifier]:
    """A classifier: the share of letters that are x; it fails on texts without letters."""

    def scores(texts: Any) -> np.ndarray:
        assert len(set(texts)) == len(texts), "a text is scored once"
        return np.array([t.count("x") / len(t) if t else np.nan for t in texts])

    crosses = Classifier("crosses", "1", "abc", scores)
    CLASSIFIERS["crosses"] = fixed(crosses)
    yield crosses
    del CLASSIFIERS["crosses"]


def task(**keys: Any) -> Any:
    return define(ROWS, **{"kind": "generation", "decoding": DECODING, "fields": TARGET, **keys})


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        (
            {"decoding": {"max_tokens": 5, "samples": 2}},
            "mine.yaml: decoding.samples: found 2, but temperature 0 always takes the most likely token; "
            "allowed: 1. Set decoding.temperature to sample.",
        ),
        ({"decoding": {"max_tokens": 5, "top_p": 1.5}}, "top_p"),
        ({"decoding": {"max_tokens": 0}}, "max_tokens"),
        ({"decoding": {"samples": 1}}, "max_tokens"),
        ({"decoding": {"max_tokens": 5, "stop": [""]}}, "stop"),
        ({"decoding": {"max_tokens": 5, "topp": 0.9}}, "topp"),
        (
            {"kind": "sequence", "fields": {}},
            "mine.yaml: decoding: found for kind 'sequence', which generates no texts; allowed: with kind "
            "'generation'.",
        ),
        (
            {"texts": {"filters": [{"function": "regx"}]}},
            "texts.filters[0].function: found 'regx'; allowed: regex, remove_whitespace, lowercase, "
            "uppercase, map, take_first, take_first_k, majority_vote; did you mean 'regex'?",
        ),
        (
            {"texts": {"filters": [{"function": "lowercase"}, {"function": "take_first", "k": 2}]}},
            "texts.filters[1].k: take_first has no such argument; allowed: none.",
        ),
        (
            {"texts": {"filters": [{"function": "take_first_k", "k": 5}]}},
            "texts.filters[0].k: found 5; allowed: 1 to 4 samples.",
        ),
        (
            {"texts": {"filters": [{"function": "regex", "regex_pattern": "(a"}]}},
            "texts.filters[0].regex_pattern: '(a' is not a regular expression of Python: missing )",
        ),
        (
            {"texts": {"exact_match": {"regexes_to_ignore": [",", "*"]}}},
            "texts.exact_match.regexes_to_ignore[1]: '*' is not a regular expression of Python",
        ),
        (
            {"fields": {}, "texts": {"filters": [{"function": "lowercase"}]}},
            "texts.filters: answers are compared with fields.target, which is missing; set it, or remove the "
            "key.",
        ),
        (
            {"texts": {"classifiers": ["toxic"]}},
            "texts.classifiers[0]: found 'toxic'; allowed: detoxify, marked_words, profanity",
        ),
        (
            {"fields": {}, "few_shot": {"k": 1}},
            "few_shot.k: the answers of few-shot examples are fields.target, which is missing.",
        ),
        ({"texts": {"pipelines": LOOSE, "filters": LOWER}}, "texts: found filters and pipelines"),
        (
            {"texts": {"pipelines": [{"name": "a", "filters": [{"function": "lower"}]}]}},
            "texts.pipelines[0].filters[0].function: found 'lower'; allowed: regex,",
        ),
        ({"texts": {"pipelines": [{"name": "a]", "filters": LOWER}]}}, "texts.pipelines[0].name: found 'a]'"),
        ({"texts": {"pipelines": LOOSE * 2}}, "texts.pipelines[1].name: found 'loose' twice; allowed: once."),
        (
            {"texts": {"pipelines": LOOSE}, "fields": {}},
            "texts.pipelines: answers are compared with fields.target, which is missing",
        ),
        ({"chat_template": "mine"}, "chat_template"),
        (
            {"fit": "parts", "fields": {"prompt": "{{ parts }}"}},
            "fit: kind 'generation' cannot leave out parts; remove the key.",
        ),
        (
            {"few_shot": {"k": 1, "fit": True}},
            "few_shot.fit: kind 'generation' cannot leave out parts; remove the key.",
        ),
        ({"invert": True, "kind": "generations"}, "kind"),
    ],
)
def test_a_definition_is_refused_in_one_sentence(keys: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        task(**keys)
    assert sentence in str(error.value)
    assert "mine.yaml" in str(error.value)
    assert str(error.value).count("\n") == 0


def test_decoding_is_needed() -> None:
    with pytest.raises(ConfigError, match=r"mine\.yaml: decoding: missing; kind 'generation' needs deco"):
        define(ROWS, kind="generation")


def test_what_determines_the_samples_is_in_the_identity(classifier: Classifier) -> None:
    assert task(decoding={**DECODING, "seed": 0, "top_p": 1}).identity == task().identity, "defaults"
    assert task(decoding={**DECODING, "temperature": 1}).identity == task().identity, "1 is 1.0"
    texts = {"classifiers": ["crosses"]}
    others = [
        {"decoding": {**DECODING, "seed": 1}},
        {"decoding": {**DECODING, "top_k": 5}},
        {"decoding": {**DECODING, "keep_text": True}},
        {"decoding": {**DECODING, "stop": ["\n"]}},
        {"texts": {"filters": [{"function": "lowercase"}]}},
        {"texts": {"pipelines": LOOSE}},
        {"texts": {"pipelines": [{"name": "lax", "filters": LOWER}]}},
        {"chat_template": "tokenizer"},
        {"texts": texts},
    ]
    found = [task(**keys).identity for keys in ({}, *others)]
    CLASSIFIERS["crosses"] = fixed(Classifier("crosses", "1", "def", classifier.scores))
    found.append(task(texts=texts).identity)
    assert len(set(found)) == len(found)
    assert task(title="Other").identity == task(metrics=["exact_match"]).identity == task().identity


def test_prompts_are_frozen_with_their_targets() -> None:
    requests = freeze(task())
    assert requests["context"].tolist() == ["2 + 2 =", "1 + 1 ="]
    assert set(requests["continuation"]) == {""} and requests["choice"].tolist() == [0, 0]
    assert [json.loads(text) for text in requests["targets"]] == [["4", "four"], ["2", "two"]]
    assert "targets" not in freeze(task(fields={}))
    shots = freeze(task(few_shot={"k": 1, "separator": "\n"}, delimiter=" "))
    assert shots["context"].tolist() == ["1 + 1 = 2\n2 + 2 =", "2 + 2 = 4\n1 + 1 ="]


def test_a_preview_shows_the_prompt_in_tokens(tmp_path: Path) -> None:
    tiny.bpe(beginning=True).save_pretrained(tmp_path / "tokenizer")
    table = preview(
        freeze(define([{"prompt": "ab a"}], kind="generation", decoding=DECODING)), 1, tmp_path / "tokenizer"
    )
    assert table["text"].tolist() == ["ab a‖"] and table["across"].tolist() == [False]
    [tokens] = table["tokens"]
    assert tokens.endswith("ab· ·a‖")


@pytest.mark.parametrize("value", [[], None, [None], {"a": 1}])
def test_a_row_without_a_target_is_refused(value: Any) -> None:
    with pytest.raises(TaskError, match=r"row 1: .*target"):
        frozen(
            define([{"prompt": "a", "answer": value}], kind="generation", decoding=DECODING, fields=TARGET)
        )


def test_every_pipeline_filters_the_texts_as_it_would_alone() -> None:
    texts, targets = [["A 1", "b 2"], ["a 3", "a 4"]], [["a"], ["4", "a"]]
    letter, digit = ([{"function": "regex", "regex_pattern": p}] for p in ("(?i)[ab]", "[0-9]"))
    pipelines = {
        "letter": letter,
        "none": [*digit, {"function": "take_first"}],
        "low": [*LOWER, *letter],
    }
    named = [{"name": name, "filters": filters} for name, filters in pipelines.items()]
    found = text_columns(texts, targets, {"pipelines": named})
    for name, filters in pipelines.items():
        alone = text_columns(texts, targets, {"filters": filters})["exact"]
        only = text_columns(texts, targets, {"pipelines": [{"name": name, "filters": filters}]})["exact"]
        column = "exact" if name == "none" else f"exact[filter={name}]"
        np.testing.assert_array_equal(found[column], alone)
        np.testing.assert_array_equal(only, alone)
    assert found["exact[filter=letter]"].tolist() == [0, 0, 1, 1] != found["exact[filter=low]"].tolist()


LM_EVAL = {"lm_eval": "mine", "version": "0.4.13"}


def of_lm_eval(**keys: Any) -> Any:
    Path("mine.yaml").write_text(yaml.safe_dump({"title": "Mine", "source": LM_EVAL, **keys}))
    return load_task("mine.yaml", "study.yaml: tasks[0]")


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"kind": "choice"}, "kind: found 'choice'; allowed: generation, for a task of lm-eval"),
        (
            {"kind": "generation", "decoding": {"temperature": 0}},
            "decoding.temperature: lm-eval's generation_kwargs decide it; allowed: keep_text.",
        ),
        ({"decoding": {"keep_text": True}}, "decoding.keep_text: only with kind: generation; add it."),
        ({"kind": "generation", "texts": {"filters": LOWER}}, "texts: a generated task"),
    ],
)
def test_keys_that_a_task_of_lm_eval_cannot_have(keys: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        of_lm_eval(**keys)
    assert f"mine.yaml: {sentence}" in str(error.value)


def test_the_kind_of_a_task_of_lm_eval_is_in_its_identity_if_it_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unknown, known = of_lm_eval().identity, of_lm_eval(kind="generation").identity
    assert unknown == "8dbee7c5cfa4f18536d6e35e1c9c35dc"
    assert of_lm_eval(kind="generation", decoding={"keep_text": False}).identity == known != unknown
    assert of_lm_eval(kind="generation", decoding={"keep_text": True}).identity != known
    monkeypatch.setattr(definition, "GENERATION_VERSION", definition.GENERATION_VERSION + 1)
    assert of_lm_eval(kind="generation").identity != known
    assert of_lm_eval().identity == unknown


# ---- filters and matches, against lm-eval's own

TEXTS = ["", " Yes. ", "#### 12", "no", "No\n#### 3 #### 4", "The answer is (B).", "YES", "ß No", "a|b"]
FILTER_CASES: list[dict[str, Any]] = [
    {"function": "regex"},
    {"function": "regex", "regex_pattern": "(?i)yes|no"},
    {"function": "regex", "regex_pattern": r"(\d)|([a-z])", "fallback": "none"},
    {"function": "regex", "regex_pattern": r"\s*(\w)", "group_select": -1},
    {"function": "regex", "regex_pattern": r"(x)?(y)?", "fallback": "!"},
    {"function": "remove_whitespace"},
    {"function": "lowercase"},
    {"function": "uppercase"},
    {"function": "map", "mapping_dict": {"no": "0", "YES": "1"}},
    {"function": "map", "mapping_dict": {"no": "0"}, "default_value": "?"},
    {"function": "take_first"},
    {"function": "take_first_k", "k": 2},
    {"function": "majority_vote"},
]


def theirs(spec: Mapping[str, Any], texts: list[str]) -> list[Any]:
    filters = pytest.importorskip("lm_eval.filters")
    arguments = {key: value for key, value in spec.items() if key != "function"}
    built = filters.get_filter(spec["function"])(**arguments)
    [found] = built.apply([texts], [{}])
    return [found] if isinstance(found, str) else list(found)


@pytest.mark.parametrize("spec", FILTER_CASES, ids=lambda spec: spec["function"])
def test_filters_give_what_lm_eval_gives(spec: dict[str, Any]) -> None:
    draw = random.Random(0)
    for size in (1, 3, 5, 9):
        for _ in range(20):
            texts = draw.choices(TEXTS, k=max(size, spec.get("k", 1)))
            assert [answer.text for answer in filtered(texts, [spec])] == theirs(spec, texts)


def test_every_filter_is_compared() -> None:
    assert {spec["function"] for spec in FILTER_CASES} == set(FILTERS)


def test_too_few_matches_are_no_match() -> None:
    spec = {"function": "regex", "regex_pattern": r"\d", "group_select": 1}
    assert [answer.text for answer in filtered(["1 2", "3"], [spec])] == ["2", "[invalid]"]


FLAGS = ("ignore_case", "ignore_punctuation", "ignore_numbers")
OPTIONS = [
    {**dict(zip(FLAGS, flags, strict=True)), "regexes_to_ignore": ignored}
    for flags in itertools.product([False, True], repeat=3)
    for ignored in ([], [",", r"\$"], ["(?i)the "])
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_matches_are_those_of_lm_eval(options: dict[str, Any]) -> None:
    evaluate = pytest.importorskip("lm_eval.api.metrics").exact_match_hf_evaluate
    texts = ["", "12", "$1,2", "The Answer.", "the answer", "THE ANSWER!", "answer 3", "Ä;", "ä"]
    given = {**options, "regexes_to_ignore": options["regexes_to_ignore"] or None}
    for answer, target in itertools.product(texts, texts):
        expected = bool(evaluate([answer], [target], **given)["exact_match"])
        assert matches(answer, [target], options) == expected, (answer, target)
    assert not matches(None, [""], options)
    assert matches("b", ["a", "b"], options)


# ---- measures


def test_texts_are_measured() -> None:
    texts = [["a b a b", " Ä\n"], ["", "x y x y x y"]]
    found = text_columns(texts, None, {})
    assert found["text_sha256"][1] == hashlib.sha256(" Ä\n".encode()).hexdigest()
    assert found["characters"].tolist() == [7, 3, 0, 11]
    assert found["bytes"].tolist() == [7, 4, 0, 11]
    assert found["words"].tolist() == [4, 1, 0, 6]
    assert np.allclose(found["distinct_1"], [0.5, 1, np.nan, 1 / 3], equal_nan=True)
    assert np.allclose(found["distinct_2"], [2 / 3, np.nan, np.nan, 2 / 5], equal_nan=True)
    assert np.allclose(found["repetition"], [0, np.nan, np.nan, 1 / 3], equal_nan=True)
    assert "exact" not in found


def test_answers_that_filters_leave_out_have_no_match() -> None:
    settings = {"filters": [{"function": "remove_whitespace"}, {"function": "take_first_k", "k": 2}]}
    found = text_columns([[" 4", "5", "4"], ["a", "two", "2"]], [["4", "four"], ["2", "two"]], settings)
    assert np.array_equal(found["exact"], [1, 0, np.nan, 0, 1, np.nan], equal_nan=True)


def test_a_classifier_scores_each_text_once_and_may_fail(classifier: Classifier) -> None:
    found = text_columns([["xx", "ax"], ["", "xx"]], None, {"classifiers": ["crosses"]})
    assert np.array_equal(found["score_crosses"], [1, 0.5, np.nan, 1], equal_nan=True)


@pytest.mark.parametrize(
    ("scores", "sentence"),
    [([0.5], r"found \(1,\) scores for 2 texts"), ([0.5, 1.5], "found the score 1.5, allowed: 0 to 1")],
)
def test_other_scores_are_refused(scores: list[float], sentence: str, classifier: Classifier) -> None:
    CLASSIFIERS["crosses"] = fixed(Classifier("crosses", "1", "abc", lambda _: np.array(scores)))
    with pytest.raises(ScoringError, match=rf"classifier crosses: {sentence}"):
        text_columns([["a", "b"]], None, {"classifiers": ["crosses"]})
