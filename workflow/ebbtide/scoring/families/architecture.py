"""A declarative description of a decoder, and the function that fills it with tensors."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from ebbtide.scoring.attention import Settings
from ebbtide.scoring.decoder import Decoder, Fused, Layer, Norm, Norms, Separate, same
from ebbtide.scoring.families.keys import Unsupported
from ebbtide.scoring.linear import Linear
from ebbtide.scoring.weights import Weights

ATTENTION = ("project", "out")  # parts that have biases in a model with `attention_bias`
ALL = (*ATTENTION, "feed_forward")

LLAMA = {
    "embedding": "embed_tokens",
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "out": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
    "final_norm": "norm",
}
LLAMA_NORMS = {"attention": "input_layernorm", "feed_forward": "post_attention_layernorm"}
HEAD_NORMS = {"query": "self_attn.q_norm", "key": "self_attn.k_norm"}


@dataclass(frozen=True, kw_only=True)
class Architecture(Settings):
    """A decoder without its tensors, as described by a `config.json`. The defaults are those of Llama.

    Attributes
    ----------
    norm, norm_tensors
        Function from tensors to a norm, and the suffixes of their names.
    names
        Part → name of its tensors. `fused` is one matrix for `query`, `key` and `value`. `gate`, `positions`
        and `embedding_norm` are omitted for families without them.
    norms
        Field of `Norms` → name, for the norms of a layer.
    prefixes, layer, head
        Prefixes of all names, the prefix of layers, and names of the output matrix (the first that exists).
    biases
        Parts with biases; a subset of `ALL`.
    positions, skipped_positions
        Number of learned positions, and rows of their table before the first.
    window_rope
        Rotary parameters of layers with a window, if they differ from `rope`.
    windows
        Attention window of each layer in tokens (None: unlimited).
    """

    vocabulary: int
    width: int
    inner: int
    layers: int
    tied: bool
    norm: Callable[..., Norm]
    norm_tensors: Sequence[str] = ("weight",)
    names: Mapping[str, str]
    norms: Mapping[str, str]
    prefixes: tuple[str, ...] = ("model.", "")
    layer: str = "layers"
    head: Sequence[str] = ("lm_head.weight",)
    biases: Collection[str] = ()
    transposed: bool = False  # matrices of layers are stored (in, out)
    fused_by_head: bool = True  # otherwise all queries come first
    positions: int | None = None
    skipped_positions: int = 0
    rope: Mapping[str, Any] | None = None
    window_rope: Mapping[str, Any] | None = None
    windows: Sequence[int | None] | None = None


def assemble(plan: Architecture, weights: Weights) -> Decoder:
    """Build the decoder that `plan` describes."""
    names, width = plan.names, plan.width
    queries, keys = plan.heads * plan.head_dim, plan.key_value_heads * plan.head_dim

    def linear(part: str, out: int, into: int, *, group: str) -> Linear:
        weight = weights.take(f"{at}{names[part]}.weight", (into, out) if plan.transposed else (out, into))
        bias = weights.take(f"{at}{names[part]}.bias", (out,)) if group in plan.biases else None
        return Linear(weight.t() if plan.transposed else weight, bias)

    def norm(name: str, size: int = width) -> Norm:
        return plan.norm(*(weights.take(f"{name}.{tensor}", (size,)) for tensor in plan.norm_tensors))

    def project() -> Fused | Separate:
        if "fused" in names:
            fused = linear("fused", 3 * queries, width, group="project")
            return Fused(fused, plan.heads, by_head=plan.fused_by_head)
        parts = ("query", queries), ("key", keys), ("value", keys)
        query, key, value = (linear(part, out, width, group="project") for part, out in parts)
        return Separate(query, key, value, plan.head_dim)

    weights.prefixes = plan.prefixes
    embedding = weights.take(f"{names['embedding']}.weight", (plan.vocabulary, width), embedding=True)
    rope = rotary_frequencies(plan.rope, plan.head_dim, embedding.device)
    window_rope = rotary_frequencies(plan.window_rope or plan.rope, plan.head_dim, embedding.device)
    whole = plan.norm_whole_heads
    norm_sizes = {"query": queries, "key": keys} if whole else dict.fromkeys(HEAD_NORMS, plan.head_dim)
    layers = []
    for i in range(plan.layers):
        at, window = f"{plan.layer}.{i}.", plan.windows[i] if plan.windows else None
        norms = {kind: norm(at + name, norm_sizes.get(kind, width)) for kind, name in plan.norms.items()}
        layers.append(
            Layer(
                norms=Norms(**norms),
                project=project(),
                out=linear("out", width, queries, group="out"),
                gate=linear("gate", plan.inner, width, group="feed_forward") if "gate" in names else None,
                up=linear("up", plan.inner, width, group="feed_forward"),
                down=linear("down", width, plan.inner, group="feed_forward"),
                window=window,
                frequencies=rope if window is None else window_rope,
            )
        )
    settings = {field.name: getattr(plan, field.name) for field in fields(Settings)}
    if plan.slopes is not None:
        settings["slopes"] = plan.slopes.to(embedding.device)
    return Decoder(
        **settings,
        embedding=embedding,
        embedding_norm=norm(names["embedding_norm"]) if "embedding_norm" in names else same,
        positions=_positions(plan, weights),
        layers=layers,
        final_norm=norm(names["final_norm"]),
        head=_head(plan, weights, embedding),
    )


def _positions(plan: Architecture, weights: Weights) -> Tensor | None:
    if plan.positions is None:
        return None
    shape = (plan.skipped_positions + plan.positions, plan.width)
    return weights.take(f"{plan.names['positions']}.weight", shape, embedding=True)[plan.skipped_positions :]


def _head(plan: Architecture, weights: Weights, embedding: Tensor) -> Linear:
    """The output matrix; the embedding itself if they are tied."""
    name = next(filter(weights.has, plan.head), plan.head[-1])
    if not plan.tied:
        return Linear(weights.take(name, embedding.shape, embedding=True))
    if weights.has(name):
        raise Unsupported(f"{name} beside a tied embedding")
    return Linear(embedding)


def rotary_frequencies(rope: Mapping[str, Any] | None, size: int, device: torch.device) -> Tensor | None:
    """Rotary frequencies (r / 2,) in float32 for heads of `size` dimensions, of which r are rotated.

    The default frequencies, or those scaled for longer contexts as in Gemma 3 (`linear`) and Llama 3.1
    (`llama3`).
    """
    if rope is None:
        return None
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
