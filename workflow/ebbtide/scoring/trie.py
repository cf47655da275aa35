"""The prefix trie over all requests of a task, in which each shared token occurs once.

Requests share their common prefixes. Nodes are numbered in depth-first order, so that

    a is an ancestor of b (or b itself)   iff   a ≤ b < end[a]

Attention masks are thus simple comparisons, and only the path to the current node must be cached.

    the cat sat      the ─ cat ┬ sat         node   0    1    2    3
    the cat ran                └ ran         token  the  cat  sat  ran
                                             end    4    4    3    4
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ebbtide.scoring.encoding import Encoded


@dataclass(frozen=True)
class Trie:
    """Nodes in depth-first order, and the continuation tokens that are predicted at them."""

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


def build_trie(requests: Sequence[Encoded]) -> Trie:
    """Build the trie of the tokens that the model reads (all but the last of each request)."""
    fed = [request.fed for request in requests]
    order = sorted(range(len(requests)), key=fed.__getitem__)
    room = sum(map(len, fed))
    token, depth, end = (np.zeros(room, dtype=np.int64) for _ in range(3))
    path = np.zeros(max(map(len, fed), default=0), dtype=np.int64)  # nodes from the root to the last one
    targets = [np.zeros((4, 0), dtype=np.int64)]
    size = length = 0
    previous = np.zeros(0, dtype=np.int64)
    for r in order:
        tokens = np.array(fed[r], dtype=np.int64)
        shared = _shared_prefix(tokens, previous)
        end[path[shared:length]] = size
        length, new = len(tokens), len(tokens) - shared
        path[shared:length] = np.arange(size, size + new)
        token[size : size + new] = tokens[shared:]
        depth[size : size + new] = np.arange(shared, length)
        size += new
        request = requests[r]
        position = np.arange(len(request.continuation))
        nodes = path[request.context - 1 : length]
        targets.append(np.stack([nodes, request.continuation, np.full_like(position, r), position]))
        previous = tokens
    end[path[:length]] = size
    columns = np.concatenate(targets, axis=1)
    columns = columns[:, np.argsort(columns[0], kind="stable")]
    return Trie(token[:size], depth[:size], end[:size], *columns)


def _shared_prefix(a: np.ndarray, b: np.ndarray) -> int:
    """Length of the common prefix of two requests."""
    size = min(len(a), len(b))
    differ = a[:size] != b[:size]
    return int(differ.argmax()) if differ.any() else size
