"""Chunks of the trie: the nodes of one forward pass, and the attention mask of each.

A chunk is a range of consecutive nodes. Its keys and values are in *slots*: first the path that leads to its
first node, then the chunk's own nodes. Queries are processed in groups. A group of nodes a … b-1 sees only

    the ancestors of a  +  a … b-1

because nodes are numbered depth-first: an ancestor before a of any node of the group is also an ancestor of
a. A group therefore reads few slots instead of the whole chunk, and long chunks stay cheap. On a CPU, each
group is a block of its own. On a GPU, where launches would cost more than the work, all groups are one
block: their slots are padded to one length, and a layer attends in one call.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ebbtide.scoring.trie import Trie

CPU = torch.device("cpu")
GROUP = {"cpu": 64, "cuda": 256}  # minimum number of queries per group
SEPARATE = frozenset({"cpu"})  # where each group is a block; elsewhere all groups are one
GROUPS_PER_PATH = 8  # most groups per longest path, because each group may copy its path
MAX_SLOT_RATIO = 1.25  # a contiguous range up to this times the needed slots is read whole, without a copy
# The length of padded groups is a multiple: planning the fastest kernel for another length takes 0.1 s.
ALIGNED = 128


def group_size(device: str) -> int:
    """Minimum number of queries per group on a device type."""
    return GROUP.get(device, GROUP["cuda"])


def on_device(arrays: Sequence[np.ndarray], device: torch.device) -> list[Tensor]:
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
    """Queries first … last-1 of a chunk in G groups of B (the last may have fewer), and the slots they read.

    A group without padding reads L slots. Methods return what attention multiplies: padded, grouped tensors.
    """

    first: int
    last: int
    slots: slice | Tensor  # of one group: all slots from 0, which need no copy; else (G, L) on the device
    lengths: Tensor | None = None  # (G,) slots that are not padding; None: all

    @property
    def groups(self) -> int:
        """G."""
        return 1 if isinstance(self.slots, slice) else len(self.slots)

    @property
    def size(self) -> int:
        """B."""
        return -(-(self.last - self.first) // self.groups)

    def group(self, rows: Tensor) -> Tensor:
        """The block's rows of a chunk's tensor (n, …) as (G, B, …); missing rows are zero."""
        own, missing = rows[self.first : self.last], self.groups * self.size - (self.last - self.first)
        if missing:
            own = functional.pad(own, (*[0, 0] * (own.dim() - 1), 0, missing))
        return own.view(self.groups, self.size, *own.shape[1:])

    def ungroup(self, grouped: Tensor) -> Tensor:
        """The block's rows (last - first, …) of a tensor (G, B, …)."""
        return grouped.flatten(0, 1)[: self.last - self.first]

    def read(self, slots: Tensor) -> Tensor:
        """What each group reads of a tensor with one row per slot: (G, L, …)."""
        return slots[self.slots][None] if isinstance(self.slots, slice) else slots[self.slots]


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
    def token(self) -> Tensor:
        """Tokens (n,)."""
        return self._tensors[0]

    @property
    def depth(self) -> Tensor:
        """Positions (n,)."""
        return self._tensors[1][len(self.past) :]

    @property
    def scored(self) -> Tensor:
        """`scored_rows` on the device."""
        return self._tensors[4]

    @cached_property
    def _ends(self) -> np.ndarray:
        """One past the last node below the node in each slot: (P + n,)."""
        return np.asarray(self.trie.end[self.nodes])

    @cached_property
    def _tensors(self) -> list[Tensor]:
        """Tokens (n,); depth, node and end of each slot (P + n,); scored rows (k,)."""
        token = self.trie.token[self.start : self.stop]
        arrays = (token, self.trie.depth[self.nodes], self.nodes, self._ends, self.scored_rows)
        return on_device([array.astype(np.int64) for array in arrays], self.device)

    def blocks(self) -> list[Block]:
        """The chunk's queries in blocks."""
        n, past = self.stop - self.start, len(self.past)
        deepest = int(self.trie.depth[self.start : self.stop].max())
        size = max(group_size(self.device.type), deepest // GROUPS_PER_PATH)
        if self.device.type not in SEPARATE and n > size:
            return [self._one_block(-(-n // -(-n // size)))]
        spans = [(first, min(first + size, n)) for first in range(0, n, size)]
        copied: dict[int, np.ndarray] = {}  # first query of a block → its slots, unless it reads all
        for first, last in spans:
            seen = self._seen(first, last)
            if past + last > MAX_SLOT_RATIO * len(seen):
                copied[first] = seen
        tensors = dict(zip(copied, on_device([*copied.values()], self.device), strict=True))
        return [
            Block(first, last, tensors[first][None] if first in tensors else slice(past + last))
            for first, last in spans
        ]

    def _one_block(self, size: int) -> Block:
        """All queries in groups of this size."""
        n = self.stop - self.start
        seen = [self._seen(first, min(first + size, n)) for first in range(0, n, size)]
        lengths = np.array([len(slots) for slots in seen])
        longest = -(-int(lengths.max()) // ALIGNED) * ALIGNED
        table = np.zeros((len(seen), longest), dtype=np.int64)  # slot 0 is always filled, and masked
        for row, slots in zip(table, seen, strict=True):
            row[: len(slots)] = slots
        on_gpu = on_device([table.ravel(), lengths], self.device)
        return Block(0, n, on_gpu[0].view(table.shape), on_gpu[1])

    def _seen(self, first: int, last: int) -> np.ndarray:
        """Slots that queries first … last-1 see, ascending."""
        past = len(self.past)
        before = np.flatnonzero(self._ends[: past + first] > self.start + first)
        return np.concatenate([before, np.arange(past + first, past + last)])

    def mask(self, block: Block, window: int | None) -> Tensor:
        """Boolean attention mask (G, B, L): whether each query of a block attends to each slot of its group.

        A missing query sees what the last one sees, so that no row is without a slot.
        """
        row = torch.arange(block.first, block.first + block.groups * block.size, device=self.device)
        row = (row.clamp(max=block.last - 1) + self.start).view(block.groups, block.size, 1)
        node, end = (block.read(slots)[:, None] for slots in self._tensors[2:4])  # each (G, 1, L)
        visible = (node <= row) & (end > row)
        if block.lengths is not None:
            visible &= torch.arange(node.shape[2], device=self.device) < block.lengths[:, None, None]
        if window is not None:
            visible &= self.distance(block) < window
        return visible

    def distance(self, block: Block) -> Tensor:
        """Distance in tokens from each query of a block back to each slot of its group: (G, B, L)."""
        return block.group(self.depth)[:, :, None] - block.read(self._tensors[1])[:, None]

    def whole(self) -> Block:
        """All queries and all slots as one group."""
        return Block(0, self.stop - self.start, slice(len(self.past) + self.stop - self.start))

    def path_to_next(self) -> np.ndarray:
        """Slots of the path that leads to node `stop`, by depth."""
        return np.flatnonzero(self._ends > self.stop)
