"""The prefix trie over all requests of a task: what must be forwarded, each token once.

Requests that begin alike share their beginning. Nodes are numbered in depth-first order, so that

    a is an ancestor of b (or b itself)   iff   a ≤ b < end[a]

which makes attention masks one comparison, and keeps only the path to the current node alive.

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
    # Targets, sorted by node: after `node` the token `target` is scored, as number `place` of `request`.
    node: np.ndarray  # (T,)
    target: np.ndarray  # (T,)
    request: np.ndarray  # (T,)
    place: np.ndarray  # (T,)

    def __len__(self) -> int:
        """Number of nodes: the least tokens that can be forwarded."""
        return len(self.token)


def build_trie(requests: Sequence[Encoded]) -> Trie:
    """The trie of what the requests feed to the model (all tokens but the last of each)."""
    order = sorted(range(len(requests)), key=lambda r: requests[r].fed)
    tokens: list[int] = []
    depths: list[int] = []
    ends: list[int] = []
    path: list[int] = []  # nodes from the root to the last node
    targets: list[tuple[int, int, int, int]] = []
    previous: tuple[int, ...] = ()
    for r in order:
        fed = requests[r].fed
        shared = _shared_prefix(fed, previous)
        for node in path[shared:]:
            ends[node] = len(tokens)
        del path[shared:]
        for token in fed[shared:]:
            path.append(len(tokens))
            depths.append(len(path) - 1)
            tokens.append(token)
            ends.append(0)
        first = requests[r].context - 1
        targets += [
            (path[first + place], target, r, place) for place, target in enumerate(requests[r].continuation)
        ]
        previous = fed
    for node in path:
        ends[node] = len(tokens)
    columns = np.array(sorted(targets), dtype=np.int64).reshape(-1, 4).T
    return Trie(np.array(tokens), np.array(depths), np.array(ends), *columns)


def _shared_prefix(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))
