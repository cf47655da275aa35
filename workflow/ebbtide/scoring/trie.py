"""The prefix trie over all requests of a task, in which each shared token occurs once.

Requests share their common prefixes. Nodes are numbered in depth-first order, so that

    a is an ancestor of b (or b itself)   iff   a ≤ b < end[a]

Attention masks are thus simple comparisons, and only the path to the current node must be cached.

    the cat sat      the ─ cat ┬ sat         node   0    1    2    3
    the cat ran                └ ran         token  the  cat  sat  ran
                                             end    4    4    3    4
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

BLOCK = 1 << 20  # tokens that are compared at once


@dataclass(frozen=True)
class Trie:
    """Nodes in depth-first order, and the continuation tokens that are predicted at them (int32 arrays)."""

    token: np.ndarray  # (N,) token of each node
    depth: np.ndarray  # (N,) position in its request
    end: np.ndarray  # (N,) one past the last node below it
    # Targets, sorted by node: after `node`, `target` is scored as continuation token `position` of `request`.
    node: np.ndarray  # (T,)
    target: np.ndarray  # (T,)
    request: np.ndarray  # (T,)
    position: np.ndarray  # (T,)

    def __len__(self) -> int:
        """Number of nodes: the minimum number of tokens to forward."""
        return len(self.token)

    def targets_of(self, start: int, stop: int) -> slice:
        """The targets at nodes start … stop-1."""
        first, last = np.searchsorted(self.node, np.array([start, stop], self.node.dtype))
        return slice(int(first), int(last))


def build_trie(tokens: np.ndarray, bounds: np.ndarray, context: np.ndarray) -> Trie:
    """Build the trie of the tokens that the model reads (all but the last of each request).

    Parameters
    ----------
    tokens
        (S,) the tokens of all requests, one request after the other.
    bounds
        (R + 1,) where each request begins in `tokens`, and the end of the last one.
    context
        (R,) number of context tokens of each request, at least 1; the others are scored.
    """
    order, tokens, starts, lengths = _sorted(tokens, bounds)
    context = context[order]
    shared = _shared_prefixes(tokens, starts, lengths)
    new = lengths - shared  # nodes that each request adds
    first = np.cumsum(new) - new  # its first new node
    size = int(new.sum())
    paths = _walk(first, shared, lengths, context - 1, size)

    added = np.repeat(starts + shared, new) + _ranges(new)  # places in `tokens`
    end = np.repeat(paths.end, paths.length)
    depth = np.repeat(shared, new) + _ranges(new)
    # Continuation token p of a request is predicted at the node of depth context - 1 + p on its path.
    old = np.maximum(shared - (context - 1), 0)  # how many are predicted at nodes of earlier requests
    scored = lengths - (context - 1)
    position = _ranges(scored)
    node = np.repeat(first - shared + context - 1, scored) + position
    node[position < np.repeat(old, scored)] = paths.old_nodes
    target = tokens[np.repeat(starts + context, scored) + position]
    request = np.repeat(order, scored)
    by_node = np.argsort(node, kind="stable")
    columns = (node[by_node], target[by_node], request[by_node], position[by_node])
    return Trie(*(column.astype(np.int32) for column in (tokens[added], depth, end, *columns)))


def _sorted(tokens: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Requests in lexicographic order of what the model reads: (order, tokens, starts, lengths to read)."""
    # Big-endian numbers compare like their bytes, which is the fastest comparison that Python has.
    text = tokens.astype(">u4").tobytes()
    keys = [text[4 * start : 4 * stop - 4] for start, stop in pairwise(bounds.tolist())]
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)
    sizes = np.diff(bounds)[order]
    starts = np.cumsum(sizes) - sizes
    return order, tokens[np.repeat(bounds[order], sizes) + _ranges(sizes)], starts, sizes - 1


def _shared_prefixes(tokens: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Number of tokens (R,) that each request shares with the one before it; 0 for the first."""
    shared = np.zeros(len(starts), dtype=np.int64)
    common = np.minimum(lengths[1:], lengths[:-1])  # at most
    for some in _blocks(common):
        size = common[some]
        place = _ranges(size)
        mine = np.repeat(starts[1:][some], size) + place
        before = np.repeat(starts[:-1][some], size) + place
        differ = np.flatnonzero(tokens[mine] != tokens[before])
        pair = np.repeat(np.arange(len(size)), size)[differ]
        found = size.copy()  # no difference
        np.minimum.at(found, pair, place[differ])
        shared[1:][some] = found
    return shared


def _blocks(sizes: np.ndarray) -> Iterator[slice]:
    """Ranges of consecutive requests with at most `BLOCK` tokens together, or one request."""
    ends = np.cumsum(sizes)
    first = 0
    while first < len(sizes):
        done = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, done + BLOCK, side="right")))
        yield slice(first, last)
        first = last


@dataclass(frozen=True)
class _Paths:
    """What the walk along the sorted requests finds."""

    end: np.ndarray  # of runs of consecutive nodes
    length: np.ndarray  # of these runs
    old_nodes: np.ndarray  # nodes of targets that are predicted at nodes of earlier requests


def _walk(
    first: np.ndarray, shared: np.ndarray, lengths: np.ndarray, scored_from: np.ndarray, size: int
) -> _Paths:
    """Follow the path from the root through all requests, in runs of consecutive nodes.

    A request closes the nodes of the path that it does not share: their `end` is its first new node.
    """
    path: list[tuple[int, int]] = []  # (depth, node) at which each run begins
    length = 0  # of the path
    starts: list[int] = []  # closed runs: first node, length, end
    sizes: list[int] = []
    ends: list[int] = []
    old: list[np.ndarray] = []
    rows = zip(first.tolist(), shared.tolist(), lengths.tolist(), scored_from.tolist(), strict=True)
    for node, kept, long, scored in [*rows, (size, 0, 0, 0)]:
        while length > kept:
            depth, begin = path[-1]
            cut = max(depth, kept)
            starts.append(begin + cut - depth)
            sizes.append(length - cut)
            ends.append(node)
            length = cut
            if cut == depth:
                path.pop()
        if scored < kept:
            old.append(_nodes(path, scored, kept))
        if long > kept:
            path.append((kept, node))
            length = long
    order = np.argsort(np.array(starts, dtype=np.int64))
    return _Paths(
        np.array(ends, dtype=np.int64)[order],
        np.array(sizes, dtype=np.int64)[order],
        np.concatenate([np.zeros(0, dtype=np.int64), *old]),
    )


def _nodes(path: list[tuple[int, int]], start: int, stop: int) -> np.ndarray:
    """The nodes of depth start … stop-1 on a path."""
    parts = []
    for depth, node in reversed(path):
        if depth < stop:
            low = max(depth, start)
            parts.append(np.arange(node + low - depth, node + stop - depth))
            stop = low
        if stop == start:
            break
    return np.concatenate(parts[::-1])


def _ranges(sizes: np.ndarray) -> np.ndarray:
    """0 … n-1 for each n of `sizes`, one after the other."""
    found: np.ndarray = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return found
