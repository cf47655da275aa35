"""Llama and what follows its plan: SmolLM, Mistral, Qwen 2 and 3."""

from dataclasses import replace
from typing import Any

from ebbtide.scoring.families.architecture import Architecture, Names, rms_norms
from ebbtide.scoring.families.keys import Keys

HEAD_NORMS = Names(norms={**Names().norms, "query": "self_attn.q_norm", "key": "self_attn.k_norm"})


def llama(keys: Keys) -> Architecture:
    """Llama 1 to 3, SmolLM."""
    keys.must_be("rope_interleaved", False)
    heads, bias = keys("num_attention_heads"), keys("attention_bias", default=False)
    return replace(
        _plan(keys),
        key_value_heads=keys("num_key_value_heads", default=heads),
        head_dim=keys("head_dim", default=None),
        project_bias=bias,
        out_bias=bias,
    )


def mistral(keys: Keys) -> Architecture:
    """All layers look back as far as `sliding_window`; null is without end, and 4,096 the default."""
    plan = _plan(keys)
    return replace(
        plan,
        key_value_heads=keys("num_key_value_heads", default=8),
        head_dim=keys("head_dim", default=None),
        windows=[keys.or_null("sliding_window", default=4096)] * plan.layers,
    )


def qwen2(keys: Keys) -> Architecture:
    """Biases on queries, keys and values only."""
    return replace(_plan(keys), **_qwen(keys), project_bias=True)


def qwen3(keys: Keys) -> Architecture:
    """Queries and keys are normalised, head by head."""
    bias = keys("attention_bias", default=False)
    return replace(
        _plan(keys),
        **_qwen(keys),
        names=HEAD_NORMS,
        head_dim=keys("head_dim", default=128),
        project_bias=bias,
        out_bias=bias,
    )


def _qwen(keys: Keys) -> dict[str, Any]:
    count, first = keys("num_hidden_layers"), keys("max_window_layers", default=28)
    window = keys.or_null("sliding_window", default=4096)
    if not keys("use_sliding_window", default=False):
        window = None
    default = [window if i >= first else None for i in range(count)]
    return {
        "key_value_heads": keys("num_key_value_heads", default=32),
        "windows": keys.windows(count, default, window),
    }


def _plan(keys: Keys) -> Architecture:
    return Architecture(
        **keys.sizes(),
        tied=keys("tie_word_embeddings", default=False),
        activation=keys.activation("hidden_act", default="silu"),
        norm=rms_norms(keys("rms_norm_eps", default=1e-6)),
        rope=keys.rope(),
        feed_forward_bias=keys("mlp_bias", default=False),
    )
