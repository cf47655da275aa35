"""Gemma 1, 2 and 3 (text)."""

import math
from typing import Any

from ebbtide.scoring.families.architecture import Architecture, Names, rms_norms
from ebbtide.scoring.families.keys import Keys, Unsupported, whole_heads

GELU = "gelu_pytorch_tanh"
SANDWICH = {
    "attention": "input_layernorm",
    "attention_post": "post_attention_layernorm",
    "feed_forward": "pre_feedforward_layernorm",
    "feed_forward_post": "post_feedforward_layernorm",
}
HEAD_NORMS = {"query": "self_attn.q_norm", "key": "self_attn.k_norm"}


def gemma(keys: Keys) -> Architecture:
    """Gemma: Llama's plan with scaled embeddings and norms that multiply by 1 + weight."""
    # "gelu" stands for its tanh form in the first checkpoints.
    keys.must_be("hidden_act", GELU, "gelu", None)
    keys.must_be("hidden_activation", GELU, None)
    return _plan(keys, rope=keys.rope())


def gemma2(keys: Keys) -> Architecture:
    """Gemma 2: norms before and after, every other layer looks back a window, soft caps."""
    keys.must_be("hidden_act", GELU)
    return _plan(
        keys,
        **_windowed(keys, every=2, attention_softcap=50.0, final_softcap=30.0),
        names=Names(norms=SANDWICH),
        rope=keys.rope(),
    )


def gemma3(keys: Keys) -> Architecture:
    """Gemma 3: five of six layers look back a window and have rotary positions of their own."""
    parameters, scaling = keys("rope_parameters", default={}), keys("rope_scaling", default={})
    if scaling and (parameters or set(scaling) != {"rope_type", "factor"}):
        raise Unsupported(f"rope_scaling {scaling!r}")
    if set(parameters) - {"full_attention", "sliding_attention"}:
        raise Unsupported("rope_parameters that are not per kind of layer")
    full = {"rope_theta": keys("rope_theta", default=1e6), **scaling}
    local = {"rope_theta": keys("rope_local_base_freq", default=1e4)}
    return _plan(
        keys,
        **_windowed(keys, every=keys("sliding_window_pattern", default=6)),
        names=Names(norms={**SANDWICH, **HEAD_NORMS}),
        rope=whole_heads({**full, **parameters.get("full_attention", {})}),
        window_rope=whole_heads({**local, **parameters.get("sliding_attention", {})}),
    )


def _windowed(
    keys: Keys,
    *,
    every: int,
    attention_softcap: float | None = None,
    final_softcap: float | None = None,
) -> dict[str, Any]:
    """Gemma 2 and 3: all layers but one of `every` have a window; soft caps with their defaults."""
    keys.must_be("hidden_activation", GELU)
    count, window = keys("num_hidden_layers"), keys("sliding_window", default=4096)
    default = [window if (i + 1) % every else None for i in range(count)]
    return {
        "windows": keys.windows(count, default, window),
        "scale": keys("query_pre_attn_scalar", default=256) ** -0.5,
        "attention_softcap": keys.or_null("attn_logit_softcapping", default=attention_softcap),
        "final_softcap": keys.or_null("final_logit_softcapping", default=final_softcap),
    }


def _plan(keys: Keys, **own: Any) -> Architecture:
    sizes, bias = keys.sizes(), keys("attention_bias", default=False)
    return Architecture(
        **sizes,
        **own,
        key_value_heads=keys("num_key_value_heads"),
        head_dim=keys("head_dim", default=256),
        tied=keys("tie_word_embeddings", default=True),
        activation=keys.activation("hidden_activation", default=GELU),
        norm=rms_norms(keys("rms_norm_eps", default=1e-6), in_float32=True, offset=1.0),
        embedding_scale=math.sqrt(sizes["width"]),
        project_bias=bias,
        out_bias=bias,
    )
