"""Detoxify: scores as by transformers, identity by content, and files that are refused."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detoxify_file import LABELS, write_detoxify
from ebbtide.errors import ConfigError
from ebbtide.tasks.generation.classifiers import Classifier, classifier_of
from task_data import define

TEXTS = [
    "You are bad",
    "",
    "the calm river",
    "THUNDER " * 60,
    "a stone !",
    *(f"the bell {n}" for n in range(40)),
]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def detoxify(sha256: str) -> Classifier:
    return classifier_of({"function": "detoxify", "sha256": sha256}, "f: texts.classifiers[0]")


def place_of(sha256: str) -> Path:
    return Path("resources/sources") / sha256


def refusal(sha256: str, *, in_job: bool = True) -> str:
    with pytest.raises(ConfigError) as caught:
        one = detoxify(sha256)
        assert in_job  # else it is refused before anything runs
        one.check()
    return str(caught.value)


def test_the_score_is_the_probability_of_toxicity_of_each_text_alone(tmp_path: Path) -> None:
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    labels = ["obscene", "toxicity", "insult"]
    one = detoxify(sha := write_detoxify(tmp_path, labels))
    one.check()
    found = one.scores(TEXTS)
    [file] = place_of(sha).glob("*.ckpt")
    config = BertConfig.from_pretrained(place_of(sha), num_labels=3)
    model = BertForSequenceClassification(config).eval()
    weights = torch.load(file, weights_only=True)["state_dict"]
    model.load_state_dict({name: weights[name] for name in model.state_dict()})
    tokenizer = BertTokenizer.from_pretrained(place_of(sha))
    for text, score in zip(TEXTS, found, strict=True):
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=24)
        with torch.no_grad():
            expected = torch.sigmoid(model(**inputs).logits)[0, 1].item()
        assert score == pytest.approx(expected, abs=1e-6)
    assert np.ptp(found) > 0.03  # texts differ
    assert found[0] == pytest.approx(one.scores(["you ARE bad"])[0])  # the base model has no upper case


def test_a_long_text_fits_a_base_whose_positions_begin_after_that_of_padding(tmp_path: Path) -> None:
    one = detoxify(write_detoxify(tmp_path, base="roberta"))
    one.check()
    long, cut = one.scores([" ".join(["bad"] * words) for words in (60, 21)])  # 24 positions, 1 of padding
    assert long == pytest.approx(cut) and 0 < long < 1


@pytest.mark.parametrize("name", ["toxicity", "toxic"])
def test_the_label_may_have_the_name_of_the_competition(tmp_path: Path, name: str) -> None:
    one = detoxify(write_detoxify(tmp_path, ["insult", name]))
    one.check()
    assert ((one.scores(TEXTS) > 0) & (one.scores(TEXTS) < 1)).all()


def test_the_identity_covers_checkpoint_and_base_and_no_path(tmp_path: Path) -> None:
    sha = write_detoxify(tmp_path)
    keys: dict[str, Any] = {
        "kind": "generation",
        "decoding": {"max_tokens": 5},
        "fields": {"prompt": "prompt"},
    }

    def task() -> Any:
        of = {"classifiers": [{"function": "detoxify", "sha256": sha}]}
        return define([{"prompt": "the"}], **keys, texts=of)

    first = task().identity
    (checkpoint,) = place_of(sha).glob("*.ckpt")
    checkpoint.rename(checkpoint.with_name("renamed.ckpt"))
    assert task().identity == first
    digest = detoxify(sha).digest
    vocabulary = place_of(sha) / "vocab.txt"
    vocabulary.write_text(vocabulary.read_text().replace("bad", "good"))
    os.utime(vocabulary, (1, 1))
    assert task().identity != first and detoxify(sha).digest != digest


def test_missing_files_are_named_before_anything_runs(tmp_path: Path) -> None:
    sha = write_detoxify(tmp_path)
    assert "needs one checkpoint, a file resources/sources/000" in refusal("0" * 64, in_job=False)
    (place_of(sha) / "vocab.txt").unlink()
    assert "needs tokenizer.json or vocab.txt of its base model" in refusal(sha, in_job=False)
    (place_of(sha) / "config.json").unlink()
    shutil.copy(place_of(sha) / "toxic_original-0123abcd.ckpt", place_of(sha) / "b.ckpt")
    assert "found: b.ckpt, toxic_original-0123abcd.ckpt" in refusal(sha, in_job=False)
    with pytest.raises(ConfigError, match="sha256"):
        detoxify("c1212f89")


def test_a_file_of_another_digest_is_refused_before_it_is_read(tmp_path: Path) -> None:
    sha = write_detoxify(tmp_path)
    (checkpoint,) = place_of(sha).glob("*.ckpt")
    checkpoint.write_bytes(checkpoint.read_bytes() + b"x")
    assert "has sha256 " in refusal(sha) and f"expected {sha}: get it again" in refusal(sha)


class Hostile:
    """Unpickling it would write a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("ran").write_text, ("x",))


@pytest.mark.parametrize(
    ("labels", "changes", "sentence"),
    [
        (["obscene", "insult"], {}, "has the labels obscene, insult; expected: toxicity among them"),
        (LABELS, {"config": {}}, "is not a checkpoint of Detoxify: 'dataset' is missing"),
        (LABELS, {"state_dict": None}, "is not a checkpoint of Detoxify: 'state_dict' is missing"),
        (LABELS, {"state_dict": {}}, "lacks the weights bert.embeddings"),
        (LABELS, {"more": Hostile()}, "has more than tensors and plain values, and was not loaded"),
    ],
)
def test_a_checkpoint_of_another_shape_is_refused(
    tmp_path: Path, labels: list[str], changes: dict[str, Any], sentence: str
) -> None:
    assert sentence in refusal(write_detoxify(tmp_path, labels, **changes))
    assert not Path("ran").exists()


def test_the_base_model_must_be_its_own(tmp_path: Path) -> None:
    from transformers import AlbertConfig, BertConfig

    sha = write_detoxify(tmp_path)
    config = BertConfig.from_pretrained(place_of(sha))
    config.intermediate_size = 48
    config.save_pretrained(place_of(sha))
    assert "has the shape [32, 16], but the base model [48, 16]" in refusal(sha)
    AlbertConfig(vocab_size=18, hidden_size=16, num_attention_heads=2).save_pretrained(place_of(sha))
    assert "describes a AlbertForSequenceClassification; use the files of its own base" in refusal(sha)


def test_a_scoring_job_checks_classifiers_before_it_generates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from ebbtide.jobs.answers.answers import Asked
    from ebbtide.jobs.answers.samples import SAMPLED_TEXTS

    sha = write_detoxify(tmp_path, ["obscene"])
    definition = {"decoding": {}, "texts": {"classifiers": [{"function": "detoxify", "sha256": sha}]}}
    asked = Asked({}, SimpleNamespace(), {"definition": definition})  # type: ignore[typeddict-item, arg-type]
    with pytest.raises(ConfigError, match="expected: toxicity among them"):
        SAMPLED_TEXTS.encode(SimpleNamespace(), asked, 100)  # type: ignore[arg-type]
