"""BLOOM."""

import math

import torch
from torch import Tensor

from ebbtide.scoring.families.architecture import Architecture, Names, layer_norms
from ebbtide.scoring.families.keys import ACTIVATIONS, Keys

NAMES = Names(
    prefixes=("transformer.", ""),
    embedding="word_embeddings",
    embedding_norm="word_embeddings_layernorm",
    layer="h",
    project=("self_attention.query_key_value",),
    out="self_attention.dense",
    gate=None,
    up="mlp.dense_h_to_4h",
    down="mlp.dense_4h_to_h",
    final_norm="ln_f",
)


def bloom(keys: Keys) -> Architecture:
    """No positions: attention falls off linearly with distance (ALiBi, Press et al. 2022)."""
    width, heads = keys("hidden_size", "n_embed"), keys("n_head", "num_attention_heads")
    keys.must_be("n_inner", None, 4 * width)
    keys.must_be("apply_residual_connection_post_layernorm", False)
    keys.must_be("slow_but_exact", False)
    return Architecture(
        names=NAMES,
        vocabulary=keys("vocab_size"),
        width=width,
        inner=4 * width,
        layers=keys("n_layer", "num_hidden_layers"),
        heads=heads,
        tied=keys("tie_word_embeddings", default=True),
        activation=ACTIVATIONS["gelu_new"],
        norm=layer_norms(keys("layer_norm_epsilon", default=1e-5)),
        slopes=slopes(heads),
        project_bias=True,
        out_bias=True,
        feed_forward_bias=True,
    )


def slopes(heads: int) -> Tensor:
    """Slopes of the linear biases (heads,): 2^(-8i/n) for the next power of two n, then the steps between."""
    n = 2 ** math.floor(math.log2(heads))
    exponents = [-8 * (i + 1) / n for i in range(n)] + [-4 * (2 * i + 1) / n for i in range(heads - n)]
    return torch.tensor([2.0**exponent for exponent in exponents])
