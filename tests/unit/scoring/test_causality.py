"""Models that look like causal language models and are not: refused before anything is scored."""

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from architectures import GROUPED, PLAIN, SHAPED, WINDOW, random_model
from ebbtide.corpus import write_tokenizer
from ebbtide.errors import CheckpointError
from ebbtide.scoring.causality import check_causality
from ebbtide.scoring.engine import load_scorer, score_requests
from ebbtide.scoring.rescore import largest_difference

XLNET = {"vocab_size": 40, "d_model": 16, "n_layer": 2, "n_head": 4, "d_inner": 32}
EXPERTS = {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2}
STATE = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}

# Name → (model type, settings, what the message says of the configuration).
BOTH_WAYS: dict[str, tuple[str, dict[str, Any], str]] = {
    "bert": ("bert", PLAIN, "its configuration has is_decoder: False"),
    "roberta": ("roberta", PLAIN, "its configuration has is_decoder: False"),
    "electra": ("electra", {**PLAIN, "embedding_size": 16}, "its configuration has is_decoder: False"),
    "xlnet": ("xlnet", XLNET, "its configuration has attn_type: bi"),
    "gemma3, both ways": (
        "gemma3_text",
        {**SHAPED, "use_bidirectional_attention": True},
        "use_bidirectional_attention: True",
    ),
    "llama, both ways": ("llama", {**GROUPED, "is_causal": False}, "is_causal: False"),
}
CAUSAL: dict[str, tuple[str, dict[str, Any]]] = {
    "bert, as a decoder": ("bert", {**PLAIN, "is_decoder": True}),
    "llama": ("llama", GROUPED),
    "mistral, windows": ("mistral", {**GROUPED, "sliding_window": WINDOW}),
    "mixtral": ("mixtral", EXPERTS),
    "mamba": ("mamba", STATE),
    "rwkv": ("rwkv", {k: v for k, v in STATE.items() if k != "state_size"}),
    "mpt": ("mpt", {"vocab_size": 40, "d_model": 16, "n_layers": 2, "n_heads": 4}),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", BOTH_WAYS)
def test_a_model_that_reads_later_tokens_is_refused(name: str, dtype: torch.dtype) -> None:
    model_type, settings, reason = BOTH_WAYS[name]
    with pytest.raises(CheckpointError) as error:
        check_causality(random_model(model_type, settings).to(dtype), "runs/a")
    message = str(error.value)
    assert message.startswith(
        f"CheckpointError: runs/a: model type '{model_type}' is not causal: another last token changes the "
        "logits before it by up to "
    )
    assert reason in message
    assert message.endswith("use a checkpoint that was trained as a decoder.")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CAUSAL)
def test_a_causal_model_is_not(name: str, dtype: torch.dtype) -> None:
    check_causality(random_model(*CAUSAL[name]).to(dtype), "runs/a")


def test_weights_as_they_are_initialised_are_enough(tmp_path: Path) -> None:
    """Attention is nearly uniform and weak: the effect of the last token is a thousandth of its own."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(AutoConfig.for_model("bert", **PLAIN)).eval()
    with pytest.raises(CheckpointError, match="model type 'bert' is not causal"):
        check_causality(made, "runs/a")


def test_a_model_without_usable_numbers_is_left_to_scoring() -> None:
    made = random_model("llama", GROUPED)
    with torch.no_grad():
        made.lm_head.weight.fill_(float("nan"))
    check_causality(made, "runs/a")


def test_a_model_that_cannot_be_called_is_a_sentence() -> None:
    made = random_model("mixtral", {**EXPERTS, "num_experts_per_tok": 5})  # of 4
    with pytest.raises(
        CheckpointError,
        match=r"runs/a: model type 'mixtral' cannot be called as a causal language model \(RuntimeError: ",
    ):
        check_causality(made, "runs/a")


def saved(directory: Path, model_type: str, settings: dict[str, Any]) -> Path:
    random_model(model_type, settings | {"vocab_size": 271}).save_pretrained(directory)
    write_tokenizer(directory)
    return directory


@pytest.mark.parametrize("name", ["bert", "llama, both ways"])
def test_loading_refuses_it(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also in a family of our own decoder, which does not support such attention."""
    model_type, settings, _ = BOTH_WAYS[name]
    with pytest.raises(CheckpointError, match="is not causal"):
        load_scorer(saved(tmp_path / "checkpoint", model_type, settings))


@pytest.mark.parametrize("value", [False, True])
def test_a_decoder_is_causal_whatever_is_decoder_says(value: bool, tmp_path: Path) -> None:
    """As in transformers, where the key is for encoders only."""
    directory = saved(tmp_path / "checkpoint", "llama", {**GROUPED, "is_decoder": value})
    requests = tiny.requests(tmp_path / "task.parquet")
    scorer = load_scorer(directory)
    assert scorer.record()["implementation"] == "ebbtide"
    settings = {"encoding": "harness", "bos": "tokenizer", "truncation": "left", "max_length": None}
    rows = score_requests(scorer, requests).rows
    found = largest_difference(directory, requests, rows, examples=3, dtype="float32", **settings)
    assert found["largest_difference"] < 1e-3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_mixture_of_experts_is_scored_and_rescored_in_float64(dtype: str, tmp_path: Path) -> None:
    directory = saved(tmp_path / "checkpoint", "mixtral", EXPERTS)
    requests = tiny.requests(tmp_path / "task.parquet")
    rows = score_requests(load_scorer(directory, dtype), requests).rows
    settings = {"encoding": "harness", "bos": "tokenizer", "truncation": "left", "max_length": None}
    found = largest_difference(directory, requests, rows, examples=3, dtype=dtype, **settings)
    assert found["largest_difference"] < {"float32": 1e-3, "float64": 1e-5}[dtype]
