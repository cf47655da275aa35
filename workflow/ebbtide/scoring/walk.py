"""Forwards over the trie: depth-first chunks, each unique token once.

A chunk is a run of nodes. Its keys and values are appended to those of the path that leads to it; an ancestor
mask lets each node see its own past only; positions are depths. After a chunk, only the path to the next node
is kept, so memory is one path and one chunk whatever the size of the task.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ebbtide.errors import ScoringError
from ebbtide.logs import log
from ebbtide.scoring.encoding import Encoded
from ebbtide.scoring.padded import Counters, TokenScores, score_padded
from ebbtide.scoring.trie import Trie, build_trie

HEAD_ELEMENTS = 1 << 23  # logits of one block of the head: 32 MB in float32
CHUNK = {"cpu": 256, "cuda": 4096}  # tokens in a forward to begin with


def score_trie(
    model: Any,
    requests: Sequence[Encoded],
    counters: Counters,
    *,
    chunk: int | None = None,
) -> list[TokenScores]:
    """Log-likelihood of every continuation token of every request.

    `chunk` is the number of tokens in a forward; it is halved when memory runs out, without losing what is
    scored, and never changes a result beyond rounding. Raises `ScoringError` when one token does not fit.
    """
    import torch

    trie = build_trie(requests)
    walk = _Walk(model, trie)
    chunk = chunk or CHUNK.get(model.device.type, CHUNK["cpu"])
    start = 0
    while start < len(trie):
        stop = min(start + chunk, len(trie))
        try:
            walk.advance(start, stop)
        except torch.OutOfMemoryError as error:
            if chunk == 1:
                raise ScoringError(
                    f"one token at depth {trie.depth[start]} does not fit into memory; a smaller "
                    "scoring.max_length, a 16-bit scoring.dtype or a larger device would help."
                ) from error
            chunk //= 2
            log.info("out of memory: going on with chunks of %d tokens", chunk)
            torch.cuda.empty_cache()
            continue
        counters.forwarded += stop - start
        start = stop
    return _collect(trie, requests, walk.values, walk.greedy)


def attention_windows(config: Any) -> dict[str, int | None]:
    """How many tokens each kind of layer of a model looks back (None: all), from its configuration.

    Raises `NotImplementedError` for kinds of attention whose mask is not known here.
    """
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or [])
    if not kinds:
        return {"all": window}
    known: dict[str, int | None] = {"full_attention": None, "sliding_attention": window}
    if unknown := kinds - set(known):
        raise NotImplementedError(f"layers of kind {', '.join(sorted(unknown))}")
    return {kind: known[kind] for kind in sorted(kinds)}


def fits(model: Any, vocabulary: int) -> bool:
    """Whether the trie gives this model's own numbers, by trying it on a small tree; says why not, once.

    The tree has branches and chunk borders inside its paths. What it is too small to see, sliding windows,
    comes from the configuration.
    """
    import torch

    def token(i: int) -> int:
        return (7 * i + 3) % vocabulary

    stem = tuple(token(i) for i in range(5))
    probe = [
        Encoded((*stem, *(token(10 * branch + i) for i in range(3))), context=3, truncated=False)
        for branch in range(1, 4)
    ]
    try:
        found = score_trie(model, probe, Counters(), chunk=4)
    except ScoringError:
        raise
    except Exception as error:  # whatever a model's own code raises for a mask it does not know
        log.warning("%s: padded batches instead of the trie (%s)", type(model).__name__, error)
        return False
    expected = score_padded(model, probe, Counters())
    difference = max(
        abs(a - b)
        for x, y in zip(found, expected, strict=True)
        for a, b in zip(x.loglikelihoods, y.loglikelihoods, strict=True)
    )
    tolerance = 1e-4 if model.dtype in (torch.float32, torch.float64) else 0.1
    if difference <= tolerance:
        return True
    log.warning(
        "%s: padded batches instead of the trie (the two differ by %.2g)", type(model).__name__, difference
    )
    return False


class _Walk:
    """Where the walk stands: the path to the current node in the cache, and the scores so far."""

    def __init__(self, model: Any, trie: Trie) -> None:
        from transformers import DynamicCache

        self.values = np.full(len(trie.node), np.nan)  # (T,) nats
        self.greedy = np.zeros(len(trie.node), dtype=bool)  # (T,)
        self._model, self._trie = model, trie
        self._windows = attention_windows(model.config)
        self._past = np.zeros(0, dtype=np.int64)  # (P,) nodes whose keys and values are in the cache
        # Plain layers, also for sliding windows: the mask draws the window.
        self._cache: Any = DynamicCache()

    def advance(self, start: int, stop: int) -> None:
        """Forward and score nodes start … stop-1; out of memory, all is as before."""
        import torch

        saved = [(layer.keys, layer.values) for layer in self._cache.layers]
        try:
            with torch.inference_mode():
                self._score(self._forward(start, stop), start, stop)
                self._keep_path(start, stop)
        except torch.OutOfMemoryError:
            if not saved:
                self._cache.layers.clear()
            for layer, (keys, values) in zip(self._cache.layers, saved, strict=False):
                layer.keys, layer.values = keys, values
            raise

    def _forward(self, start: int, stop: int) -> Any:
        """Hidden states (n, d) of the nodes; their keys and values join the cache."""
        import torch

        trie, model = self._trie, self._model
        rows = np.arange(start, stop)
        columns = np.concatenate([self._past, rows])  # (P + n,)
        sees = (columns <= rows[:, None]) & (trie.end[columns] > rows[:, None])  # (n, P + n): ancestors

        def mask(window: int | None) -> Any:
            near = sees
            if window is not None:
                near = sees & (trie.depth[rows][:, None] - trie.depth[columns] < window)
            # (1, 1, n, P + n), added to the scores: every attention kernel knows this form.
            added = torch.zeros(1, 1, *near.shape, dtype=model.dtype)
            return added.masked_fill_(torch.from_numpy(~near), torch.finfo(model.dtype).min).to(model.device)

        masks = {name: mask(window) for name, window in self._windows.items()}
        output = model.base_model(
            input_ids=torch.from_numpy(trie.token[start:stop]).to(model.device)[None],
            position_ids=torch.from_numpy(trie.depth[start:stop]).to(model.device)[None],
            attention_mask=masks if len(masks) > 1 else next(iter(masks.values())),
            past_key_values=self._cache,
            use_cache=True,
        )
        return output.last_hidden_state[0]

    def _score(self, hidden: Any, start: int, stop: int) -> None:
        """Log-likelihoods of the targets of the nodes, through the head in blocks."""
        import torch

        trie = self._trie
        head = self._model.get_output_embeddings()
        softcap = getattr(self._model.config, "final_logit_softcapping", None)
        first, last = np.searchsorted(trie.node, [start, stop])
        nodes, row_of_target = np.unique(trie.node[first:last], return_inverse=True)
        block = max(1, HEAD_ELEMENTS // head.weight.shape[0])
        for a in range(0, len(nodes), block):
            rows = torch.from_numpy(nodes[a : a + block] - start).to(hidden.device)
            logits = head(hidden[rows])  # (b, V)
            if softcap is not None:
                logits = softcap * torch.tanh(logits / softcap)
            logits = logits if logits.dtype == torch.float64 else logits.float()
            # logsumexp, not log_softmax: the latter is biased by 1e-5 a token in fp32 on CPU.
            normaliser = torch.logsumexp(logits, dim=1)
            best = logits.argmax(dim=1)
            here = np.flatnonzero((row_of_target >= a) & (row_of_target < a + block))
            row = torch.from_numpy(row_of_target[here] - a).to(logits.device)
            target = torch.from_numpy(trie.target[first:last][here]).to(logits.device)
            self.values[first + here] = (logits[row, target] - normaliser[row]).double().cpu().numpy()
            self.greedy[first + here] = (best[row] == target).cpu().numpy()

    def _keep_path(self, start: int, stop: int) -> None:
        """Drop from the cache all but the path to node `stop`."""
        import torch

        columns = np.concatenate([self._past, np.arange(start, stop)])
        kept = np.flatnonzero(self._trie.end[columns] > stop)
        gathered = []
        for layer in self._cache.layers:
            index = torch.from_numpy(kept).to(layer.keys.device)
            gathered.append((layer.keys.index_select(2, index), layer.values.index_select(2, index)))
        for layer, (keys, values) in zip(self._cache.layers, gathered, strict=True):
            layer.keys, layer.values = keys, values
        self._past = columns[kept]


def _collect(
    trie: Trie, requests: Sequence[Encoded], values: np.ndarray, greedy: np.ndarray
) -> list[TokenScores]:
    order = np.lexsort((trie.place, trie.request))
    bounds = np.cumsum([0, *(len(r.continuation) for r in requests)])
    values, greedy = values[order], greedy[order]
    return [
        TokenScores(tuple(values[a:b].tolist()), bool(greedy[a:b].all()))
        for a, b in itertools.pairwise(bounds)
    ]
