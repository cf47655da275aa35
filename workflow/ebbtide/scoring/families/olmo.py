"""OLMo and OLMo 2."""

from functools import partial
from typing import Any

from ebbtide.scoring.decoder import plain_layer_norm, rms_norm
from ebbtide.scoring.families.architecture import ATTENTION, HEAD_NORMS, LLAMA, LLAMA_NORMS, Architecture
from ebbtide.scoring.families.keys import Keys

EPS = 1e-5
POST_NORMS = {
    "attention_post": "post_attention_layernorm",
    "feed_forward_post": "post_feedforward_layernorm",
}


def olmo(keys: Keys) -> Architecture:
    """OLMo: norms without weights; queries, keys and values may be clipped."""
    norm, clip = partial(plain_layer_norm, EPS), keys("clip_qkv", default=None)
    return _plan(keys, norms=LLAMA_NORMS, norm=norm, norm_tensors=(), clip=clip)


def olmo2(keys: Keys) -> Architecture:
    """OLMo 2: norms after attention and feed-forward, and on all queries and all keys together."""
    norm = partial(rms_norm, eps=keys("rms_norm_eps", default=EPS), in_float32=True)
    return _plan(keys, norms=POST_NORMS | HEAD_NORMS, norm=norm, norm_whole_heads=True)


def _plan(keys: Keys, **own: Any) -> Architecture:
    return Architecture(
        **keys.sizes(key_value_heads=keys("num_key_value_heads", default=None)),
        **own,
        names=LLAMA,
        biases=ATTENTION if keys("attention_bias", default=False) else (),
        rope=keys.rope(),
        activation=keys.activation("hidden_act", default="silu"),
        tied=keys("tie_word_embeddings", default=False),
    )
