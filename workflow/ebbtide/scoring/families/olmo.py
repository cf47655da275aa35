"""OLMo and OLMo 2."""

from ebbtide.scoring.families.architecture import (
    Architecture,
    Names,
    NormKind,
    rms_norms,
    unweighted_layer_norms,
)
from ebbtide.scoring.families.keys import Keys

LATE_NORMS = Names(
    norms={
        "attention_post": "post_attention_layernorm",
        "query": "self_attn.q_norm",
        "key": "self_attn.k_norm",
        "feed_forward_post": "post_feedforward_layernorm",
    }
)


def olmo(keys: Keys) -> Architecture:
    """OLMo: norms without weights; queries, keys and values may be clipped."""
    return _plan(keys, Names(), unweighted_layer_norms(1e-5), clip=keys("clip_qkv", default=None))


def olmo2(keys: Keys) -> Architecture:
    """OLMo 2: norms after attention and feed-forward, and of all queries and all keys at once."""
    return _plan(keys, LATE_NORMS, rms_norms(keys("rms_norm_eps", default=1e-5), in_float32=True))


def _plan(keys: Keys, names: Names, norm: NormKind, clip: float | None = None) -> Architecture:
    bias = keys("attention_bias", default=False)
    return Architecture(
        **keys.sizes(),
        names=names,
        norm=norm,
        clip=clip,
        key_value_heads=keys("num_key_value_heads", default=None),
        tied=keys("tie_word_embeddings", default=False),
        activation=keys.activation("hidden_act", default="silu"),
        rope=keys.rope(),
        project_bias=bias,
        out_bias=bias,
        whole_head_norms=True,
    )
