"""Chunks of the trie: which nodes are forwarded together, and what each of them may look at.

A chunk is a run of nodes. Its keys and values lie in *slots*: first the path that leads to its first node,
then the chunk's own nodes. Queries are taken in blocks. All that a block of nodes a … b-1 can see is

    the ancestors of a  +  a … b-1

(an ancestor of a later node of the block that comes before a is an ancestor of a, too: nodes are numbered
depth-first), so a block reads a few slots instead of the whole chunk, and long chunks stay cheap.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ebbtide.scoring.trie import Trie

if TYPE_CHECKING:
    import torch

BLOCK = 64  # queries that are attended together, at least
DEEP = 8  # a block is no shorter than a DEEPth of the longest path it reads: reading is copying


@dataclass(frozen=True)
class Chunk:
    """Nodes start … stop-1 of a trie, behind the path `past` that leads to node `start`."""

    trie: Trie
    past: np.ndarray  # (P,) nodes of the path, by depth
    start: int
    stop: int

    @cached_property
    def block(self) -> int:
        """Queries that are attended together."""
        deepest = int(self.trie.depth[self.start : self.stop].max())
        return min(max(BLOCK, deepest // DEEP), self.stop - self.start)

    @property
    def nodes(self) -> np.ndarray:
        """The node in each slot: (P + n,)."""
        return np.concatenate([self.past, np.arange(self.start, self.stop)])

    @cached_property
    def token(self) -> "torch.Tensor":
        """Tokens (n,)."""
        return _tensor(self.trie.token[self.start : self.stop])

    @cached_property
    def depth(self) -> "torch.Tensor":
        """Positions (n,)."""
        return _tensor(self.trie.depth[self.start : self.stop])

    @cached_property
    def scored(self) -> "torch.Tensor":
        """Rows of the chunk (k,) whose next token is asked for, each once, ascending."""
        first, last = np.searchsorted(self.trie.node, [self.start, self.stop])
        return _tensor(np.unique(self.trie.node[first:last]) - self.start)

    @cached_property
    def slots(self) -> "torch.Tensor":
        """Slots that each block reads: (b, L); short lists are filled up with slot 0, which `sees` hides."""
        return _tensor(np.where(self._read < 0, 0, self._read))

    @cached_property
    def _read(self) -> np.ndarray:
        """`slots` with -1 where a list has ended."""
        nodes, n, past = self.nodes, self.stop - self.start, len(self.past)
        lists = []
        for first in range(0, n, self.block):
            node = self.start + first
            before = np.flatnonzero(self.trie.end[nodes[: past + first]] > node)
            lists.append(np.concatenate([before, past + np.arange(first, min(first + self.block, n))]))
        read = np.full((len(lists), max(map(len, lists))), -1)
        for row, slots in zip(read, lists, strict=True):
            row[: len(slots)] = slots
        return read

    @cached_property
    def _rows(self) -> np.ndarray:
        """Nodes whose queries are in each block: (b, B); the last is repeated where the chunk has ended."""
        rows = np.arange(self.start, self.start + len(self._read) * self.block)
        return np.minimum(rows, self.stop - 1).reshape(-1, self.block)

    @cached_property
    def distance(self) -> "torch.Tensor":
        """How far back each slot lies from each query of its block, in tokens: (b, B, L)."""
        depth = self.trie.depth
        return _tensor(depth[self._rows][:, :, None] - depth[self.nodes[self._read]][:, None, :])

    def sees(self, window: int | None) -> "torch.Tensor":
        """Whether each query sees each slot that its block reads: (b, B, L)."""
        node, row = self.nodes[self._read][:, None, :], self._rows[:, :, None]
        sees = (self._read >= 0)[:, None, :] & (node <= row) & (self.trie.end[node] > row)
        if window is not None:
            sees &= self.distance.numpy() < window
        return _tensor(sees)

    def path_to_next(self) -> np.ndarray:
        """Slots of the path that leads to node `stop`, by depth."""
        return np.flatnonzero(self.trie.end[self.nodes] > self.stop)


def _tensor(array: np.ndarray) -> "torch.Tensor":
    import torch

    return torch.from_numpy(np.ascontiguousarray(array))
