"""The formula of each `model_type`, and the defaults of transformers for missing keys."""

from collections.abc import Callable
from typing import Any, NamedTuple

from ebbtide.parameters import formulas
from ebbtide.parameters.formulas import Config, Parts


class Family(NamedTuple):
    """A formula and the keys that it reads, with their defaults.

    A default of None means that the formula derives the shape from others.
    """

    parts: Callable[[Config], Parts]
    defaults: Config


def _shape(vocabulary: int, width: int, layers: int, *, tied: bool = False) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "tie_word_embeddings": tied,
    }


def _decoder(vocabulary: int, feed_forward: int, **others: Any) -> dict[str, Any]:
    """Defaults of Llama and similar models: 32 layers, 32 heads, width 4096."""
    return {
        **_shape(vocabulary, 4096, 32),
        "intermediate_size": feed_forward,
        "num_attention_heads": 32,
        "num_key_value_heads": None,
        "head_dim": None,
        "attention_bias": False,
        "mlp_bias": False,
        **others,
    }


_OLMOE = {
    **_shape(50304, 2048, 16),
    "intermediate_size": 2048,
    "num_attention_heads": 16,
    "num_experts": 64,
    "num_experts_per_tok": 8,
}
FAMILIES: dict[str, Family] = {
    "gpt_neox": Family(
        formulas.gpt_neox, {**_shape(50432, 6144, 44), "intermediate_size": 24576, "attention_bias": True}
    ),
    "gpt2": Family(
        formulas.gpt2,
        {**_shape(50257, 768, 12, tied=True), "intermediate_size": None, "max_position_embeddings": 1024},
    ),
    "opt": Family(
        formulas.opt,
        {
            **_shape(50272, 768, 12, tied=True),
            "intermediate_size": 3072,
            "max_position_embeddings": 2048,
            "word_embed_proj_dim": None,
            "enable_bias": True,
            "layer_norm_elementwise_affine": True,
            "do_layer_norm_before": True,
            "_remove_final_layer_norm": False,
        },
    ),
    "bloom": Family(formulas.bloom, _shape(250880, 64, 2, tied=True)),
    "llama": Family(formulas.llama, _decoder(32000, 11008)),
    "mistral": Family(formulas.mistral, _decoder(32000, 14336, num_key_value_heads=8)),
    "smollm3": Family(
        formulas.llama,
        _decoder(
            128256,
            11008,
            hidden_size=2048,
            num_hidden_layers=36,
            num_attention_heads=16,
            num_key_value_heads=4,
            tie_word_embeddings=True,
        ),
    ),
    "qwen2": Family(formulas.qwen2, _decoder(151936, 22016, num_key_value_heads=32)),
    "qwen3": Family(formulas.qwen3, _decoder(151936, 22016, num_key_value_heads=32, head_dim=128)),
    "olmo": Family(formulas.olmo, _decoder(50304, 11008)),
    "olmo2": Family(formulas.olmo2, _decoder(50304, 11008)),
    "olmo3": Family(formulas.olmo2, _decoder(50304, 11008)),
    "olmoe": Family(formulas.olmoe, _decoder(50304, 2048, **_OLMOE)),
    "hf_olmo": Family(
        formulas.hf_olmo,
        {
            **_shape(50257, 768, 12, tied=True),
            "embedding_size": 50304,
            "num_attention_heads": 12,
            "num_key_value_heads": None,
            "multi_query_attention": None,
            "intermediate_size": None,
            "mlp_ratio": 4,
            "activation_type": "swiglu",
            "include_bias": True,
            "bias_for_layer_norm": None,
            "layer_norm_with_affine": True,
            "attention_layer_norm": False,
            "attention_layer_norm_with_affine": True,
            "max_position_embeddings": 1024,
            "rope": False,
            "alibi": False,
        },
    ),
    "mamba": Family(
        formulas.mamba,
        {
            **_shape(50280, 768, 32, tied=True),
            "state_size": 16,
            "expand": 2,
            "conv_kernel": 4,
            "time_step_rank": "auto",
            "use_bias": False,
            "use_conv_bias": True,
        },
    ),
    "rwkv": Family(
        formulas.rwkv, {**_shape(50277, 4096, 32), "attention_hidden_size": None, "intermediate_size": None}
    ),
}
