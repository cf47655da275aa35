"""Attention of the newest token of each row: to the segments of its prompt, and to the row's own tokens.

    row   columns of the scores
    0     [prompt A                 ] [own …        ]
    1     [prompt A                 ] [own …   ]          rows of a prompt multiply its keys together
    2     [prompt B     ]             [own …           ]  masked: the gap before, and the end

One softmax spans all columns of a row.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ebbtide.scoring.attention import Heads, softmax
from ebbtide.scoring.generation.prefill import Segment

GROWTH = 32  # own tokens for which memory is reserved at a time


class RowCache:
    """Keys and values of the own tokens of each row, and the segments of its prompt.

    `capacity` is the largest number of rows.
    """

    def __init__(self, decoder: Heads, capacity: int) -> None:
        shape = (2, capacity, decoder.key_value_heads, 0, decoder.head_dim)
        # Per layer: (2, capacity, key_value_heads, own tokens, h).
        self.buffers = [decoder.embedding.new_empty(shape) for _ in decoder.layers]
        self.segments: list[tuple[Segment, ...]] = []  # of each row
        self.own: list[int] = []  # number of own tokens of each row

    def enter(self, segments: tuple[Segment, ...], own: Segment | None, count: int) -> None:
        """Append rows with these segments; those of `own` become their first own tokens."""
        size = 0 if own is None else len(own)
        self.reserve(size)
        if own is not None:
            rows = slice(len(self.own), len(self.own) + count)
            for buffer, tensor in zip(self.buffers, own.tensors, strict=True):
                buffer[:, rows, :, :size] = tensor[:, None]
        self.segments += [segments] * count
        self.own += [size] * count

    def keep(self, rows: Sequence[int]) -> None:
        """Keep only these rows, in this order."""
        moved = [(to, row) for to, row in enumerate(rows) if to != row]
        if moved:
            longest = max(self.own[row] for _, row in moved)
            device = self.buffers[0].device
            to, source = (torch.tensor(places, device=device) for places in zip(*moved, strict=True))
            for buffer in self.buffers:
                buffer[:, to, :, :longest] = buffer[:, source, :, :longest]
        self.segments = [self.segments[row] for row in rows]
        self.own = [self.own[row] for row in rows]

    def reserve(self, own: int) -> None:
        """Grow to at least this many own tokens of a row."""
        reserved = self.buffers[0].shape[3]
        if reserved >= own:
            return
        for layer, buffer in enumerate(self.buffers):
            shape = [*buffer.shape]
            shape[3] = -(-own // GROWTH) * GROWTH
            self.buffers[layer] = buffer.new_zeros(shape)  # what is masked must be finite
            self.buffers[layer][:, :, :, :reserved] = buffer


class RowAttention:
    """Attention of one new token per row."""

    def __init__(self, decoder: Heads, cache: RowCache) -> None:
        self._decoder, self._cache = decoder, cache
        device = decoder.embedding.device
        shared = [sum(map(len, segments)) for segments in cache.segments]
        self._own = torch.tensor(cache.own, device=device)  # (B,)
        self._shared = torch.tensor(shared, device=device)  # (B,)
        self._gap, self._longest = max(shared), max(cache.own) + 1  # columns of segments, and of own tokens
        self._rows = torch.arange(len(cache.own), device=device)
        self._groups = self._grouped()
        self._biases: dict[int | None, Tensor] = {}
        cache.reserve(self._longest)

    @property
    def depth(self) -> Tensor:
        """Position (B,) of the new token of each row."""
        return self._shared + self._own

    def _grouped(self) -> list[tuple[Segment, Tensor]]:
        """Each segment with the rows that read it."""
        rows: dict[Segment, list[int]] = {}
        for row, segments in enumerate(self._cache.segments):
            for segment in segments:
                rows.setdefault(segment, []).append(row)
        return [(segment, torch.tensor(own, device=self._rows.device)) for segment, own in rows.items()]

    def __call__(self, layer: int, window: int | None, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Output (B, heads · h) for queries (B, heads, h), keys and values (B, key_value_heads, h)."""
        decoder, buffer = self._decoder, self._cache.buffers[layer]
        count, groups, size = len(query), decoder.key_value_heads, decoder.head_dim
        buffer[0, self._rows, :, self._own] = key
        buffer[1, self._rows, :, self._own] = value
        own_keys, own_values = buffer[:, :count, :, : self._longest]  # each (B, groups, t, h)
        query = query.view(count, groups, -1, size) * decoder.scale  # (B, groups, heads of a group, h)

        scores = query.new_zeros(*query.shape[:3], self._gap + self._longest)
        for segment, rows in self._groups:
            keys = segment.tensors[layer][0]  # (groups, n, h)
            found = _together(query[rows]) @ keys.transpose(1, 2)
            scores[rows, :, :, segment.start : segment.start + len(segment)] = _apart(found, len(rows))
        scores[..., self._gap :] = query @ own_keys.transpose(2, 3)
        if (cap := decoder.attention_softcap) is not None:
            scores = cap * torch.tanh(scores / cap)
        scores += self._bias(window)
        weights = softmax(scores)

        output: Tensor = weights[..., self._gap :] @ own_values
        for segment, rows in self._groups:
            values = segment.tensors[layer][1]
            part = weights[rows, :, :, segment.start : segment.start + len(segment)]
            output[rows] += _apart(_together(part) @ values, len(rows))
        return output.view(count, -1)

    def _bias(self, window: int | None) -> Tensor:
        """Additive mask (B, 1 or groups, 1 or heads of a group, columns); computed once per window size."""
        if window not in self._biases:
            self._biases[window] = self._bias_of(window)
        return self._biases[window]

    def _bias_of(self, window: int | None) -> Tensor:
        column = torch.arange(self._gap + self._longest, device=self._rows.device)
        is_own, shared = column >= self._gap, self._shared[:, None]
        position = torch.where(is_own, column - self._gap + shared, column)  # (B, columns)
        distance = self.depth[:, None] - position
        visible = (distance >= 0) & (is_own | (column < shared))
        if window is not None:
            visible &= distance < window
        bias = torch.zeros_like(visible, dtype=self._decoder.embedding.dtype)
        bias = bias.masked_fill_(~visible, -torch.inf)[:, None, None]
        slopes = self._decoder.slopes
        if slopes is None:
            return bias
        own = slopes.view(self._decoder.key_value_heads, -1, 1)
        return bias - (own * distance[:, None, None].to(slopes)).to(bias.dtype)


def _together(rows: Tensor) -> Tensor:
    """(m, groups, r, x) of the rows of a segment as (groups, m · r, x), to multiply its keys together."""
    return rows.transpose(0, 1).flatten(1, 2)


def _apart(found: Tensor, count: int) -> Tensor:
    """The inverse of `_together`, for `count` rows."""
    return found.view(len(found), count, -1, found.shape[2]).transpose(0, 1)
