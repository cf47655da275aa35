"""Pieces that several families are made of."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ebbtide.scoring.decoder import Linear, Norm, Separate, layer_norm
from ebbtide.scoring.families.keys import Unsupported
from ebbtide.scoring.weights import Weights


def linear(weights: Weights, name: str, out: int, into: int, *, bias: bool) -> Linear:
    """A matrix (out, into), with a bias or without."""
    return Linear(
        weights.take(f"{name}.weight", (out, into)), weights.take(f"{name}.bias", (out,)) if bias else None
    )


def separate(
    weights: Weights, at: str, *, heads: int, groups: int, size: int, width: int, bias: bool
) -> Separate:
    """`q_proj`, `k_proj`, `v_proj`: `heads` query heads and `groups` key and value heads of `size`."""
    return Separate(
        linear(weights, f"{at}q_proj", heads * size, width, bias=bias),
        linear(weights, f"{at}k_proj", groups * size, width, bias=bias),
        linear(weights, f"{at}v_proj", groups * size, width, bias=bias),
        size,
    )


def biased_norm(weights: Weights, name: str, width: int, eps: float) -> Norm:
    """Layer norm with weight and bias."""
    return layer_norm(weights.take(f"{name}.weight", (width,)), weights.take(f"{name}.bias", (width,)), eps)


def token_embedding(weights: Weights, name: str, vocabulary: int, width: int) -> Tensor:
    """The input embedding (vocabulary, width)."""
    return weights.take(name, (vocabulary, width), embedding=True)


def output_head(weights: Weights, name: str, embedding: Tensor, *, tied: bool) -> Linear:
    """The output matrix: the embedding itself when the two are tied."""
    if not tied:
        return Linear(weights.take(name, embedding.shape, embedding=True))
    if weights.has(name):
        raise Unsupported(f"{name} beside a tied embedding")
    return Linear(embedding)


def rotary_frequencies(rope: Mapping[str, Any], size: int, device: torch.device) -> Tensor:
    """Rotary frequencies (r / 2,) in float32 for heads of `size` dimensions, of which a share r turns.

    Plain, or stretched to longer contexts as Gemma 3 (`linear`) and Llama 3.1 (`llama3`) do.
    """
    turning = int(size * rope.get("partial_rotary_factor", 1.0))
    exponents = torch.arange(0, turning, 2, dtype=torch.float32) / turning
    frequencies: Tensor = 1.0 / rope["rope_theta"] ** exponents
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "linear":
        frequencies = frequencies / rope["factor"]
    elif kind == "llama3":
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        turns = rope["original_max_position_embeddings"] * frequencies / (2 * math.pi)
        blend = ((turns - low) / (high - low)).clamp(0, 1)
        frequencies = (1 - blend) * frequencies / rope["factor"] + blend * frequencies
    elif kind != "default":
        raise Unsupported(f"rotary positions of kind {kind!r}")
    return frequencies.to(device)
