"""`scoring.generation_backend`: part of the identity of generated cells alone, with refusals before a run."""

import json
from pathlib import Path
from typing import Any

import pytest

from ebbtide.errors import ConfigError
from ebbtide.files import file_sha256
from ebbtide.scoring.scorer import backend_of
from ebbtide.study.checks import check_checkpoints
from ebbtide.study.generation_backend import check_package_of
from ebbtide.study.load import read_study
from ebbtide.study.study import Study
from workspace import write_small_study

TASK = {
    "title": "Words",
    "kind": "generation",
    "fields": {"prompt": "{{ text }}"},
    "decoding": {"max_tokens": 3},
}


@pytest.fixture
def studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function from settings of scoring to a study with a task of choices and one of generation."""
    monkeypatch.chdir(tmp_path)
    workspace = write_small_study(tmp_path)
    Path("words.jsonl").write_text(json.dumps({"text": "the old"}) + "\n")
    source = {"file": "words.jsonl", "sha256": file_sha256(Path("words.jsonl"))}
    workspace.write_yaml("tasks/words.yaml", {**TASK, "source": source})

    def made(**scoring: Any) -> Study:
        with workspace.edited("config.yaml") as config:
            config["tasks"] = ["tasks/memo_trap.yaml", "tasks/words.yaml"]
            config["scoring"] = scoring
        return read_study("config.yaml")

    return made


def test_generated_cells_alone_have_it_in_their_identity(studies: Any) -> None:
    before, after = studies(), studies(generation_backend="vllm")
    checkpoint = next(before.checkpoints())
    for task, backend in (("memo_trap", "auto"), ("words", "vllm")):
        old, new = (dict(study.identity(checkpoint, task)) for study in (before, after))
        assert (backend_of(old), backend_of(new), after.backend(task)) == ("auto", backend, backend)
        assert {**old, "backend": backend} == {"backend": backend, **new}
    assert list(after.backends()) == ["auto", "vllm"]
    both = studies(backend="transformers", generation_backend="vllm")
    assert [backend_of(both.identity(checkpoint, task)) for task in both.tasks] == ["transformers", "vllm"]


@pytest.mark.parametrize(
    ("scoring", "sentence"),
    [
        (
            {"backend": "fake"},
            "scoring.backend: fake has no model to generate with; set another, or set it to",
        ),
        ({"offload": True}, "with scoring.offload: true a part of a model can be in CPU memory, which vLLM"),
        ({"dtype": "float64"}, "scoring.dtype is float64, which vLLM does not support; set scoring.dtype to"),
    ],
)
def test_settings_that_exclude_vllm_are_refused(scoring: dict[str, Any], sentence: str, studies: Any) -> None:
    check_checkpoints(studies(**scoring))
    with pytest.raises(ConfigError) as refusal:
        check_checkpoints(studies(generation_backend="vllm", **scoring))
    assert f"config.yaml: scoring.generation_backend: found 'vllm', but {sentence}" in str(refusal.value)


def test_the_package_is_asked_for_where_a_task_needs_it(
    studies: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ebbtide.environment.find_spec", lambda name: None)
    study = studies(generation_backend="vllm")
    check_package_of(study, "memo_trap")
    check_package_of(studies(), "words")
    with pytest.raises(
        ConfigError, match=r"config\.yaml: scoring\.generation_backend: vllm needs the library"
    ):
        check_package_of(study, "words")
