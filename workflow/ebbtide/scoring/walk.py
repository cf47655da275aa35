"""Forward passes over the trie: depth-first chunks, each unique token once.

A chunk is a range of consecutive nodes. Its keys and values are appended to those of the path that leads to
it. Each node attends only to its ancestors, and its position is its depth. After a chunk, only the path to
the next node is kept, so memory is one path and one chunk for a task of any size.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch

from ebbtide.errors import ScoringError
from ebbtide.logs import log
from ebbtide.scoring.body import Body
from ebbtide.scoring.chunks import Chunk
from ebbtide.scoring.encoding import Encoded
from ebbtide.scoring.head import score_targets
from ebbtide.scoring.memory import is_out_of_memory, out_of_memory_message, release
from ebbtide.scoring.scorer import Counters, TokenScores
from ebbtide.scoring.trie import Trie, build_trie

# Hidden states collected for the head: with few rows, reading the output matrix dominates.
HEAD_BATCH = {"cpu": 256, "cuda": 4096}


def score_trie(
    body: Body,
    requests: Sequence[Encoded],
    counters: Counters,
    *,
    chunk: int,
    ranks: bool = False,
) -> list[TokenScores]:
    """Log-likelihood of every continuation token of every request.

    `chunk` is the largest number of tokens in a forward pass. It is halved when memory runs out, without
    losing scores, and changes results only by rounding. Raises `ScoringError` if a single token does not fit.
    """
    trie = build_trie(requests)
    counters.unique += len(trie)
    body.start()
    walk = _Walk(body, trie, ranks)
    start = 0
    while start < len(trie) or walk.waiting:
        left = len(trie) - start
        stop = start + math.ceil(left / math.ceil(left / chunk)) if left else start  # chunks of equal size
        enough = True
        try:
            if stop == start or walk.waiting >= HEAD_BATCH.get(body.device.type, HEAD_BATCH["cpu"]):
                walk.score()
                continue
            counters.forwarded += stop - start  # including repeated ones
            walk.advance(start, stop)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            enough, size = False, stop - start or chunk
            if size == 1:
                depth = trie.depth[min(start, len(trie) - 1)]
                raise ScoringError(out_of_memory_message(f"one token at depth {depth}")) from error
        if enough:
            counters.chunk = max(counters.chunk, stop - start)
            start = stop
        else:  # outside the except clause, whose traceback keeps the tensors alive
            chunk = size // 2
            log.info("out of memory: continuing with chunks of %d tokens", chunk)
            release()
    return walk.collect(requests)


class _Walk:
    """State of the walk: the path to the current node, hidden states waiting for the head, scores so far."""

    def __init__(self, body: Body, trie: Trie, ranks: bool) -> None:
        self._body, self._trie = body, trie
        self._past = np.zeros(0, dtype=np.int64)  # (P,) nodes of the path in the cache
        self._hidden: list[torch.Tensor] = []  # (k, d) each, of nodes not yet scored
        self._nodes: list[np.ndarray] = []  # (k,) each: which nodes
        self._values = np.full(len(trie.node), np.nan)  # (T,) nats
        self._greedy = np.zeros(len(trie.node), dtype=bool)  # (T,)
        self._ranks = np.zeros(len(trie.node), dtype=np.int64) if ranks else None  # (T,)

    @property
    def waiting(self) -> int:
        """Number of forwarded nodes that are not yet scored."""
        return sum(map(len, self._nodes))

    def advance(self, start: int, stop: int) -> None:
        """Forward nodes start … stop-1. If memory runs out, the state is unchanged."""
        chunk = Chunk(self._trie, self._past, start, stop)
        with torch.inference_mode():
            hidden = self._body.forward(chunk)
            path = chunk.path_to_next()
            self._body.keep(torch.from_numpy(path))
        self._past = chunk.nodes[path]
        if len(hidden):
            self._hidden.append(hidden)
            self._nodes.append(start + chunk.scored.numpy())

    def score(self) -> None:
        """Score the targets of all waiting nodes. If memory runs out, the state is unchanged."""
        trie, nodes = self._trie, np.concatenate(self._nodes)  # ascending
        first, last = np.searchsorted(trie.node, [nodes[0], nodes[-1] + 1])
        with torch.inference_mode():
            hidden = torch.cat(self._hidden)
            row = torch.from_numpy(np.searchsorted(nodes, trie.node[first:last])).to(hidden.device)
            target = torch.from_numpy(trie.target[first:last]).to(hidden.device)
            found = score_targets(hidden, row, target, self._body.logits, ranks=self._ranks is not None)
        self._values[first:last] = found.loglikelihood.cpu().numpy()
        self._greedy[first:last] = found.greedy.cpu().numpy()
        if self._ranks is not None and found.rank is not None:
            self._ranks[first:last] = found.rank.cpu().numpy()
        self._hidden.clear()
        self._nodes.clear()

    def collect(self, requests: Sequence[Encoded]) -> list[TokenScores]:
        """The scores of each request."""
        order = np.lexsort((self._trie.position, self._trie.request))
        bounds = np.cumsum([0, *(len(r.continuation) for r in requests)])
        values, greedy = self._values[order], self._greedy[order]
        ranks = None if self._ranks is None else self._ranks[order]
        return [
            TokenScores(
                tuple(values[a:b].tolist()),
                bool(greedy[a:b].all()),
                None if ranks is None else tuple(ranks[a:b].tolist()),
            )
            for a, b in itertools.pairwise(bounds)
        ]
