"""Chunks of the trie: the nodes of one forward pass, and the attention mask of each.

A chunk is a range of consecutive nodes. Its keys and values are in *slots*: first the path that leads to its
first node, then the chunk's own nodes. Queries are processed in blocks. A block of nodes a … b-1 sees only

    the ancestors of a  +  a … b-1

because nodes are numbered depth-first: an ancestor before a of any node of the block is also an ancestor of
a. A block therefore reads few slots instead of the whole chunk, and long chunks stay cheap.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from ebbtide.scoring.trie import Trie

BLOCK = {"cpu": 64, "cuda": 512}  # minimum number of queries per block
BLOCKS_PER_PATH = 8  # most blocks per longest path, because each block may copy its path
MAX_SLOT_RATIO = 1.25  # a contiguous range up to this times the needed slots is read whole, without a copy


@dataclass(frozen=True)
class Block:
    """Queries first … last-1 of a chunk, and the slots that they read."""

    first: int
    last: int
    slots: np.ndarray  # (L,) ascending
    run: bool  # whether these are all slots from 0, which need no copy


@dataclass(frozen=True)
class Chunk:
    """Nodes start … stop-1 of a trie, after the path `past` that leads to node `start`."""

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
        """Rows of the chunk (k,) whose next token is scored; unique, ascending."""
        first, last = np.searchsorted(self.trie.node, [self.start, self.stop])
        return torch.from_numpy(np.unique(self.trie.node[first:last]) - self.start)

    def blocks(self, device: str) -> list[Block]:
        """The chunk's queries in blocks for a device type (`cpu`, `cuda`)."""
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

    def mask(self, block: Block, window: int | None) -> torch.Tensor:
        """Boolean attention mask (B, L): whether each query of a block attends to each slot of the block."""
        node = self.nodes[block.slots]
        row = np.arange(self.start + block.first, self.start + block.last)[:, None]
        visible = (node <= row) & (self.trie.end[node] > row)
        if window is not None:
            visible &= self.distance(block).numpy() < window
        return torch.from_numpy(visible)

    def distance(self, block: Block) -> torch.Tensor:
        """Distance in tokens from each query of a block back to each slot: (B, L)."""
        depth = self.trie.depth
        rows = depth[self.start + block.first : self.start + block.last]
        return torch.from_numpy(rows[:, None] - depth[self.nodes[block.slots]])

    def path_to_next(self) -> np.ndarray:
        """Slots of the path that leads to node `stop`, by depth."""
        return np.flatnonzero(self.trie.end[self.nodes] > self.stop)
