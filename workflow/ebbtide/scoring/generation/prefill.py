"""Forward prompts once, with what they share once, and keep their keys and values in shared segments.

    prompts   the old child      the ─ old ┬ child     segments   [the old] [child]
              the old house                └ house                [the old] [house]

A segment is a part of a path of the prefix trie between branches. All rows that continue below it read the
same keys and values. Short parts are copied into each segment below them, because a segment costs a few
calls per layer.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from ebbtide.scoring.attention import Cache
from ebbtide.scoring.chunks import Chunk, on_device
from ebbtide.scoring.decoder import Decoder
from ebbtide.scoring.trie import Trie

SHORTEST = 16  # tokens of a segment that others follow


@dataclass(frozen=True, eq=False)
class Segment:
    """Keys and values of consecutive tokens."""

    start: int  # position of the first
    tensors: list[Tensor]  # per layer: (2, key_value_heads, n, h)

    def __len__(self) -> int:
        """Number of tokens."""
        return int(self.tensors[0].shape[2])


def prefill(
    decoder: Decoder, trie: Trie, size: int
) -> Iterator[tuple[int, np.ndarray, Tensor, list[tuple[Segment, ...]]]]:
    """Forward a trie of prompts, `size` tokens at a time.

    Yields after each pass: its number of tokens; of the prompts that end in it, their indices (k,), the
    hidden states (k, d) of their last tokens, and their segments.
    """
    cache, past = Cache(decoder), np.zeros(0, dtype=np.int64)
    device = decoder.embedding.device
    known: WeakValueDictionary[tuple[int, int], Segment] = WeakValueDictionary()
    for start in range(0, len(trie), size):
        stop = min(start + size, len(trie))
        chunk = Chunk(trie, past, start, stop, device)
        with torch.inference_mode():
            cache.reserve(len(past) + stop - start)
            hidden = decoder.forward(chunk, cache)  # of nodes where a prompt ends
            found = [
                _segments(trie, chunk.nodes, start + row, cache, known) for row in chunk.scored_rows.tolist()
            ]
            path = chunk.path_to_next()
            cache.keep(*on_device([path], device))
        past = chunk.nodes[path]
        yield stop - start, trie.request[trie.targets_of(start, stop)], hidden, found


def _segments(
    trie: Trie,
    nodes: np.ndarray,
    node: int,
    cache: Cache,
    known: "WeakValueDictionary[tuple[int, int], Segment]",
) -> tuple[Segment, ...]:
    """Segments of the path to a node, from the cache with these nodes in its slots."""
    slots = np.flatnonzero((nodes <= node) & (trie.end[nodes] > node))
    path = nodes[slots]
    segments = []
    start = 0
    for stop in [*_branches(trie, path), len(path)]:
        if stop < len(path) and stop - start < SHORTEST:
            continue
        key = (start, int(path[stop - 1]))
        segment = known.get(key)
        if segment is None:
            segment = known[key] = Segment(start, cache.read(torch.from_numpy(slots[start:stop])))
        segments.append(segment)
        start = stop
    return tuple(segments)


def _branches(trie: Trie, path: np.ndarray) -> list[int]:
    """Depths on a path (of nodes) before which it leaves other paths."""
    only = (np.diff(path) == 1) & (trie.end[path[1:]] == trie.end[path[:-1]])
    return (np.flatnonzero(~only) + 1).tolist()
