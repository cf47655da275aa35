"""Classifiers of generated texts: marked words, profanity by a package, and their identities."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ebbtide.errors import ConfigError, ScoringError
from ebbtide.tasks.generation.classifiers import CLASSIFIERS, Classifier, classifier_of, fixed
from ebbtide.tasks.generation.measures import text_columns
from task_data import define

WORDS = {"function": "marked_words", "words": ["Damn", "bell"]}
DECODING = {"max_tokens": 5, "samples": 4, "temperature": 1.0}


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with the name of alt-profanity-check, whose score is the share of exclamation marks."""
    module, facts = tmp_path / "profanity_check", tmp_path / "alt_profanity_check-1.9.0.dist-info"
    (module / "data").mkdir(parents=True)
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: alt-profanity-check\nVersion: 1.9.0\n")
    for name in ("model", "vectorizer"):
        (module / "data" / f"{name}.joblib").write_text(f"{name} of {tmp_path}")
    (module / "__init__.py").write_text(
        "def predict_prob(texts):\n    return [text.count('!') / len(text) for text in texts]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "profanity_check", raising=False)
    return tmp_path


def task(*classifiers: Any) -> Any:
    keys = {"kind": "generation", "decoding": DECODING, "fields": {"prompt": "{{ prompt }}"}}
    return define([{"prompt": "the"}], **keys, texts={"classifiers": list(classifiers)})


def test_marked_words_is_the_share_of_words_in_a_list() -> None:
    texts = ["the bell , DAMN", "bells damned", "", "bell", "damn-bell it's"]
    found = classifier_of(WORDS, "texts").scores(texts)
    np.testing.assert_allclose(found, [2 / 3, 0, 0, 1, 2 / 3])


def test_the_list_of_marked_words_is_the_classifier() -> None:
    of = classifier_of(WORDS, "texts").digest
    assert classifier_of({**WORDS, "words": ["bell", "damn", "bell"]}, "texts").digest == of
    assert classifier_of({**WORDS, "words": ["bell"]}, "texts").digest != of


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (
            "marked_word",
            r"found 'marked_word'; allowed: detoxify, marked_words, profanity; did you mean 'marked_words'\?",
        ),
        ("marked_words", r"words"),
        ({"function": "marked_words", "words": []}, r"words"),
        ({"function": "marked_words", "words": ["two words"]}, r"words\[0\]"),
        ({"function": "marked_words", "words": ["x"], "case": True}, r"case"),
    ],
)
def test_a_definition_with_a_wrong_classifier_is_refused(
    spec: Any, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=rf"mine\.yaml: texts\.classifiers\[0\].*{sentence}"):
        task(spec)


def test_a_classifier_is_named_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"texts\.classifiers: found marked_words twice; allowed: once\."):
        task(WORDS, {**WORDS, "words": ["x"]})


def test_a_list_of_words_is_part_of_a_task_s_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert task(WORDS).identity != task({**WORDS, "words": ["bell"]}).identity


def test_profanity_has_version_and_digest_of_the_package(planted: Path) -> None:
    one = classifier_of("profanity", "texts")
    assert one.version == "1.9.0"
    assert len(one.digest) == 64
    np.testing.assert_allclose(one.scores(["no!!", "yes"]), [0.5, 0])


def test_a_text_on_which_a_package_fails_is_missing(planted: Path) -> None:
    found = text_columns([["no!!", ""], ["yes", ""]], None, {"classifiers": ["profanity"]})
    np.testing.assert_allclose(found["score_profanity"], [0.5, np.nan, 0, np.nan])


def test_a_package_that_fails_on_every_text_stops_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    def scores(texts: Any) -> np.ndarray:
        raise OSError("no model")

    monkeypatch.setitem(CLASSIFIERS, "broken", fixed(Classifier("broken", "1", "abc", scores)))
    with pytest.raises(ScoringError, match="classifier broken fails on every text: OSError: no model"):
        text_columns([["a", "b"]], None, {"classifiers": ["broken"]})


def test_a_package_that_is_not_installed_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "profanity_check", None)
    monkeypatch.setattr("ebbtide.tasks.generation.classifiers.profanity.find_spec", lambda _: None)
    with pytest.raises(ConfigError) as caught:
        task("profanity")
    assert caught.value.args[0] == (
        "mine.yaml: texts.classifiers[0]: 'profanity' needs the package alt-profanity-check, which is not "
        'installed; install it with `pip install "ebbtide[toxicity]"`, or remove the classifier.'
    )
