"""Chat templates of tokenizers: what the model reads, and templates that cannot be used."""

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from ebbtide.errors import ScoringError
from ebbtide.scoring.chat import CONFIG, in_chat

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return tiny.hollow_checkpoint(tmp_path / "checkpoint")


def with_template(checkpoint: Path, template: Any) -> Path:
    path = checkpoint / CONFIG
    config = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**config, "chat_template": template}))
    return checkpoint


def test_a_prompt_is_the_message_of_a_user(checkpoint: Path) -> None:
    asked = in_chat(with_template(checkpoint, TEMPLATE), ["2 + 2?", "{{ not_a_template }}"])
    assert [text[text.index("[") :] for text in asked] == [
        "[user] 2 + 2?\n[assistant]",
        "[user] {{ not_a_template }}\n[assistant]",
    ]
    several = [{"name": "tools", "template": "no"}, {"name": "default", "template": TEMPLATE}]
    assert in_chat(with_template(checkpoint, several), ["2 + 2?"]) == asked[:1]


def test_a_template_in_a_file_of_its_own_comes_first(checkpoint: Path) -> None:
    asked = in_chat(with_template(checkpoint, TEMPLATE), ["2 + 2?"])
    (checkpoint / "chat_template.jinja").write_text(TEMPLATE)
    assert in_chat(with_template(checkpoint, "another"), ["2 + 2?"]) == asked


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        (None, "has no chat_template, and there is no chat_template.jinja beside it; use checkpoints"),
        ([{"name": "tools", "template": "x"}], "has no chat_template"),
        (TEMPLATE + "{{ strftime_now('%Y') }}", "writes today's date into each prompt"),
        ("{{ raise_exception('only questions') }}", "fails: only questions"),
        ("{% for %}", "fails: "),
    ],
)
def test_a_template_that_cannot_be_used_is_an_error(template: Any, sentence: str, checkpoint: Path) -> None:
    with pytest.raises(ScoringError, match=r"^ScoringError: chat_template: ") as error:
        in_chat(with_template(checkpoint, template), ["2 + 2?"])
    assert sentence in str(error.value) and CONFIG in str(error.value)
