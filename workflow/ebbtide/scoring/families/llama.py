"""Llama and what follows its plan: SmolLM, Mistral, Qwen 2 and 3."""

from ebbtide.scoring.decoder import Decoder, Layer, Norm, Norms, rms_norm, same
from ebbtide.scoring.families.keys import Keys, Unsupported
from ebbtide.scoring.families.pieces import linear, output_head, rotary_frequencies, separate, token_embedding
from ebbtide.scoring.weights import Weights


def llama(keys: Keys, weights: Weights) -> Decoder:
    """Llama 1 to 3, SmolLM."""
    heads = keys("num_attention_heads")
    keys.must_be("rope_interleaved", False)
    return _decoder(
        keys,
        weights,
        groups=keys("num_key_value_heads", default=heads),
        size=keys("head_dim", default=keys("hidden_size") // heads),
        bias=keys("attention_bias", default=False),
    )


def mistral(keys: Keys, weights: Weights) -> Decoder:
    """All layers look back as far as `sliding_window`; null is without end, and 4,096 the default."""
    window = keys("sliding_window", default=None if keys.given("sliding_window") else 4096)
    return _decoder(
        keys,
        weights,
        groups=keys("num_key_value_heads", default=8),
        size=keys("head_dim", default=keys("hidden_size") // keys("num_attention_heads")),
        windows=[window] * keys("num_hidden_layers"),
    )


def qwen2(keys: Keys, weights: Weights) -> Decoder:
    """Biases on queries, keys and values only."""
    heads = keys("num_attention_heads")
    return _decoder(
        keys,
        weights,
        groups=keys("num_key_value_heads", default=32),
        size=keys("hidden_size") // heads,
        qkv_bias=True,
        windows=_qwen_windows(keys),
    )


def qwen3(keys: Keys, weights: Weights) -> Decoder:
    """Queries and keys are normalised, head by head."""
    return _decoder(
        keys,
        weights,
        groups=keys("num_key_value_heads", default=32),
        size=keys("head_dim", default=128),
        bias=keys("attention_bias", default=False),
        head_norm=True,
        windows=_qwen_windows(keys),
    )


def _qwen_windows(keys: Keys) -> list[int | None]:
    count, first = keys("num_hidden_layers"), keys("max_window_layers", default=28)
    window = keys("sliding_window", default=None if keys.given("sliding_window") else 4096)
    if not keys("use_sliding_window", default=False):
        window = None
    default = [window if i >= first else None for i in range(count)]
    return keys.windows(count, default, window)


def _decoder(
    keys: Keys,
    weights: Weights,
    *,
    groups: int,
    size: int,
    bias: bool = False,
    qkv_bias: bool = False,
    head_norm: bool = False,
    windows: list[int | None] | None = None,
) -> Decoder:
    width, inner, count = keys("hidden_size"), keys("intermediate_size"), keys("num_hidden_layers")
    heads, vocabulary = keys("num_attention_heads"), keys("vocab_size")
    eps, rope = keys("rms_norm_eps", default=1e-6), keys.rope(10000.0)
    mlp_bias, tied = keys("mlp_bias", default=False), keys("tie_word_embeddings", default=False)
    activation = keys.activation("hidden_act", default="silu")
    keys("max_position_embeddings")
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise Unsupported("rotary positions in a part of each head")
    keys.done()

    weights.prefixes = ("model.", "")
    embedding = token_embedding(weights, "embed_tokens.weight", vocabulary, width)
    frequencies = rotary_frequencies(rope, size, embedding.device)

    def norm(name: str, of: int = width) -> Norm:
        return rms_norm(weights.take(f"{name}.weight", (of,)), eps)

    sizes = {"heads": heads, "groups": groups, "size": size, "width": width}
    layers = []
    for i in range(count):
        at = f"layers.{i}."
        layers.append(
            Layer(
                norms=Norms(
                    attention=norm(at + "input_layernorm"),
                    query=norm(at + "self_attn.q_norm", size) if head_norm else same,
                    key=norm(at + "self_attn.k_norm", size) if head_norm else same,
                    feed_forward=norm(at + "post_attention_layernorm"),
                ),
                project=separate(weights, at + "self_attn.", **sizes, bias=bias or qkv_bias),
                out=linear(weights, at + "self_attn.o_proj", width, heads * size, bias=bias),
                gate=linear(weights, at + "mlp.gate_proj", inner, width, bias=mlp_bias),
                up=linear(weights, at + "mlp.up_proj", inner, width, bias=mlp_bias),
                down=linear(weights, at + "mlp.down_proj", width, inner, bias=mlp_bias),
                window=windows[i] if windows else None,
                frequencies=frequencies,
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
    )
