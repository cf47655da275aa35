"""A causal decoder in plain torch: the forward pass of the common architectures over a tree of tokens.

transformers supports every architecture, but importing it takes longer than scoring a small task, and its
forward pass computes hidden states that are not needed. Here a layer is a few tensors, which `families` reads
from a checkpoint. Tests compare each family with transformers.

    x ─┬─ norm ─ qkv ─ rotate ─ attend ─ out ─ (norm) ─ + ─┬─ norm ─ up ─ act ─ down ─ (norm) ─ + ─ …
       └────────────────────────────────────────────────┘ └───────────────────────────────────┘
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ebbtide.scoring.attention import Attention, Cache, Heads
from ebbtide.scoring.chunks import Chunk
from ebbtide.scoring.linear import Linear

Norm = Callable[[Tensor], Tensor]
# Layer, window, queries, keys and values → output (n, heads · h), as of `Attention`.
Attend = Callable[[int, int | None, Tensor, Tensor, Tensor], Tensor]


def same(x: Tensor) -> Tensor:
    """No normalisation."""
    return x


@dataclass(frozen=True)
class Separate:
    """Queries, keys and values (n, their heads, h) from separate matrices."""

    query: Linear
    key: Linear
    value: Linear
    head_dim: int

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project rows (n, in)."""
        shape = (len(x), -1, self.head_dim)
        return self.query(x).view(shape), self.key(x).view(shape), self.value(x).view(shape)


@dataclass(frozen=True)
class Fused:
    """Queries, keys and values (n, heads, h) from one matrix, ordered by head or with all queries first."""

    linear: Linear
    heads: int
    by_head: bool

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project rows (n, in)."""
        shape = (self.heads, 3) if self.by_head else (3, self.heads)
        query, key, value = self.linear(x).view(len(x), *shape, -1).unbind(2 if self.by_head else 1)
        return query, key, value


@dataclass(frozen=True)
class Norms:
    """Norms around the two halves of a layer; by default none."""

    attention: Norm = same
    attention_post: Norm = same
    query: Norm = same
    key: Norm = same
    feed_forward: Norm = same
    feed_forward_post: Norm = same


@dataclass(frozen=True)
class Layer:
    """One layer: attention, then a feed-forward network, each added to the residual stream."""

    project: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
    out: Linear
    up: Linear
    down: Linear
    norms: Norms
    gate: Linear | None = None
    window: int | None = None  # sliding window in tokens; None: unlimited
    frequencies: Tensor | None = None  # (r / 2,) rotary frequencies; None: no rotation


@dataclass(frozen=True, kw_only=True)
class Decoder(Heads):
    """The tensors of a model, and its forward pass."""

    layers: Sequence[Layer]
    final_norm: Norm
    head: Linear  # (V, d)
    positions: Tensor | None = None  # (P, d) learned positions
    embedding_norm: Norm = same

    def forward(self, chunk: Chunk, cache: Cache) -> Tensor:
        """Hidden states (k, d) of the chunk's scored nodes after the final norm.

        The keys and values of all nodes of the chunk are written to the cache.
        """
        token, depth, scored = (t.to(self.embedding.device) for t in (chunk.token, chunk.depth, chunk.scored))
        return self.states(token, depth, Attention(self, chunk, cache), scored)

    def states(self, token: Tensor, depth: Tensor, attention: Attend, scored: Tensor | None = None) -> Tensor:
        """Hidden states (n, d) of tokens (n,) after the final norm; only of the rows `scored` if given.

        `depth` are positions (n,). `attention` caches the keys and values.
        """
        x = self.embedding[token]  # (n, d)
        if self.embedding_scale is not None:  # rounded to float32 first, as in the published model
            x.mul_(torch.tensor(self.embedding_scale).to(x.dtype))
        if self.positions is not None:
            x.add_(self.positions[depth])
        x = self.embedding_norm(x)
        rotations = _Rotations(depth, x.dtype)
        for number, layer in enumerate(self.layers):
            query, key, value = self._project(layer, layer.norms.attention(x))
            query, key = rotations(layer, query), rotations(layer, key)
            attended = attention(number, layer.window, query, key, value)
            if number == len(self.layers) - 1 and scored is not None:  # the others are not needed any more
                x, attended = x[scored], attended[scored]
            attended = layer.norms.attention_post(layer.out(attended))
            if self.parallel:
                x = self._feed_forward(layer, x).add_(attended).add_(x)
            else:
                x = attended.add_(x)
                x = self._feed_forward(layer, x).add_(x)
        return self.final_norm(x)

    def _project(self, layer: Layer, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (n, heads, h), keys and values (n, key_value_heads, h), before rotation."""
        query, key, value = layer.project(x)
        if self.clip is not None:
            query, key, value = (t.clamp(-self.clip, self.clip) for t in (query, key, value))
        norms = layer.norms
        if self.norm_whole_heads:
            query = norms.query(query.flatten(1)).view_as(query)
            return query, norms.key(key.flatten(1)).view_as(key), value
        return norms.query(query), norms.key(key), value

    def _feed_forward(self, layer: Layer, x: Tensor) -> Tensor:
        x = layer.norms.feed_forward(x)
        if layer.gate is None:
            x = self.activation(layer.up(x))
        else:
            x = self.activation(layer.gate(x)).mul_(layer.up(x))
        return layer.norms.feed_forward_post(layer.down(x))


class _Rotations:
    """Rotary positions (Su et al. 2021): rotate the first r of h dimensions, paired as two halves."""

    def __init__(self, depth: Tensor, dtype: torch.dtype) -> None:
        self._depth, self._dtype = depth, dtype
        self._known: dict[int, tuple[Tensor, Tensor]] = {}  # by id of the frequencies, which layers share

    def __call__(self, layer: Layer, x: Tensor) -> Tensor:
        """Rotate (n, heads, h) by depth, in place; unchanged in a layer without rotary positions."""
        if layer.frequencies is None:
            return x
        key = id(layer.frequencies)
        if key not in self._known:  # angles in float32, as in training
            angles = self._depth.to(torch.float32)[:, None, None] * layer.frequencies  # (n, 1, r / 2)
            cos, sin = angles.cos(), angles.sin()
            both = torch.cat([cos, cos], dim=2), torch.cat([-sin, sin], dim=2)  # each (n, 1, r)
            self._known[key] = both[0].to(self._dtype), both[1].to(self._dtype)
        cos, sin = self._known[key]
        rotated = x[..., : cos.shape[2]]
        a, b = rotated.chunk(2, dim=2)
        swapped = torch.cat([b, a], dim=2).mul_(sin)
        rotated.mul_(cos).add_(swapped)
        return x


def rms_norm(weight: Tensor, eps: float, *, in_float32: bool = False) -> Norm:
    """Root-mean-square norm, computed in float32; `in_float32` applies the weight before rounding back."""

    def norm(x: Tensor) -> Tensor:
        if weight.dtype == torch.float32:  # the two are the same
            return functional.rms_norm(x.float(), weight.shape, weight, eps).to(x.dtype)
        scaled = functional.rms_norm(x.float(), weight.shape, None, eps)
        return (scaled * weight).to(x.dtype) if in_float32 else scaled.to(x.dtype) * weight

    return norm


def layer_norm(weight: Tensor, bias: Tensor, eps: float) -> Norm:
    """Layer norm in the precision of the model."""
    return lambda x: functional.layer_norm(x, weight.shape, weight, bias, eps)


def plain_layer_norm(eps: float) -> Norm:
    """Layer norm without weights, in float32 (OLMo)."""
    return lambda x: functional.layer_norm(x.float(), (x.shape[-1],), None, None, eps).to(x.dtype)
