"""Chunks of the trie: the nodes of one forward pass, and the attention mask of each.

A chunk is a range of consecutive nodes. Its keys and values are in *slots*: first the path that leads to its
first node, then the chunk's own nodes. Queries are processed in blocks. A block of nodes a … b-1 sees only

    the ancestors of a  +  a … b-1

because nodes are numbered depth-first: an ancestor before a of any node of the block is also an ancestor of
a. A block therefore reads few slots instead of the whole chunk, and long chunks stay cheap.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from ebbtide.scoring.trie import Trie

CPU = torch.device("cpu")
BLOCK = {"cpu": 64}  # minimum number of queries per block; without an entry, see `block_size`
# On a GPU, a block costs a few launches per layer (about 30 µs), and each of its queries reads all slots of
# the block: 4 · width FLOP per slot and layer, at about 1e14 FLOP/s with a mask. The sum of the two is lowest
# for blocks of sqrt(BALANCE / width) queries, whatever the number of layers. Not yet measured on a GPU.
BALANCE = 30e-6 * 1e14 / 4
BLOCK_RANGE = (256, 2048)
BLOCKS_PER_PATH = 8  # most blocks per longest path, because each block may copy its path
MAX_SLOT_RATIO = 1.25  # a contiguous range up to this times the needed slots is read whole, without a copy


def block_size(device: str, width: int) -> int:
    """Minimum number of queries per block on a device type, for a model of this width (hidden size)."""
    if device in BLOCK:
        return BLOCK[device]
    return min(max(BLOCK_RANGE[0], round(math.sqrt(BALANCE / width))), BLOCK_RANGE[1])


def on_device(arrays: Sequence[np.ndarray], device: torch.device) -> list[torch.Tensor]:
    """Arrays of one type as tensors on a device: on a CPU without a copy, on a GPU in one transfer.

    The transfer comes from pinned memory, so that neither the host nor the GPU waits for it.
    """
    if device.type == "cpu" or not arrays:
        return [torch.from_numpy(array) for array in arrays]
    joined = torch.from_numpy(np.concatenate(arrays))
    if device.type == "cuda":
        joined = joined.pin_memory()
    return list(torch.split(joined.to(device, non_blocking=True), [len(array) for array in arrays]))


@dataclass(frozen=True)
class Block:
    """Queries first … last-1 of a chunk, and the slots that they read."""

    first: int
    last: int
    slots: slice | torch.Tensor  # all slots from 0, which need no copy, or (L,) ascending on the device


@dataclass(frozen=True)
class Chunk:
    """Nodes start … stop-1 of a trie, after the path `past` that leads to node `start`.

    Tensors are on `device`, and so are masks: they are computed there, from the nodes of the slots.
    """

    trie: Trie
    past: np.ndarray  # (P,) nodes of the path, by depth
    start: int
    stop: int
    device: torch.device = CPU

    @cached_property
    def nodes(self) -> np.ndarray:
        """The node in each slot: (P + n,)."""
        return np.concatenate([self.past, np.arange(self.start, self.stop)])

    @cached_property
    def scored_rows(self) -> np.ndarray:
        """Rows of the chunk (k,) whose next token is scored; unique, ascending."""
        return np.unique(self.trie.node[self.trie.targets_of(self.start, self.stop)]).astype(int) - self.start

    @property
    def token(self) -> torch.Tensor:
        """Tokens (n,)."""
        return self._tensors[0]

    @property
    def depth(self) -> torch.Tensor:
        """Positions (n,)."""
        return self._tensors[1][len(self.past) :]

    @property
    def scored(self) -> torch.Tensor:
        """`scored_rows` on the device."""
        return self._tensors[4]

    @cached_property
    def _ends(self) -> np.ndarray:
        """One past the last node below the node in each slot: (P + n,)."""
        return np.asarray(self.trie.end[self.nodes])

    @cached_property
    def _tensors(self) -> list[torch.Tensor]:
        """Tokens (n,); depth, node and end of each slot (P + n,); scored rows (k,)."""
        token = self.trie.token[self.start : self.stop]
        arrays = (token, self.trie.depth[self.nodes], self.nodes, self._ends, self.scored_rows)
        return on_device([array.astype(np.int64) for array in arrays], self.device)

    def blocks(self, width: int) -> list[Block]:
        """The chunk's queries in blocks, for a model of this width (hidden size)."""
        n, past = self.stop - self.start, len(self.past)
        deepest = int(self.trie.depth[self.start : self.stop].max())
        size = max(block_size(self.device.type, width), deepest // BLOCKS_PER_PATH)
        gathered: dict[int, np.ndarray] = {}  # first query of a block → its slots, unless it reads all
        for first in range(0, n, size):
            last = min(first + size, n)
            before = np.flatnonzero(self._ends[: past + first] > self.start + first)
            if past + last > MAX_SLOT_RATIO * (len(before) + last - first):
                gathered[first] = np.concatenate([before, np.arange(past + first, past + last)])
        copied = dict(zip(gathered, on_device([*gathered.values()], self.device), strict=True))
        spans = ((first, min(first + size, n)) for first in range(0, n, size))
        return [Block(first, last, copied.get(first, slice(past + last))) for first, last in spans]

    def mask(self, block: Block, window: int | None) -> torch.Tensor:
        """Boolean attention mask (B, L): whether each query of a block attends to each slot of the block."""
        row = torch.arange(self.start + block.first, self.start + block.last, device=self.device)[:, None]
        node, end = self._tensors[2][block.slots], self._tensors[3][block.slots]
        visible = (node <= row) & (end > row)
        if window is not None:
            visible &= self.distance(block) < window
        return visible

    def distance(self, block: Block) -> torch.Tensor:
        """Distance in tokens from each query of a block back to each slot: (B, L)."""
        return self.depth[block.first : block.last, None] - self._tensors[1][block.slots]

    def whole(self) -> Block:
        """All queries and all slots as one block."""
        return Block(0, self.stop - self.start, slice(len(self.past) + self.stop - self.start))

    def path_to_next(self) -> np.ndarray:
        """Slots of the path that leads to node `stop`, by depth."""
        return np.flatnonzero(self._ends > self.stop)
