"""Forwards over the trie: depth-first chunks, each unique token once.

A chunk is a run of nodes. Its keys and values are appended to those of the path that leads to it; each node
sees its own past only; positions are depths. After a chunk, only the path to the next node is kept, so memory
is one path and one chunk whatever the size of the task.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import torch

from ebbtide.errors import ScoringError
from ebbtide.logs import log
from ebbtide.scoring.body import Body
from ebbtide.scoring.chunks import Chunk
from ebbtide.scoring.encoding import Encoded
from ebbtide.scoring.head import score_targets
from ebbtide.scoring.memory import is_out_of_memory, release, too_little_memory
from ebbtide.scoring.padded import Counters, TokenScores
from ebbtide.scoring.trie import Trie, build_trie


def score_trie(
    body: Body,
    requests: Sequence[Encoded],
    counters: Counters,
    *,
    chunk: int,
    ranks: bool = False,
) -> list[TokenScores]:
    """Log-likelihood of every continuation token of every request.

    `chunk` is the number of tokens in a forward; it is halved when memory runs out, without losing what is
    scored, and never changes a result beyond rounding. Raises `ScoringError` when one token does not fit.
    """
    trie = build_trie(requests)
    counters.unique += len(trie)
    body.start()
    walk = _Walk(body, trie, ranks)
    start = 0
    while start < len(trie):
        stop = min(start + chunk, len(trie))
        try:
            walk.advance(start, stop)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if chunk == 1:
                raise ScoringError(too_little_memory(f"one token at depth {trie.depth[start]}")) from error
            chunk //= 2
            log.info("out of memory: going on with chunks of %d tokens", chunk)
            release()
            continue
        counters.forwarded += stop - start
        counters.chunk = max(counters.chunk, stop - start)
        start = stop
    return walk.collect(requests)


class _Walk:
    """Where the walk stands: the path to the current node, and the scores so far."""

    def __init__(self, body: Body, trie: Trie, ranks: bool) -> None:
        self._body, self._trie = body, trie
        self._past = np.zeros(0, dtype=np.int64)  # (P,) nodes of the path in the cache
        self._values = np.full(len(trie.node), np.nan)  # (T,) nats
        self._greedy = np.zeros(len(trie.node), dtype=bool)  # (T,)
        self._ranks = np.zeros(len(trie.node), dtype=np.int64) if ranks else None  # (T,)

    def advance(self, start: int, stop: int) -> None:
        """Forward and score nodes start … stop-1; when memory runs out, all is as before."""
        chunk = Chunk(self._trie, self._past, start, stop)
        with torch.inference_mode():
            self._score(self._body.forward(chunk), start, stop)
            path = chunk.path_to_next()
            self._body.keep(torch.from_numpy(path))
        self._past = chunk.nodes[path]

    def _score(self, hidden: torch.Tensor, start: int, stop: int) -> None:
        """Scores of the targets of the nodes, from the hidden states (k, d) of those that have any."""
        trie, device = self._trie, hidden.device
        first, last = np.searchsorted(trie.node, [start, stop])
        if first == last:
            return
        row = torch.from_numpy(np.unique(trie.node[first:last], return_inverse=True)[1]).to(device)
        target = torch.from_numpy(trie.target[first:last]).to(device)
        found = score_targets(hidden, row, target, self._body.logits, ranks=self._ranks is not None)
        self._values[first:last] = found.loglikelihood.cpu().numpy()
        self._greedy[first:last] = found.greedy.cpu().numpy()
        if self._ranks is not None and found.rank is not None:
            self._ranks[first:last] = found.rank.cpu().numpy()

    def collect(self, requests: Sequence[Encoded]) -> list[TokenScores]:
        """The scores, request by request."""
        order = np.lexsort((self._trie.place, self._trie.request))
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
