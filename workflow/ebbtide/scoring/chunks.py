"""Chunks of the trie: which nodes are forwarded together, and what each of them may look at.

A chunk is a run of nodes. Its keys and values lie in *slots*: first the path that leads to its first node,
then the chunk's own nodes. Queries are taken in blocks. All that a block of nodes a … b-1 can see is

    the ancestors of a  +  a … b-1

(an ancestor of a later node of the block that comes before a is an ancestor of a, too: nodes are numbered
depth-first), so a block reads a few slots instead of the whole chunk, and long chunks stay cheap.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from ebbtide.scoring.trie import Trie

BLOCK = {"cpu": 64, "cuda": 512}  # queries that are attended together, at least
BLOCKS_PER_PATH = 8  # of the longest path that a block reads, at most: reading may be copying
MAX_SLOT_RATIO = 1.25  # a run of slots up to this times those needed is read whole, without a copy


@dataclass(frozen=True)
class Block:
    """Queries first … last-1 of a chunk, and the slots that they read."""

    first: int
    last: int
    slots: np.ndarray  # (L,) ascending
    run: bool  # whether these are all slots from 0 on, which need no copy


@dataclass(frozen=True)
class Chunk:
    """Nodes start … stop-1 of a trie, behind the path `past` that leads to node `start`."""

    trie: Trie
    past: np.ndarray  # (P,) nodes of the path, by depth
    start: int
    stop: int

    @cached_property
    def nodes(self) -> np.ndarray:
        """The node in each slot: (P + n,)."""
        return np.concatenate([self.past, np.arange(self.start, self.stop)])

    @cached_property
    def token(self) -> torch.Tensor:
        """Tokens (n,)."""
        return torch.from_numpy(self.trie.token[self.start : self.stop])

    @cached_property
    def depth(self) -> torch.Tensor:
        """Positions (n,)."""
        return torch.from_numpy(self.trie.depth[self.start : self.stop])

    @cached_property
    def scored(self) -> torch.Tensor:
        """Rows of the chunk (k,) whose next token is asked for, each once, ascending."""
        first, last = np.searchsorted(self.trie.node, [self.start, self.stop])
        return torch.from_numpy(np.unique(self.trie.node[first:last]) - self.start)

    def blocks(self, device: str) -> list[Block]:
        """The chunk's queries in blocks, for a kind of device."""
        n, past = self.stop - self.start, len(self.past)
        deepest = int(self.trie.depth[self.start : self.stop].max())
        size = max(BLOCK.get(device, BLOCK["cpu"]), deepest // BLOCKS_PER_PATH)
        found = []
        for first in range(0, n, size):
            last = min(first + size, n)
            before = np.flatnonzero(self.trie.end[self.nodes[: past + first]] > self.start + first)
            needed = len(before) + last - first
            run = past + last <= MAX_SLOT_RATIO * needed
            slots = (
                np.arange(past + last)
                if run
                else np.concatenate([before, np.arange(past + first, past + last)])
            )
            found.append(Block(first, last, slots, run))
        return found

    def sees(self, block: Block, window: int | None) -> torch.Tensor:
        """Whether each query of a block sees each slot that the block reads: (B, L)."""
        node = self.nodes[block.slots]
        row = np.arange(self.start + block.first, self.start + block.last)[:, None]
        sees = (node <= row) & (self.trie.end[node] > row)
        if window is not None:
            sees &= self.distance(block).numpy() < window
        return torch.from_numpy(sees)

    def distance(self, block: Block) -> torch.Tensor:
        """How far back each slot lies from each query of a block, in tokens: (B, L)."""
        depth = self.trie.depth
        rows = depth[self.start + block.first : self.start + block.last]
        return torch.from_numpy(rows[:, None] - depth[self.nodes[block.slots]])

    def path_to_next(self) -> np.ndarray:
        """Slots of the path that leads to node `stop`, by depth."""
        return np.flatnonzero(self.trie.end[self.nodes] > self.stop)
