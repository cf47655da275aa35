"""Attention over a tree of tokens: the cache of the path, and queries that see their own past only."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from ebbtide.scoring.chunks import Chunk

if TYPE_CHECKING:
    from ebbtide.scoring.decoder import Decoder


class Cache:
    """Keys and values of the path to the current node, and room for a chunk behind them."""

    def __init__(self, decoder: "Decoder") -> None:
        self._decoder = decoder
        self._buffers: list[Tensor] = []  # per layer: (2, capacity, key_value_heads, h)
        self.length = 0  # slots of the path

    def reserve(self, size: int) -> None:
        """Make room for `size` slots in all; what is kept stays."""
        if self._buffers and self._buffers[0].shape[1] >= size:
            return
        decoder = self._decoder
        shape = (2, size, decoder.key_value_heads, decoder.head_dim)
        grown = [decoder.embedding.new_empty(shape) for _ in decoder.layers]
        for new, old in zip(grown, self._buffers, strict=False):
            new[:, : self.length] = old[:, : self.length]
        self._buffers = grown

    def append(self, layer: int, key: Tensor, value: Tensor) -> Tensor:
        """Write a chunk's keys and values (n, key_value_heads, h) behind the path; the whole buffer."""
        buffer = self._buffers[layer]
        stop = self.length + len(key)
        buffer[0, self.length : stop] = key
        buffer[1, self.length : stop] = value
        return buffer

    def keep(self, slots: Tensor) -> None:
        """Keep only these slots, in this order: they become the path."""
        kept = [buffer[:, slots.to(buffer.device)] for buffer in self._buffers]  # all, before any is changed
        for buffer, rows in zip(self._buffers, kept, strict=True):
            buffer[:, : len(slots)] = rows
        self.length = len(slots)


class Attention:
    """Attention of a chunk's queries, in blocks that read only the slots they may see."""

    def __init__(self, decoder: "Decoder", chunk: Chunk, cache: Cache) -> None:
        self._decoder, self._chunk, self._cache = decoder, chunk, cache
        self._slots = chunk.slots.to(decoder.embedding.device)  # (b, L)
        self._biases: dict[int | None, Tensor] = {}

    def __call__(self, layer: int, window: int | None, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attended values (n, heads · h) of a layer's queries, keys and values (n, its heads, h)."""
        decoder = self._decoder
        buffer = self._cache.append(layer, key, value)
        blocks, size = self._slots.shape[0], self._chunk.block
        padding = blocks * size - len(query)
        padded = functional.pad(query, (0, 0, 0, 0, 0, padding)) if padding else query
        query_blocks = padded.view(blocks, size, *query.shape[1:]).transpose(1, 2)  # (b, heads, B, h)
        keys, values = buffer[:, self._slots].transpose(2, 3)  # each (b, key_value_heads, L, h)
        bias = self._bias(window)
        if decoder.attention_softcap is None:
            attended = functional.scaled_dot_product_attention(
                query_blocks,
                keys,
                values,
                attn_mask=bias,
                scale=decoder.scale,
                enable_gqa=decoder.heads != decoder.key_value_heads,
            )
        else:
            attended = _capped(decoder.attention_softcap, query_blocks * decoder.scale, keys, values, bias)
        return attended.transpose(1, 2).flatten(2).flatten(0, 1)[: len(query)]

    def _bias(self, window: int | None) -> Tensor:
        """What is added to the scores: (b, 1 or heads, B, L); made once per kind of layer."""
        if window not in self._biases:
            decoder = self._decoder
            sees, distance = self._chunk.sees(window), self._chunk.distance
            bias = torch.zeros(sees.shape, dtype=decoder.embedding.dtype)
            bias = bias.masked_fill_(~sees, -torch.inf)[:, None].to(decoder.embedding.device)
            if decoder.slopes is not None:
                linear = -decoder.slopes[:, None, None] * distance[:, None].to(decoder.slopes)
                bias = bias + linear.to(bias.dtype)
            self._biases[window] = bias
        return self._biases[window]


def _capped(cap: float, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Attention whose scores are squeezed into ± cap (Gemma 2); its softmax runs in float32, as published."""
    repeats = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    scores = cap * torch.tanh(query @ key.transpose(2, 3) / cap) + bias
    return torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype) @ value
