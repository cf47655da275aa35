"""One parameter formula per model family, in the notation of `ebbtide.parameters`."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

Config = Mapping[str, Any]


class Parts(NamedTuple):
    """Parameters of the parts of a model."""

    embeddings: int
    body: int
    idle: int = 0  # parameters of the body that a token does not use


def _linear(inputs: int, outputs: int, bias: bool = False) -> int:
    return (inputs + bias) * outputs


def _norm(width: int, bias: bool = True) -> int:
    """A LayerNorm has a weight and a bias, an RMSNorm only the weight."""
    return width * (1 + bias)


def _tables(c: Config) -> int:
    """V·d for tokens, and as many for the output matrix unless it is tied."""
    return int(c["vocab_size"] * c["hidden_size"] * (1 if c["tie_word_embeddings"] else 2))


def _heads(c: Config) -> tuple[int, int]:
    """Width of all queries h·c, and of all keys (or values) k·c."""
    queries = c["num_attention_heads"]
    width = c.get("head_dim") or c["hidden_size"] // queries
    return queries * width, (c.get("num_key_value_heads") or queries) * width


def _attention(c: Config, bias: bool, output_bias: bool) -> int:
    """Separate projections: d·hc + 2·d·kc + hc·d, and biases."""
    d, (queries, keys) = c["hidden_size"], _heads(c)
    return _linear(d, queries + 2 * keys, bias) + _linear(queries, d, output_bias)


def _feed_forward(d: int, f: int, bias: bool = True) -> int:
    """Up and down projection: 2·d·f, and biases f + d."""
    return _linear(d, f, bias) + _linear(f, d, bias)


def _gated(d: int, f: int, bias: bool = False) -> int:
    """Gate, up and down: 3·d·f, and biases 2f + d."""
    return _linear(d, 2 * f, bias) + _linear(f, d, bias)


def _stack(c: Config, layer: int, final: int) -> int:
    """L equal layers and the `final` parameters after them."""
    return int(c["num_hidden_layers"] * layer + final)


def gpt_neox(c: Config) -> Parts:
    """Pythia: L·(4d² + 4d + 2df + f + d + 4d) + 2d, so 12Ld² + 13Ld + 2d for f = 4d; two tables."""
    d, bias = c["hidden_size"], c["attention_bias"]
    attention = _linear(d, 3 * d, bias) + _linear(d, d, bias)
    layer = attention + _feed_forward(d, c["intermediate_size"]) + 2 * _norm(d)
    return Parts(_tables(c), _stack(c, layer, _norm(d)))


def gpt2(c: Config) -> Parts:
    """GPT-2: L·(4d² + 4d + 2df + f + d + 4d) + 2d; one table for tokens, one for P positions."""
    d = c["hidden_size"]
    layer = 4 * _linear(d, d, True) + _feed_forward(d, c["intermediate_size"] or 4 * d) + 2 * _norm(d)
    return Parts(_tables(c) + c["max_position_embeddings"] * d, _stack(c, layer, _norm(d)))


def opt(c: Config) -> Parts:
    """OPT: GPT-2 with P + 2 positions; token embeddings of width w ≠ d are projected in and out (2·w·d).

    Biases, norm weights and the last norm are optional.
    """
    d, bias = c["hidden_size"], c["enable_bias"]
    words = c["word_embed_proj_dim"] or d
    norm = _norm(d) if c["layer_norm_elementwise_affine"] else 0
    layer = 4 * _linear(d, d, bias) + _feed_forward(d, c["intermediate_size"], bias) + 2 * norm
    projections = 2 * d * words if words != d else 0
    last = norm if c["do_layer_norm_before"] and not c["_remove_final_layer_norm"] else 0
    tokens = _tables({**c, "hidden_size": words})
    positions = (c["max_position_embeddings"] + 2) * d
    return Parts(tokens + positions, _stack(c, layer, projections + last))


def bloom(c: Config) -> Parts:
    """BLOOM: L·(12d² + 13d) + 4d, with a norm after the embedding and without positions."""
    d = c["hidden_size"]
    layer = 4 * _linear(d, d, True) + _feed_forward(d, 4 * d) + 2 * _norm(d)
    return Parts(_tables(c), _stack(c, layer, 2 * _norm(d)))


def llama(c: Config) -> Parts:
    """Llama, SmolLM3: L·(2·d·hc + 2·d·kc + 3df + 2d) + d, and optional biases."""
    d, bias = c["hidden_size"], c["attention_bias"]
    gated = _gated(d, c["intermediate_size"], c["mlp_bias"])
    layer = _attention(c, bias, bias) + gated + 2 * _norm(d, bias=False)
    return Parts(_tables(c), _stack(c, layer, _norm(d, bias=False)))


def mistral(c: Config) -> Parts:
    """Mistral: Llama without biases."""
    return llama({**c, "attention_bias": False, "mlp_bias": False})


def qwen2(c: Config) -> Parts:
    """Qwen2: Llama with biases hc + 2kc on queries, keys and values only."""
    queries, keys = _heads(c)
    plain = mistral(c)
    return plain._replace(body=plain.body + _stack(c, queries + 2 * keys, 0))


def qwen3(c: Config) -> Parts:
    """Qwen3: Llama with a norm of width c on queries and on keys, shared by all heads."""
    plain = llama({**c, "mlp_bias": False})
    width = _heads(c)[0] // c["num_attention_heads"]
    return plain._replace(body=plain.body + _stack(c, 2 * _norm(width, bias=False), 0))


def olmo(c: Config) -> Parts:
    """OLMo: Llama whose norms have no parameters."""
    d, bias = c["hidden_size"], c["attention_bias"]
    return Parts(_tables(c), _stack(c, _attention(c, bias, bias) + _gated(d, c["intermediate_size"]), 0))


def olmo2(c: Config) -> Parts:
    """OLMo 2 and 3: Llama with norms of width hc on all queries and kc on all keys."""
    plain = llama({**c, "mlp_bias": False})
    return plain._replace(
        body=plain.body + _stack(c, sum(_norm(width, bias=False) for width in _heads(c)), 0)
    )


def olmoe(c: Config) -> Parts:
    """OLMoE: L·(attention + 2d + hc + kc + router d·E + E·3df) + d, of which L·(E − e)·3df are inactive."""
    d, experts = c["hidden_size"], c["num_experts"]
    attention = _attention(c, c["attention_bias"], c["attention_bias"])
    norms = 2 * _norm(d, bias=False) + sum(_norm(width, bias=False) for width in _heads(c))
    expert = _gated(d, c["intermediate_size"])
    layer = attention + norms + _linear(d, experts) + experts * expert
    idle = _stack(c, (experts - c["num_experts_per_tok"]) * expert, 0)
    return Parts(_tables(c), _stack(c, layer, _norm(d, bias=False)), idle)


def hf_olmo(c: Config) -> Parts:
    """OLMo 1 and DataDecide in their own format: L·(2d² + 2·d·kc + m·d + m'·d + norms) + norm, and biases.

    m is the output width of the up projection (ratio·d), m' the input width of the down projection: m / 2 if
    gated, else m. Norms have weights and biases only if affine. Queries and keys can have norms of widths d
    and kc. The tables have `embedding_size` rows, which may exceed the vocabulary.
    """
    d, bias = c["hidden_size"], c["include_bias"]
    keys = d // c["num_attention_heads"] * _old_key_heads(c)
    up = c["intermediate_size"] or c["mlp_ratio"] * d
    down = up // 2 if c["activation_type"] == "swiglu" else up
    norm_bias = bias if c["bias_for_layer_norm"] is None else c["bias_for_layer_norm"]

    def norm(width: int, affine: bool) -> int:
        return _norm(width, norm_bias) if affine else 0

    affine, own = c["layer_norm_with_affine"], c["attention_layer_norm_with_affine"]
    attention = _linear(d, d + 2 * keys, bias) + _linear(d, d, bias)
    if c["attention_layer_norm"]:
        attention += norm(d, own) + norm(keys, own)
    layer = attention + _linear(d, up, bias) + _linear(down, d, bias) + 2 * norm(d, affine)
    rows = c["embedding_size"] or c["vocab_size"]
    output = 0 if c["tie_word_embeddings"] else _linear(d, rows, bias)
    positions = 0 if c["rope"] or c["alibi"] else c["max_position_embeddings"] * d
    return Parts(rows * d + output + positions, _stack(c, layer, norm(d, affine)))


def _old_key_heads(c: Config) -> int:
    """Key-value heads of an `hf_olmo` configuration."""
    if c["multi_query_attention"]:
        return 1
    return int(c["num_key_value_heads"] or c["num_attention_heads"])


def mamba(c: Config) -> Parts:
    """Mamba, with i = expand·d, s states, rank r = ⌈d/16⌉ and kernel size q.

    A layer has in d·2i, convolution i·q (+ i), x i·(r + 2s), Δ r·i + i, A i·s, D i, out i·d and norm d. The
    final norm has d.
    """
    d, states = c["hidden_size"], c["state_size"]
    inner = int(c["expand"] * d)
    rank = math.ceil(d / 16) if c["time_step_rank"] == "auto" else c["time_step_rank"]
    projections = _linear(d, 2 * inner, c["use_bias"]) + _linear(inner, d, c["use_bias"])
    convolution = _linear(c["conv_kernel"], inner, c["use_conv_bias"])
    selection = _linear(inner, rank + 2 * states) + _linear(rank, inner, True)
    layer = projections + convolution + selection + inner * (states + 1) + _norm(d, bias=False)
    return Parts(_tables(c), _stack(c, layer, _norm(d, bias=False)))


def rwkv(c: Config) -> Parts:
    """RWKV-4: a layer has 4da + 2a + 3d, 2df + d² + 2d and two norms; a is the width of attention.

    One norm before the first layer and one after the last have 4d in total.
    """
    d = c["hidden_size"]
    a = c["attention_hidden_size"] or d
    f = c["intermediate_size"] or 4 * d
    time_mixing = 4 * _linear(d, a) + 2 * a + 3 * d
    channel_mixing = _feed_forward(d, f, bias=False) + _linear(d, d) + 2 * d
    return Parts(_tables(c), _stack(c, time_mixing + channel_mixing + 2 * _norm(d), 2 * _norm(d)))
