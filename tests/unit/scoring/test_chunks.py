"""Chunks of the trie: each query sees its own past, and blocks read little else."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ebbtide.scoring import chunks
from ebbtide.scoring.chunks import Block, Chunk, block_size
from ebbtide.scoring.encoded import Encoded, Requests
from ebbtide.scoring.trie import Trie
from scoring_reference import drawn

WIDTH = 64  # of the model; on a CPU it does not matter


def ancestors(trie: Trie, node: int) -> list[int]:
    """The path to a node and itself, by the definition."""
    return [a for a in range(node + 1) if trie.end[a] > node]


def slots_of(chunk: Chunk, block: Block) -> np.ndarray:
    """The node in each slot that a block reads."""
    return torch.from_numpy(chunk.nodes)[block.slots].numpy()


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
    block=st.integers(1, 9),
    window=st.sampled_from([None, 1, 3]),
)
def test_a_query_sees_its_own_past(requests: Requests, size: int, block: int, window: int | None) -> None:
    trie = requests.trie
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(chunks.BLOCK, "cpu", block)
        for chunk in walk(trie, size):
            rows = 0
            for part in chunk.blocks(WIDTH):
                assert part.first == rows
                rows = part.last
                visible, distance = chunk.mask(part, window).numpy(), chunk.distance(part).numpy()
                for i, row in enumerate(range(part.first, part.last)):
                    seen = slots_of(chunk, part)[visible[i]].tolist()
                    expected = ancestors(trie, chunk.start + row)[-window if window else None :]
                    assert seen == expected
                    assert distance[i][visible[i]].tolist() == list(reversed(range(len(expected))))
            assert rows == chunk.stop - chunk.start


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
    blocks = chunk.blocks(WIDTH)
    assert len(blocks) == 9
    # of the 532 nodes of the chunk
    assert max(len(slots_of(chunk, block)) for block in blocks) <= 20 + 2 * 64
    assert [isinstance(block.slots, slice) for block in blocks] == [True, True, *[False] * 7]


def test_a_long_document_is_read_as_it_lies_in_longer_blocks() -> None:
    document = tuple(i % 7 for i in range(4097))
    trie = Requests.of([Encoded(document, 1, False)]).trie
    for chunk, depth in zip(walk(trie, 2048), (2047, 4095), strict=True):
        blocks = chunk.blocks(WIDTH)
        assert blocks[0].last == depth // chunks.BLOCKS_PER_PATH
        assert all(isinstance(block.slots, slice) for block in blocks)


def test_a_gpu_gets_larger_blocks_for_narrow_models() -> None:
    """A launch costs the same for every width, and reading further slots costs more in wide ones."""
    sizes = [block_size("cuda", width) for width in (64, 512, 1024, 2048, 8192)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == chunks.BLOCK_RANGE[1]
    assert sizes[-1] >= chunks.BLOCK_RANGE[0]
    assert {block_size("cpu", width) for width in (64, 8192)} == {chunks.BLOCK["cpu"]}


def test_masks_are_computed_where_the_chunk_is() -> None:
    """No value of a mask comes from the host: on the meta device there are shapes only."""
    trie = Requests.of([Encoded((1, 2, 3, i, 5), 2, False) for i in range(6)]).trie
    chunk = Chunk(trie, np.zeros(0, dtype=np.int64), 0, len(trie), torch.device("meta"))
    for block in (*chunk.blocks(WIDTH), chunk.whole()):
        for tensor in (chunk.mask(block, None), chunk.mask(block, 2), chunk.distance(block)):
            assert (tensor.device.type, tensor.shape) == ("meta", (len(trie), len(trie)))
    assert {t.device.type for t in (chunk.token, chunk.depth, chunk.scored)} == {"meta"}
