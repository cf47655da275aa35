"""Chunks of the trie: each query sees its own past, and blocks read little else."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ebbtide.scoring import chunks
from ebbtide.scoring.chunks import Block, Chunk
from ebbtide.scoring.encoded import Encoded, Requests
from ebbtide.scoring.trie import Trie
from scoring_reference import drawn


def ancestors(trie: Trie, node: int) -> list[int]:
    """The path to a node and itself, by the definition."""
    return [a for a in range(node + 1) if trie.end[a] > node]


def slots_of(chunk: Chunk, block: Block) -> np.ndarray:
    """The node in each slot that a block reads: (G, L)."""
    return block.read(torch.from_numpy(chunk.nodes)).numpy()


def walk(trie: Trie, size: int) -> list[Chunk]:
    """The chunks of a trie, each behind the path that the one before left."""
    found, past = [], np.zeros(0, dtype=np.int64)
    for start in range(0, len(trie), size):
        chunk = Chunk(trie, past, start, min(start + size, len(trie)))
        found.append(chunk)
        past = chunk.nodes[chunk.path_to_next()]
    return found


@given(
    requests=drawn(min_size=1, max_size=15),
    size=st.integers(1, 40),
    group=st.integers(1, 9),
    window=st.sampled_from([None, 1, 3]),
    separate=st.booleans(),
)
def test_a_query_sees_its_own_past(
    requests: Requests, size: int, group: int, window: int | None, separate: bool
) -> None:
    trie = requests.trie
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(chunks.GROUP, "cpu", group)
        patch.setattr(chunks, "SEPARATE", {"cpu"} if separate else set())
        for chunk in walk(trie, size):
            rows = 0
            for block in chunk.blocks():
                assert block.first == rows
                rows = block.last
                visible, distance = chunk.mask(block, window), chunk.distance(block)
                assert visible.shape[:2] == (block.groups, block.size)
                assert visible.any(dim=2).all()  # the softmax of a row without a slot is no number
                slots = torch.from_numpy(slots_of(chunk, block))[:, None].expand_as(visible)
                own = [block.ungroup(tensor).numpy() for tensor in (visible, distance, slots)]
                for row, (seen, back, node) in zip(
                    range(block.first, block.last), zip(*own, strict=True), strict=True
                ):
                    expected = ancestors(trie, chunk.start + row)[-window if window else None :]
                    assert node[seen].tolist() == expected
                    assert back[seen].tolist() == list(reversed(range(len(expected))))
            assert rows == chunk.stop - chunk.start


@given(rows=st.integers(1, 30), groups=st.integers(1, 5), width=st.integers(1, 3))
def test_rows_are_grouped_and_ungrouped(rows: int, groups: int, width: int) -> None:
    block = Block(2, 2 + rows, torch.zeros(groups, 1, dtype=torch.long) if groups > 1 else slice(1))
    table = torch.randn(rows + 5, width)
    grouped = block.group(table)
    assert grouped.shape == (groups, block.size, width)
    assert block.ungroup(grouped).equal(table[2 : 2 + rows])


@given(requests=drawn(min_size=1, max_size=15), size=st.integers(1, 40))
def test_the_path_to_the_next_chunk_is_kept(requests: Requests, size: int) -> None:
    trie = requests.trie
    for chunk in walk(trie, size):
        expected = ancestors(trie, chunk.start)[:-1]
        assert chunk.past.tolist() == expected
        wanted = sorted({n - chunk.start for n in trie.node.tolist() if chunk.start <= n < chunk.stop})
        assert chunk.scored.tolist() == wanted


def test_branches_read_their_stem_and_not_each_other() -> None:
    stem = tuple(range(20))
    requests = Requests.of([Encoded((*stem, 30 + branch, *([1] * 63), 2), 20, False) for branch in range(8)])
    [chunk] = walk(requests.trie, 1000)
    blocks = chunk.blocks()
    assert len(blocks) == 9
    # of the 532 nodes of the chunk
    assert max(slots_of(chunk, block).size for block in blocks) <= 20 + 2 * 64
    assert [isinstance(block.slots, slice) for block in blocks] == [True, True, *[False] * 7]


def test_a_long_document_is_read_as_it_lies_in_longer_blocks() -> None:
    document = tuple(i % 7 for i in range(4097))
    trie = Requests.of([Encoded(document, 1, False)]).trie
    for chunk, depth in zip(walk(trie, 2048), (2047, 4095), strict=True):
        blocks = chunk.blocks()
        assert blocks[0].last == depth // chunks.GROUPS_PER_PATH
        assert all(isinstance(block.slots, slice) for block in blocks)


def test_on_a_gpu_all_groups_are_one_block_and_read_little_else() -> None:
    """A layer attends in one call, whatever the number of groups."""
    stem = tuple(range(20))
    requests = Requests.of([Encoded((*stem, 30 + branch, *([1] * 255), 2), 20, False) for branch in range(8)])
    [chunk] = walk(requests.trie, 10_000)
    [block] = Chunk(chunk.trie, chunk.past, chunk.start, chunk.stop, torch.device("meta")).blocks()
    assert (block.first, block.last) == (0, len(requests.trie))
    assert block.groups == -(-len(requests.trie) // chunks.GROUP["cuda"])
    assert not isinstance(block.slots, slice)
    assert block.slots.shape[1] <= 20 + 2 * chunks.GROUP["cuda"]
    assert block.slots.shape[1] % chunks.ALIGNED == 0


def test_masks_are_computed_where_the_chunk_is() -> None:
    """No value of a mask comes from the host: on the meta device there are shapes only."""
    trie = Requests.of([Encoded((1, 2, 3, i, 5), 2, False) for i in range(6)]).trie
    chunk = Chunk(trie, np.zeros(0, dtype=np.int64), 0, len(trie), torch.device("meta"))
    for block in (*chunk.blocks(), chunk.whole()):
        for tensor in (chunk.mask(block, None), chunk.mask(block, 2), chunk.distance(block)):
            assert (tensor.device.type, tensor.shape) == ("meta", (1, len(trie), len(trie)))
    assert {t.device.type for t in (chunk.token, chunk.depth, chunk.scored)} == {"meta"}
