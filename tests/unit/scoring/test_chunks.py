"""Chunks of the trie: each query sees its own past, and blocks read little else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbtide.scoring import chunks
from ebbtide.scoring.chunks import Chunk
from ebbtide.scoring.encoding import Encoded
from ebbtide.scoring.trie import Trie, build_trie
from scoring_reference import encoded


def ancestors(trie: Trie, node: int) -> list[int]:
    """The path to a node and itself, by the definition."""
    return [a for a in range(node + 1) if trie.end[a] > node]


def walk(trie: Trie, size: int) -> list[Chunk]:
    """The chunks of a trie, each behind the path that the one before left."""
    found, past = [], np.zeros(0, dtype=np.int64)
    for start in range(0, len(trie), size):
        chunk = Chunk(trie, past, start, min(start + size, len(trie)))
        found.append(chunk)
        past = chunk.nodes[chunk.path_to_next()]
    return found


@given(
    requests=st.lists(encoded(), min_size=1, max_size=15),
    size=st.integers(1, 40),
    block=st.integers(1, 9),
    window=st.sampled_from([None, 1, 3]),
)
def test_a_query_sees_its_own_past(
    requests: list[Encoded], size: int, block: int, window: int | None
) -> None:
    trie = build_trie(requests)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(chunks.BLOCK, "cpu", block)
        for chunk in walk(trie, size):
            rows = 0
            for part in chunk.blocks("cpu"):
                assert part.first == rows
                rows = part.last
                visible, distance = chunk.mask(part, window).numpy(), chunk.distance(part).numpy()
                for i, row in enumerate(range(part.first, part.last)):
                    seen = chunk.nodes[part.slots[visible[i]]].tolist()
                    expected = ancestors(trie, chunk.start + row)[-window if window else None :]
                    assert seen == expected
                    assert distance[i][visible[i]].tolist() == list(reversed(range(len(expected))))
                assert not part.run or part.slots.tolist() == list(range(len(part.slots)))
            assert rows == chunk.stop - chunk.start


@given(requests=st.lists(encoded(), min_size=1, max_size=15), size=st.integers(1, 40))
def test_the_path_to_the_next_chunk_is_kept(requests: list[Encoded], size: int) -> None:
    trie = build_trie(requests)
    for chunk in walk(trie, size):
        expected = ancestors(trie, chunk.start)[:-1]
        assert chunk.past.tolist() == expected
        wanted = sorted({n - chunk.start for n in trie.node.tolist() if chunk.start <= n < chunk.stop})
        assert chunk.scored.tolist() == wanted


def test_branches_read_their_stem_and_not_each_other() -> None:
    stem = tuple(range(20))
    requests = [Encoded((*stem, 30 + branch, *([1] * 63), 2), 20, False) for branch in range(8)]
    [chunk] = walk(build_trie(requests), 1000)
    blocks = chunk.blocks("cpu")
    assert len(blocks) == 9
    assert max(len(block.slots) for block in blocks) <= 20 + 2 * 64  # of the 532 nodes of the chunk
    assert [block.run for block in blocks] == [True, True, *[False] * 7]


def test_a_long_document_is_read_as_it_lies_in_longer_blocks() -> None:
    document = tuple(i % 7 for i in range(4097))
    for chunk, depth in zip(walk(build_trie([Encoded(document, 1, False)]), 2048), (2047, 4095), strict=True):
        blocks = chunk.blocks("cpu")
        assert blocks[0].last == depth // chunks.BLOCKS_PER_PATH
        assert all(block.run for block in blocks)
