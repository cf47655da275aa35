"""Gemma 1, 2 and 3 (text)."""

import math
from typing import Any

from torch import Tensor

from ebbtide.scoring.decoder import Norm, rms_norm
from ebbtide.scoring.families.architecture import ATTENTION, HEAD_NORMS, LLAMA, LLAMA_NORMS, Architecture
from ebbtide.scoring.families.keys import Keys, Unsupported, whole_heads

GELU = "gelu_pytorch_tanh"
SANDWICH = {
    "attention": "input_layernorm",
    "attention_post": "post_attention_layernorm",
    "feed_forward": "pre_feedforward_layernorm",
    "feed_forward_post": "post_feedforward_layernorm",
}


def gemma(keys: Keys) -> Architecture:
    """Gemma: Llama with scaled embeddings and norms that multiply by 1 + weight."""
    # In the first checkpoints, "gelu" means the tanh approximation.
    keys.must_be("hidden_act", GELU, "gelu", None)
    keys.must_be("hidden_activation", GELU, None)
    return _plan(keys, norms=LLAMA_NORMS, rope=keys.rope())


def gemma2(keys: Keys) -> Architecture:
    """Gemma 2: norms before and after each half, a sliding window in every other layer, and soft caps."""
    keys.must_be("hidden_act", GELU)
    return _windowed(keys, 2, (50.0, 30.0), norms=SANDWICH, rope=keys.rope())


def gemma3(keys: Keys) -> Architecture:
    """Gemma 3: five of six layers have a sliding window and their own rotary positions."""
    parameters, scaling = keys("rope_parameters", default={}), keys("rope_scaling", default={})
    if scaling and (parameters or set(scaling) != {"rope_type", "factor"}):
        raise Unsupported(f"rope_scaling {scaling!r}")
    if set(parameters) - {"full_attention", "sliding_attention"}:
        raise Unsupported("rope_parameters that are not per kind of layer")
    full = {"rope_theta": keys("rope_theta", default=1e6), **scaling}
    local = {"rope_theta": keys("rope_local_base_freq", default=1e4)}
    return _windowed(
        keys,
        keys("sliding_window_pattern", default=6),
        (None, None),
        norms=SANDWICH | HEAD_NORMS,
        rope=whole_heads({**full, **parameters.get("full_attention", {})}),
        window_rope=whole_heads({**local, **parameters.get("sliding_attention", {})}),
    )


def _windowed(keys: Keys, every: int, caps: tuple[float | None, float | None], **own: Any) -> Architecture:
    """All layers but each `every`-th have a window; `caps` are the defaults of both soft caps."""
    keys.must_be("hidden_activation", GELU)
    window = keys("sliding_window", default=4096)
    default = [window if (i + 1) % every else None for i in range(keys("num_hidden_layers"))]
    return _plan(
        keys,
        scale=keys("query_pre_attn_scalar", default=256) ** -0.5,
        windows=keys.windows(default, window),
        attention_softcap=keys.or_null("attn_logit_softcapping", caps[0]),
        final_softcap=keys.or_null("final_logit_softcapping", caps[1]),
        **own,
    )


def _plan(keys: Keys, *, scale: float | None = None, **own: Any) -> Architecture:
    eps = keys("rms_norm_eps", default=1e-6)

    def norm(weight: Tensor) -> Norm:
        return rms_norm(1.0 + weight.float(), eps, in_float32=True)

    groups, head_dim = keys("num_key_value_heads"), keys("head_dim", default=256)
    sizes = keys.sizes(key_value_heads=groups, head_dim=head_dim, scale=scale)
    return Architecture(
        **sizes,
        **own,
        names=LLAMA,
        norm=norm,
        biases=ATTENTION if keys("attention_bias", default=False) else (),
        embedding_scale=math.sqrt(sizes["width"]),
        activation=keys.activation("hidden_activation", default=GELU),
        tied=keys("tie_word_embeddings", default=True),
    )
