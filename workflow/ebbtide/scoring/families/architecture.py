"""One declarative description of a decoder, and the one function that fills it with tensors.

A family is a function from the keys of `config.json` to an `Architecture`. The defaults are Llama's, so a
family states only where it differs.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from ebbtide.scoring.decoder import (
    Decoder,
    Fused,
    Layer,
    Linear,
    Norm,
    Norms,
    Separate,
    layer_norm,
    plain_layer_norm,
    rms_norm,
    same,
)
from ebbtide.scoring.families.keys import Unsupported
from ebbtide.scoring.weights import Weights

NormKind = Callable[[Weights, str, int], Norm]  # weights, name, size → the norm


def layer_norms(eps: float) -> NormKind:
    """Layer norms with weight and bias."""

    def read(weights: Weights, name: str, size: int) -> Norm:
        return layer_norm(weights.take(f"{name}.weight", (size,)), weights.take(f"{name}.bias", (size,)), eps)

    return read


def unweighted_layer_norms(eps: float) -> NormKind:
    """Layer norms without tensors (OLMo)."""
    return lambda *_: plain_layer_norm(eps)


def rms_norms(eps: float, *, in_float32: bool = False, offset: float = 0.0) -> NormKind:
    """Root-mean-square norms (see `rms_norm`); an `offset` is added to the weight in float32 (Gemma)."""

    def read(weights: Weights, name: str, size: int) -> Norm:
        weight = weights.take(f"{name}.weight", (size,))
        return rms_norm(offset + weight.float() if offset else weight, eps, in_float32=in_float32)

    return read


@dataclass(frozen=True)
class Names:
    """Names of tensors without `.weight` and `.bias`.

    Attributes
    ----------
    prefixes
        Of the model's body, in the order in which they are tried.
    layer
        Of the layers' numbered parts; the names from `project` to `norms` follow it.
    project
        Queries, keys, values; or the one matrix that holds all three.
    gate
        None without a gated feed-forward.
    norms
        Field of `Norms` → name, for the norms that a layer has.
    head
        The first of these that the checkpoint has.
    """

    prefixes: tuple[str, ...] = ("model.", "")
    embedding: str = "embed_tokens"
    embedding_norm: str | None = None
    positions: str | None = None
    layer: str = "layers"
    project: tuple[str, ...] = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    out: str = "self_attn.o_proj"
    gate: str | None = "mlp.gate_proj"
    up: str = "mlp.up_proj"
    down: str = "mlp.down_proj"
    norms: Mapping[str, str] = field(
        default_factory=lambda: {
            "attention": "input_layernorm",
            "feed_forward": "post_attention_layernorm",
        }
    )
    final_norm: str = "norm"
    head: tuple[str, ...] = ("lm_head",)


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A decoder without its tensors.

    Attributes
    ----------
    width, inner
        Of the residual stream and of the feed-forward.
    positions
        Rows of the table of learned positions, of which the first `skipped_positions` are not positions.
    project_bias, out_bias, feed_forward_bias
        Whether these linear layers have biases.
    transposed
        Whether the matrices of the layers are stored (in, out).
    fused
        How one matrix for queries, keys and values is laid out.
    rope, window_rope
        Rotary parameters of the layers; of those with a window, where they differ.
    windows
        How many tokens each layer looks back (None: all).
    scale
        Of the attention scores; 1 / √head_dim when None.
    """

    vocabulary: int
    width: int
    inner: int
    layers: int
    heads: int
    tied: bool
    activation: Callable[[Tensor], Tensor]
    norm: NormKind
    names: Names = Names()
    key_value_heads: int | None = None  # as many as `heads`
    head_dim: int | None = None  # width / heads
    positions: int | None = None
    skipped_positions: int = 0
    project_bias: bool = False
    out_bias: bool = False
    feed_forward_bias: bool = False
    transposed: bool = False
    fused: Literal["by_head", "by_kind"] = "by_head"
    rope: Mapping[str, Any] | None = None
    window_rope: Mapping[str, Any] | None = None
    windows: Sequence[int | None] | None = None
    scale: float | None = None
    whole_head_norms: bool = False
    parallel: bool = False
    clip: float | None = None
    embedding_scale: float | None = None
    slopes: Tensor | None = None
    attention_softcap: float | None = None
    final_softcap: float | None = None


def assemble(plan: Architecture, weights: Weights) -> Decoder:
    """The decoder that `plan` describes, with its tensors."""
    names, norm, heads, width = plan.names, plan.norm, plan.heads, plan.width
    groups = heads if plan.key_value_heads is None else plan.key_value_heads
    size = width // heads if plan.head_dim is None else plan.head_dim
    if min(plan.vocabulary, width, plan.inner, plan.layers, heads, groups, size) < 1:
        raise ValueError("a size below 1")

    def linear(name: str, out: int, into: int, *, bias: bool) -> Linear:
        shape = (into, out) if plan.transposed else (out, into)
        weight = weights.take(f"{name}.weight", shape)
        return Linear(
            weight.t() if plan.transposed else weight, weights.take(f"{name}.bias", (out,)) if bias else None
        )

    def project(at: str) -> Separate | Fused:
        bias = plan.project_bias
        if len(names.project) == 1:
            matrix = linear(at + names.project[0], 3 * heads * size, width, bias=bias)
            return Fused(matrix, heads, by_head=plan.fused == "by_head")
        query, key, value = (
            linear(at + name, n * size, width, bias=bias)
            for name, n in zip(names.project, (heads, groups, groups), strict=True)
        )
        return Separate(query, key, value, size)

    norm_sizes = {
        "query": heads * size if plan.whole_head_norms else size,
        "key": groups * size if plan.whole_head_norms else size,
    }
    weights.prefixes = names.prefixes
    embedding = weights.take(f"{names.embedding}.weight", (plan.vocabulary, width), embedding=True)
    rope, window_rope = (
        None if parameters is None else rotary_frequencies(parameters, size, embedding.device)
        for parameters in (plan.rope, plan.window_rope)
    )
    layers = []
    for i in range(plan.layers):
        at, window = f"{names.layer}.{i}.", plan.windows[i] if plan.windows else None
        bias = plan.feed_forward_bias
        layers.append(
            Layer(
                norms=Norms(
                    **{
                        place: norm(weights, at + name, norm_sizes.get(place, width))
                        for place, name in names.norms.items()
                    }
                ),
                project=project(at),
                out=linear(at + names.out, width, heads * size, bias=plan.out_bias),
                gate=linear(at + names.gate, plan.inner, width, bias=bias) if names.gate else None,
                up=linear(at + names.up, plan.inner, width, bias=bias),
                down=linear(at + names.down, width, plan.inner, bias=bias),
                window=window,
                frequencies=rope if window is None or window_rope is None else window_rope,
            )
        )
    return Decoder(
        embedding=embedding,
        layers=layers,
        final_norm=norm(weights, names.final_norm, width),
        head=_head(plan, weights, embedding),
        heads=heads,
        key_value_heads=groups,
        head_dim=size,
        scale=size**-0.5 if plan.scale is None else plan.scale,
        activation=plan.activation,
        parallel=plan.parallel,
        norm_whole_heads=plan.whole_head_norms,
        clip=plan.clip,
        positions=_positions(plan, weights),
        embedding_norm=norm(weights, names.embedding_norm, width) if names.embedding_norm else same,
        embedding_scale=plan.embedding_scale,
        slopes=None if plan.slopes is None else plan.slopes.to(embedding.device),
        attention_softcap=plan.attention_softcap,
        final_softcap=plan.final_softcap,
    )


def _positions(plan: Architecture, weights: Weights) -> Tensor | None:
    if plan.positions is None:
        return None
    shape = (plan.skipped_positions + plan.positions, plan.width)
    return weights.take(f"{plan.names.positions}.weight", shape, embedding=True)[plan.skipped_positions :]


def _head(plan: Architecture, weights: Weights, embedding: Tensor) -> Linear:
    """The output matrix: the embedding itself when the two are tied."""
    names = [f"{name}.weight" for name in plan.names.head]
    name = next((name for name in names if weights.has(name)), names[-1])
    if not plan.tied:
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
