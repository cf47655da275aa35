"""BLOOM."""

import math

import torch
from torch import Tensor

from ebbtide.scoring.decoder import Decoder, Fused, Layer, Norms
from ebbtide.scoring.families.keys import ACTIVATIONS, Keys
from ebbtide.scoring.families.pieces import biased_norm, linear, output_head, token_embedding
from ebbtide.scoring.weights import Weights


def bloom(keys: Keys, weights: Weights) -> Decoder:
    """No positions: attention falls off linearly with distance (ALiBi, Press et al. 2022)."""
    width, count = keys("hidden_size", "n_embed"), keys("n_layer", "num_hidden_layers")
    heads, vocabulary = keys("n_head", "num_attention_heads"), keys("vocab_size")
    eps = keys("layer_norm_epsilon", default=1e-5)
    keys.must_be("n_inner", None, 4 * width)
    keys.must_be("apply_residual_connection_post_layernorm", False)
    keys.must_be("slow_but_exact", False)
    tied = keys("tie_word_embeddings", default=True)
    keys.done()

    weights.prefixes = ("transformer.", "")
    embedding = token_embedding(weights, "word_embeddings.weight", vocabulary, width)
    layers = []
    for i in range(count):
        at = f"h.{i}."
        fused = linear(weights, at + "self_attention.query_key_value", 3 * width, width, bias=True)
        layers.append(
            Layer(
                norms=Norms(
                    attention=biased_norm(weights, at + "input_layernorm", width, eps),
                    feed_forward=biased_norm(weights, at + "post_attention_layernorm", width, eps),
                ),
                project=Fused(fused, heads, by_head=True),
                out=linear(weights, at + "self_attention.dense", width, width, bias=True),
                up=linear(weights, at + "mlp.dense_h_to_4h", 4 * width, width, bias=True),
                down=linear(weights, at + "mlp.dense_4h_to_h", width, 4 * width, bias=True),
            )
        )
    return Decoder(
        embedding=embedding,
        embedding_norm=biased_norm(weights, "word_embeddings_layernorm", width, eps),
        layers=layers,
        final_norm=biased_norm(weights, "ln_f", width, eps),
        head=output_head(weights, "lm_head.weight", embedding, tied=tied),
        heads=heads,
        key_value_heads=heads,
        head_dim=width // heads,
        scale=(width // heads) ** -0.5,
        slopes=slopes(heads).to(embedding.device),
        activation=ACTIVATIONS["gelu_new"],
    )


def slopes(heads: int) -> Tensor:
    """Slopes of the linear biases (heads,): 2^(-8i/n) for the next power of two n, then the steps between."""
    n = 2 ** math.floor(math.log2(heads))
    exponents = [-8 * (i + 1) / n for i in range(n)] + [-4 * (2 * i + 1) / n for i in range(heads - n)]
    return torch.tensor([2.0**exponent for exponent in exponents])
