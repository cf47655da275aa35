"""BLOOM."""

import math
from functools import partial

import torch
from torch import Tensor

from ebbtide.scoring.decoder import layer_norm
from ebbtide.scoring.families.architecture import ALL, LLAMA_NORMS, Architecture
from ebbtide.scoring.families.keys import ACTIVATIONS, Keys

NAMES = {
    "embedding": "word_embeddings",
    "embedding_norm": "word_embeddings_layernorm",
    "fused": "self_attention.query_key_value",
    "out": "self_attention.dense",
    "up": "mlp.dense_h_to_4h",
    "down": "mlp.dense_4h_to_h",
    "final_norm": "ln_f",
}


def bloom(keys: Keys) -> Architecture:
    """No positions: attention scores decrease linearly with distance (ALiBi, Press et al. 2022)."""
    width, heads = keys("hidden_size", "n_embed"), keys("n_head", "num_attention_heads")
    layers = keys("n_layer", "num_hidden_layers")
    keys.must_be("n_inner", None, 4 * width)
    keys.must_be("apply_residual_connection_post_layernorm", False)
    keys.must_be("slow_but_exact", False)
    return Architecture(
        **keys.sizes(width=width, inner=4 * width, layers=layers, heads=heads),
        prefixes=("transformer.", ""),
        layer="h",
        names=NAMES,
        norms=LLAMA_NORMS,
        norm=partial(layer_norm, eps=keys("layer_norm_epsilon", default=1e-5)),
        norm_tensors=("weight", "bias"),
        biases=ALL,
        slopes=slopes(heads),
        activation=ACTIVATIONS["gelu_new"],
        tied=keys("tie_word_embeddings", default=True),
    )


def slopes(heads: int) -> Tensor:
    """ALiBi slopes (heads,): 2^(-8i/n) for the largest power of two n ≤ heads, then values in between."""
    n = 2 ** math.floor(math.log2(heads))
    exponents = [-8 * (i + 1) / n for i in range(n)] + [-4 * (2 * i + 1) / n for i in range(heads - n)]
    return torch.tensor([2.0**exponent for exponent in exponents])
