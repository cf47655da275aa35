"""Small random models of every family, saved as checkpoints, in shapes that bring out what is special."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

VOCABULARY = 40
POSITIONS = 64
WINDOW = 4  # of sliding attention: shorter than the requests
ALTERNATING = ["sliding_attention", "full_attention", "sliding_attention"]
STRETCHED = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}

PLAIN = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "max_position_embeddings": POSITIONS,
}
GROUPED = {**PLAIN, "num_key_value_heads": 2}
SHAPED = {**GROUPED, "head_dim": 6}
SHORT = {"vocab_size": VOCABULARY, "n_layer": 3, "n_head": 4}

# Name → (model type, settings).
NATIVE: dict[str, tuple[str, dict[str, Any]]] = {
    "bloom": ("bloom", {**SHORT, "hidden_size": 24, "n_head": 6}),
    "gemma": ("gemma", SHAPED),
    "gemma2": ("gemma2", {**SHAPED, "sliding_window": WINDOW, "layer_types": ALTERNATING}),
    "gemma3": ("gemma3_text", {**SHAPED, "sliding_window": WINDOW, "layer_types": ALTERNATING}),
    "gemma3, stretched": (
        "gemma3_text",
        {
            **SHAPED,
            "sliding_window": WINDOW,
            "layer_types": ALTERNATING,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        },
    ),
    "gpt2": ("gpt2", {**SHORT, "n_embd": 16, "n_positions": POSITIONS}),
    "gpt_neox": ("gpt_neox", PLAIN),
    "gpt_neox, in sequence": ("gpt_neox", {**PLAIN, "use_parallel_residual": False, "attention_bias": False}),
    "llama": ("llama", SHAPED),
    "llama, stretched": (
        "llama",
        {
            **GROUPED,
            "tie_word_embeddings": True,
            "attention_bias": True,
            "mlp_bias": True,
            "rope_parameters": STRETCHED,
        },
    ),
    "mistral": ("mistral", {**SHAPED, "sliding_window": WINDOW}),
    "olmo": ("olmo", {**GROUPED, "clip_qkv": 0.5}),
    "olmo2": ("olmo2", GROUPED),
    "opt": (
        "opt",
        {k: v for k, v in PLAIN.items() if k != "intermediate_size"}
        | {"ffn_dim": 32, "word_embed_proj_dim": 16, "pad_token_id": None},
    ),
    "qwen2": ("qwen2", GROUPED),
    "qwen2, windows": (
        "qwen2",
        {**GROUPED, "use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
    ),
    "qwen3": ("qwen3", SHAPED),
}


def model(name: str) -> Any:
    """A random float32 model whose attention and norms matter."""
    return random_model(*NATIVE[name])


def random_model(model_type: str, settings: dict[str, Any]) -> Any:
    """A random float32 model of any type that transformers knows."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **settings)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3)
            else:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return made


def saver(folder: Path) -> Callable[[str], Path]:
    """A function from a name to the checkpoint of its model in `folder`, made when it is first asked for."""
    from ebbtide.corpus import write_tokenizer

    @cache
    def saved(name: str) -> Path:
        directory = folder / name.replace(", ", "-").replace(" ", "-")
        model(name).save_pretrained(directory)
        write_tokenizer(directory)
        return directory

    return saved
