"""Scoring in right-padded batches: simple, correct for every causal model, and the engine's reference.

Causal attention never attends to the right, so padding after a request cannot change it and needs no mask.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from ebbtide.errors import ScoringError
from ebbtide.logs import log
from ebbtide.scoring.encoded import Requests
from ebbtide.scoring.memory import is_out_of_memory, out_of_memory_message, release
from ebbtide.scoring.scorer import Counters, Scores


def score_padded(
    model: Any,
    requests: Requests,
    counters: Counters,
    *,
    batch_tokens: int = 4096,
    ranks: bool = False,
    best: bool = False,
) -> Scores:
    """Log-likelihood of every continuation token of every request.

    Requests with the same input tokens share one row. Rows are sorted by length, longest first, and split
    into batches of at most `batch_tokens` tokens. When memory runs out, the batch size is halved. Raises
    `ScoringError` if a single row does not fit.
    """
    counters.unique += len(requests.trie)
    rows: dict[bytes, list[int]] = {}  # tokens that the model reads → requests
    for index, (start, stop) in enumerate(pairwise(requests.bounds.tolist())):
        rows.setdefault(requests.tokens[start : stop - 1].tobytes(), []).append(index)
    order = sorted(rows.values(), key=lambda row: -int(requests.bounds[row[0] + 1] - requests.bounds[row[0]]))
    scores = Scores(
        requests.scored_bounds,
        np.full(len(requests.continuations), np.nan),
        np.zeros(len(requests.continuations), dtype=bool),
        np.zeros(len(requests.continuations), dtype=np.int64) if ranks else None,
        np.zeros(len(requests.continuations), dtype=np.int64) if best else None,
    )
    start = 0
    while start < len(order):
        longest = len(requests[order[start][0]].fed)
        batch = order[start : start + max(1, batch_tokens // longest)]
        size, enough = len(batch) * longest, False
        try:
            counters.forwarded += size  # including repeated ones
            _score_batch(model, requests, batch, scores)
            enough = True
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(batch) == 1:
                message = out_of_memory_message(f"a text of {longest} tokens")
                raise ScoringError(message, recurs=False) from error
        if not enough:  # outside the except clause, whose traceback keeps the tensors alive
            batch_tokens = size // 2
            log.info("out of memory: continuing with batches of %d tokens", batch_tokens)
            release()
            continue
        start += len(batch)
        # Rows have different lengths and share tokens: their share of the rows is what is known.
        counters.done(counters.unique * start // len(order), size)
    return scores


def input_device(model: Any) -> torch.device:
    """Device of the input tokens of a transformers model.

    A model distributed over devices has hooks that move the tokens to its weights.
    """
    return torch.device("cpu") if model.device.type == "meta" else model.device


def _score_batch(model: Any, requests: Requests, batch: Sequence[Sequence[int]], scores: Scores) -> None:
    """Forward the rows of `batch` (longest first), and write the scores of the requests of each row."""
    rows = [requests[indices[0]].fed for indices in batch]
    length = len(rows[0])
    fed = torch.zeros(len(rows), length, dtype=torch.long)  # (B, T); 0 pads
    for i, tokens in enumerate(rows):
        fed[i, : len(tokens)] = torch.tensor(tokens)
    # Only the positions that predict a continuation token go through the head.
    most = [int(requests.scored[indices].max()) for indices in batch]
    first = min(len(tokens) - scored for tokens, scored in zip(rows, most, strict=True))
    with torch.inference_mode():
        output = model(fed.to(input_device(model)), use_cache=False, logits_to_keep=length - first)
    logits = output.logits[:, first - length :]  # (B, T - first, V), even if the model returns all T
    for i, (tokens, indices) in enumerate(zip(rows, batch, strict=True)):
        for index in indices:
            a, b = requests.scored_bounds[index : index + 2]
            target = torch.from_numpy(requests.continuations[a:b]).long().to(logits.device)
            place = slice(len(tokens) - first - (b - a), len(tokens) - first)
            _score(logits[i, place], target, scores, slice(a, b))


def _score(logits: torch.Tensor, target: torch.Tensor, scores: Scores, place: slice) -> None:
    """Write the scores of a continuation of n tokens from its logits (n, V)."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    # logsumexp, not log_softmax: the latter has a bias of 1e-5 nats per token in float32 on a CPU.
    found = logits.gather(1, target[:, None])  # (n, 1)
    scores.loglikelihood[place] = (found[:, 0] - torch.logsumexp(logits, dim=1)).double().cpu()
    argmax = logits.argmax(dim=1)
    scores.greedy[place] = (argmax == target).cpu()
    if scores.best is not None:
        scores.best[place] = argmax.cpu()
    if scores.rank is not None:
        scores.rank[place] = ((logits > found).sum(dim=1) + 1).cpu()
