"""OLMo and OLMo 2."""

from ebbtide.scoring.decoder import Decoder, Layer, Norm, Norms, plain_layer_norm, rms_norm
from ebbtide.scoring.families.keys import Keys, Unsupported
from ebbtide.scoring.families.pieces import linear, output_head, rotary_frequencies, separate, token_embedding
from ebbtide.scoring.weights import Weights


def olmo(keys: Keys, weights: Weights) -> Decoder:
    """OLMo: norms without weights; queries, keys and values may be clipped."""
    clip = keys("clip_qkv", default=None)
    return _decoder(keys, weights, clip=clip, eps=None)


def olmo2(keys: Keys, weights: Weights) -> Decoder:
    """OLMo 2: norms after attention and feed-forward, and of all queries and all keys at once."""
    return _decoder(keys, weights, clip=None, eps=keys("rms_norm_eps", default=1e-5))


def _decoder(keys: Keys, weights: Weights, *, clip: float | None, eps: float | None) -> Decoder:
    """`eps` is that of the weighted norms of OLMo 2; None is OLMo."""
    width, inner, count = keys("hidden_size"), keys("intermediate_size"), keys("num_hidden_layers")
    heads, vocabulary = keys("num_attention_heads"), keys("vocab_size")
    groups = keys("num_key_value_heads", default=heads)
    bias, tied = keys("attention_bias", default=False), keys("tie_word_embeddings", default=False)
    rope, activation = keys.rope(10000.0), keys.activation("hidden_act", default="silu")
    keys("max_position_embeddings")
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise Unsupported("rotary positions in a part of each head")
    keys.done()

    weights.prefixes = ("model.", "")
    size = width // heads
    embedding = token_embedding(weights, "embed_tokens.weight", vocabulary, width)
    frequencies = rotary_frequencies(rope, size, embedding.device)
    plain = plain_layer_norm(1e-5)

    def norm(name: str, of: int = width) -> Norm:
        if eps is None:
            return plain
        return rms_norm(weights.take(f"{name}.weight", (of,)), eps, in_float32=True)

    sizes = {"heads": heads, "groups": groups, "size": size, "width": width}
    layers = []
    for i in range(count):
        at = f"layers.{i}."
        norms = Norms(attention=plain, feed_forward=plain)
        if eps is not None:
            norms = Norms(
                attention_post=norm(at + "post_attention_layernorm"),
                query=norm(at + "self_attn.q_norm", heads * size),
                key=norm(at + "self_attn.k_norm", groups * size),
                feed_forward_post=norm(at + "post_feedforward_layernorm"),
            )
        layers.append(
            Layer(
                project=separate(weights, at + "self_attn.", **sizes, bias=bias),
                out=linear(weights, at + "self_attn.o_proj", width, heads * size, bias=bias),
                gate=linear(weights, at + "mlp.gate_proj", inner, width, bias=False),
                up=linear(weights, at + "mlp.up_proj", inner, width, bias=False),
                down=linear(weights, at + "mlp.down_proj", width, inner, bias=False),
                frequencies=frequencies,
                norms=norms,
            )
        )
    return Decoder(
        embedding=embedding,
        layers=layers,
        final_norm=norm("norm"),
        head=output_head(weights, "lm_head.weight", embedding, tied=tied),
        heads=heads,
        key_value_heads=groups,
        head_dim=size,
        scale=size**-0.5,
        activation=activation,
        norm_whole_heads=True,
        clip=clip,
    )
