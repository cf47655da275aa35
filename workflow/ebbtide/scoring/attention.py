"""Attention over a tree of tokens: the key-value cache of a path, and masks by ancestry."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ebbtide.scoring.chunks import Block, Chunk


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a decoder combines its tensors."""

    heads: int
    key_value_heads: int
    head_dim: int
    scale: float  # factor of the attention scores
    activation: Callable[[Tensor], Tensor]
    parallel: bool = False  # attention and feed-forward read the same input (GPT-NeoX)
    norm_whole_heads: bool = False  # query and key norms span all heads (OLMo 2)
    clip: float | None = None  # largest absolute value of queries, keys and values (OLMo)
    embedding_scale: float | None = None
    slopes: Tensor | None = None  # (heads,) slopes of linear biases (ALiBi)
    attention_softcap: float | None = None
    final_softcap: float | None = None


@dataclass(frozen=True, kw_only=True)
class Heads(Settings):
    """The part of a decoder that attention needs."""

    embedding: Tensor  # (V, d); determines device and dtype
    layers: Sequence[object]


class Cache:
    """Keys and values of the path to the current node, with space for the chunk after it."""

    def __init__(self, decoder: Heads) -> None:
        self._decoder = decoder
        self._buffers: list[Tensor] = []  # per layer: (2, capacity, key_value_heads, h)
        self.length = 0  # number of slots of the path

    def reserve(self, size: int) -> None:
        """Grow to a capacity of at least `size` slots; the path is kept."""
        if self._buffers and self._buffers[0].shape[1] >= size:
            return
        decoder = self._decoder
        shape = (2, size, decoder.key_value_heads, decoder.head_dim)
        grown = [decoder.embedding.new_empty(shape) for _ in decoder.layers]
        for new, old in zip(grown, self._buffers, strict=False):
            new[:, : self.length] = old[:, : self.length]
        self._buffers = grown

    def append(self, layer: int, key: Tensor, value: Tensor) -> Tensor:
        """Write a chunk's keys and values (n, key_value_heads, h) after the path; return the whole buffer."""
        buffer = self._buffers[layer]
        stop = self.length + len(key)
        buffer[0, self.length : stop] = key
        buffer[1, self.length : stop] = value
        return buffer

    def read(self, slots: Tensor) -> list[Tensor]:
        """Copies of the keys and values in these slots, per layer: (2, key_value_heads, n, h)."""
        index = slots.to(self._decoder.embedding.device)
        return [buffer[:, index].transpose(1, 2).contiguous() for buffer in self._buffers]

    def keep(self, slots: Tensor) -> None:
        """Keep only these slots, in this order, as the new path."""
        kept = [
            buffer[:, slots.to(buffer.device)] for buffer in self._buffers
        ]  # all copies, before any buffer is changed
        for buffer, rows in zip(self._buffers, kept, strict=True):
            buffer[:, : len(slots)] = rows
        self.length = len(slots)


class Attention:
    """Attention of a chunk's queries, in blocks that read only the slots visible to them."""

    def __init__(self, decoder: Heads, chunk: Chunk, cache: Cache) -> None:
        self._decoder, self._chunk, self._cache = decoder, chunk, cache
        self._blocks = chunk.blocks()
        self._biases: dict[int | None, list[Tensor]] = {}

    def __call__(self, layer: int, window: int | None, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Output (n, heads · h) for queries (n, heads, h), keys and values (n, key_value_heads, h)."""
        buffer = self._cache.append(layer, key, value)
        found = [
            block.ungroup(self._attend(block, bias, query, buffer)).flatten(1)
            for block, bias in zip(self._blocks, self._bias(window), strict=True)
        ]
        return found[0] if len(found) == 1 else torch.cat(found)

    def _attend(self, block: Block, bias: Tensor, query: Tensor, buffer: Tensor) -> Tensor:
        """Output of a block (G, B, heads, h) for the chunk's queries and the keys and values of all slots."""
        decoder = self._decoder
        queries = block.group(query).transpose(1, 2)  # (G, heads, B, h)
        keys, values = (block.read(part).transpose(1, 2) for part in buffer)  # (G, key_value_heads, L, h)
        if decoder.attention_softcap is not None:
            found = _capped(decoder.attention_softcap, queries * decoder.scale, keys, values, bias)
        else:
            found = functional.scaled_dot_product_attention(
                queries,
                keys,
                values,
                attn_mask=bias,
                scale=decoder.scale,
                enable_gqa=decoder.heads != decoder.key_value_heads,
            )
        return found.transpose(1, 2)

    def _bias(self, window: int | None) -> list[Tensor]:
        """Additive mask of each block: (G, 1 or heads, B, L); computed once per window size."""
        if window not in self._biases:
            self._biases[window] = [self._bias_of(block, window) for block in self._blocks]
        return self._biases[window]

    def _bias_of(self, block: Block, window: int | None) -> Tensor:
        visible = self._chunk.mask(block, window)[:, None]  # on the device
        bias = torch.zeros_like(visible, dtype=self._decoder.embedding.dtype)
        bias.masked_fill_(~visible, -torch.inf)
        slopes = self._decoder.slopes
        if slopes is None:
            return bias
        distance = self._chunk.distance(block)[:, None].to(slopes)
        return bias - (slopes[:, None, None] * distance).to(bias.dtype)


def _capped(cap: float, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Attention with scores soft-capped to ± cap (Gemma 2)."""
    repeats = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    scores = cap * torch.tanh(query @ key.transpose(2, 3) / cap) + bias
    return softmax(scores) @ value


def softmax(scores: Tensor) -> Tensor:
    """Softmax over the last dimension, computed in float32 (as by published models) or wider."""
    wide = torch.float64 if scores.dtype == torch.float64 else torch.float32
    return torch.softmax(scores, dim=-1, dtype=wide).to(scores.dtype)
