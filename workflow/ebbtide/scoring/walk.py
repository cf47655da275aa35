"""Forward passes over the trie: depth-first chunks, each unique token once.

A chunk is a range of consecutive nodes. Its keys and values are appended to those of the path that leads to
it. Each node attends only to its ancestors, and its position is its depth. After a chunk, only the path to
the next node is kept, so memory is one path and one chunk for a task of any size.
"""

import math

import numpy as np
import torch

from ebbtide.errors import ScoringError
from ebbtide.logs import log
from ebbtide.scoring.body import Body
from ebbtide.scoring.chunks import Chunk, on_device
from ebbtide.scoring.encoded import Requests
from ebbtide.scoring.head import Targets, score_targets
from ebbtide.scoring.memory import is_out_of_memory, out_of_memory_message, release
from ebbtide.scoring.scorer import Counters, Scores
from ebbtide.scoring.trie import Trie

# Hidden states collected for the head: with few rows, reading the output matrix dominates.
HEAD_BATCH = {"cpu": 256, "cuda": 4096}


def score_trie(
    body: Body,
    requests: Requests,
    counters: Counters,
    *,
    chunk: int,
    ranks: bool = False,
    best: bool = False,
) -> Scores:
    """Log-likelihood of every continuation token of every request.

    `chunk` is the largest number of tokens in a forward pass. It is halved when memory runs out, without
    losing scores, and changes results only by rounding. Raises `ScoringError` if a single token does not fit.
    """
    trie = requests.trie
    counters.unique += len(trie)
    body.start()
    walk = _Walk(body, trie, ranks=ranks, best=best)
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
                raise ScoringError(
                    out_of_memory_message(f"one token at depth {depth}"), recurs=False
                ) from error
        if enough:
            start, size = stop, stop - start
            counters.done(start, size)
        else:  # outside the except clause, whose traceback keeps the tensors alive
            chunk = size // 2
            log.info("out of memory: continuing with chunks of %d tokens", chunk)
            release()
    return walk.collect(requests)


class _Walk:
    """State of the walk: the path to the current node, hidden states waiting for the head, scores so far."""

    def __init__(self, body: Body, trie: Trie, *, ranks: bool, best: bool) -> None:
        self._body, self._trie, self._wanted = body, trie, {"ranks": ranks, "best": best}
        self._past = np.zeros(0, dtype=np.int64)  # (P,) nodes of the path in the cache
        self._hidden: list[torch.Tensor] = []  # (k, d) each, of nodes not yet scored
        self._nodes: list[np.ndarray] = []  # (k,) each: which nodes
        self._found: list[Targets] = []  # on the device, in the order of the trie's targets

    @property
    def waiting(self) -> int:
        """Number of forwarded nodes that are not yet scored."""
        return sum(map(len, self._nodes))

    def advance(self, start: int, stop: int) -> None:
        """Forward nodes start … stop-1. If memory runs out, the state is unchanged."""
        chunk = Chunk(self._trie, self._past, start, stop, self._body.device)
        with torch.inference_mode():
            hidden = self._body.forward(chunk)
            path = chunk.path_to_next()
            self._body.keep(*on_device([path], self._body.device))
        self._past = chunk.nodes[path]
        if len(hidden):
            self._hidden.append(hidden)
            self._nodes.append(start + chunk.scored_rows)

    def score(self) -> None:
        """Score the targets of all waiting nodes. If memory runs out, the state is unchanged."""
        trie, nodes = self._trie, np.concatenate(self._nodes)  # ascending
        targets = trie.targets_of(nodes[0], nodes[-1] + 1)
        arrays = np.searchsorted(nodes, trie.node[targets]), trie.target[targets].astype(np.int64)
        with torch.inference_mode():
            hidden = torch.cat(self._hidden)
            row, target = on_device(arrays, hidden.device)
            self._found.append(score_targets(hidden, row, target, self._body.logits, **self._wanted))
        self._hidden.clear()
        self._nodes.clear()

    def collect(self, requests: Requests) -> Scores:
        """The scores of each request, copied from the device at once, as all work there is done."""
        place = requests.scored_bounds[self._trie.request] + self._trie.position

        def in_order(parts: list[torch.Tensor]) -> np.ndarray:
            values: np.ndarray = torch.cat(parts).cpu().numpy()
            ordered = np.empty_like(values)
            ordered[place] = values
            return ordered

        ranks = [found.rank for found in self._found if found.rank is not None]
        best = [found.best for found in self._found if found.best is not None]
        return Scores(
            requests.scored_bounds,
            in_order([found.loglikelihood for found in self._found]),
            in_order([found.greedy for found in self._found]),
            in_order(ranks) if ranks else None,
            in_order(best) if best else None,
        )
