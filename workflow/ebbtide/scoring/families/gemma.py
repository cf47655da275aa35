"""Gemma 1, 2 and 3 (text)."""

import math

from ebbtide.scoring.decoder import Decoder, Layer, Norm, Norms, rms_norm, same
from ebbtide.scoring.families.keys import Keys, Unsupported
from ebbtide.scoring.families.pieces import linear, output_head, rotary_frequencies, separate, token_embedding
from ebbtide.scoring.weights import Weights

GELU = "gelu_pytorch_tanh"


def gemma(keys: Keys, weights: Weights) -> Decoder:
    """Gemma: Llama's plan with scaled embeddings and norms that multiply by 1 + weight."""
    # "gelu" stands for its tanh form in the first checkpoints.
    keys.must_be("hidden_act", GELU, "gelu", None)
    keys.must_be("hidden_activation", GELU, None)
    size, rope = keys("head_dim", default=256), keys.rope(10000.0)
    return _decoder(keys, weights, size=size, scale=size**-0.5, ropes=[rope], sandwich=False)


def gemma2(keys: Keys, weights: Weights) -> Decoder:
    """Gemma 2: norms before and after, every other layer looks back a window, soft caps."""
    keys.must_be("hidden_activation", GELU)
    keys.must_be("hidden_act", GELU)
    count, window = keys("num_hidden_layers"), keys("sliding_window", default=4096)
    default = [window if i % 2 == 0 else None for i in range(count)]
    return _decoder(
        keys,
        weights,
        size=keys("head_dim", default=256),
        scale=keys("query_pre_attn_scalar", default=256) ** -0.5,
        ropes=[keys.rope(10000.0)],
        windows=keys.windows(count, default, window),
        attention_softcap=_cap(keys, "attn_logit_softcapping", 50.0),
        final_softcap=_cap(keys, "final_logit_softcapping", 30.0),
    )


def gemma3(keys: Keys, weights: Weights) -> Decoder:
    """Gemma 3: five of six layers look back a window and have rotary positions of their own."""
    keys.must_be("hidden_activation", GELU)
    count, window = keys("num_hidden_layers"), keys("sliding_window", default=4096)
    every = keys("sliding_window_pattern", default=6)
    default = [window if (i + 1) % every else None for i in range(count)]
    parameters, scaling = keys("rope_parameters", default={}), keys("rope_scaling", default={})
    if scaling and (parameters or set(scaling) != {"rope_type", "factor"}):
        raise Unsupported(f"rope_scaling {scaling!r}")
    full = {"rope_theta": keys("rope_theta", default=1e6), **scaling, **parameters.get("full_attention", {})}
    local = {
        "rope_theta": keys("rope_local_base_freq", default=1e4),
        **parameters.get("sliding_attention", {}),
    }
    if set(parameters) - {"full_attention", "sliding_attention"}:
        raise Unsupported("rope_parameters that are not per kind of layer")
    return _decoder(
        keys,
        weights,
        size=keys("head_dim", default=256),
        scale=keys("query_pre_attn_scalar", default=256) ** -0.5,
        ropes=[full, local],
        windows=keys.windows(count, default, window),
        attention_softcap=_cap(keys, "attn_logit_softcapping", None),
        final_softcap=_cap(keys, "final_logit_softcapping", None),
        head_norm=True,
    )


def _cap(keys: Keys, name: str, default: float | None) -> float | None:
    value: float | None = keys(name, default=None if keys.given(name) else default)
    return value


def _decoder(
    keys: Keys,
    weights: Weights,
    *,
    size: int,
    scale: float,
    ropes: list[dict[str, float]],
    windows: list[int | None] | None = None,
    sandwich: bool = True,
    head_norm: bool = False,
    attention_softcap: float | None = None,
    final_softcap: float | None = None,
) -> Decoder:
    """`ropes`: of layers that see all, and of those with a window if they differ."""
    width, inner, count = keys("hidden_size"), keys("intermediate_size"), keys("num_hidden_layers")
    heads, vocabulary = keys("num_attention_heads"), keys("vocab_size")
    groups, eps = keys("num_key_value_heads"), keys("rms_norm_eps", default=1e-6)
    bias, tied = keys("attention_bias", default=False), keys("tie_word_embeddings", default=True)
    activation = keys.activation("hidden_activation", default=GELU)
    if any(rope.get("partial_rotary_factor", 1.0) != 1.0 for rope in ropes):
        raise Unsupported("rotary positions in a part of each head")
    keys("max_position_embeddings")
    keys.done()

    weights.prefixes = ("model.", "")
    embedding = token_embedding(weights, "embed_tokens.weight", vocabulary, width)
    frequencies = [rotary_frequencies(rope, size, embedding.device) for rope in ropes]

    def norm(name: str, of: int = width) -> Norm:
        return rms_norm(1.0 + weights.take(f"{name}.weight", (of,)).float(), eps, in_float32=True)

    sizes = {"heads": heads, "groups": groups, "size": size, "width": width}
    layers = []
    for i in range(count):
        at, window = f"layers.{i}.", windows[i] if windows else None
        before = "pre_feedforward_layernorm" if sandwich else "post_attention_layernorm"
        norms = Norms(
            attention=norm(at + "input_layernorm"),
            attention_post=norm(at + "post_attention_layernorm") if sandwich else same,
            query=norm(at + "self_attn.q_norm", size) if head_norm else same,
            key=norm(at + "self_attn.k_norm", size) if head_norm else same,
            feed_forward=norm(at + before),
            feed_forward_post=norm(at + "post_feedforward_layernorm") if sandwich else same,
        )
        layers.append(
            Layer(
                norms=norms,
                project=separate(weights, at + "self_attn.", **sizes, bias=bias),
                out=linear(weights, at + "self_attn.o_proj", width, heads * size, bias=bias),
                gate=linear(weights, at + "mlp.gate_proj", inner, width, bias=False),
                up=linear(weights, at + "mlp.up_proj", inner, width, bias=False),
                down=linear(weights, at + "mlp.down_proj", width, inner, bias=False),
                window=window,
                frequencies=frequencies[0] if window is None else frequencies[-1],
            )
        )
    return Decoder(
        embedding=embedding,
        embedding_scale=math.sqrt(width),
        layers=layers,
        final_norm=norm("norm"),
        head=output_head(weights, "lm_head.weight", embedding, tied=tied),
        heads=heads,
        key_value_heads=groups,
        head_dim=size,
        scale=scale,
        activation=activation,
        attention_softcap=attention_softcap,
        final_softcap=final_softcap,
    )
