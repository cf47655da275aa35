"""Scoring in right-padded batches: simple, correct for every causal model, and the engine's reference.

Causal attention never attends to the right, so padding after a request cannot change it and needs no mask.
"""

from collections.abc import Sequence
from typing import Any

import torch

from ebbtide.errors import ScoringError
from ebbtide.logs import log
from ebbtide.scoring.encoding import Encoded
from ebbtide.scoring.memory import is_out_of_memory, out_of_memory_message, release
from ebbtide.scoring.scorer import Counters, TokenScores
from ebbtide.scoring.trie import build_trie


def score_padded(
    model: Any,
    requests: Sequence[Encoded],
    counters: Counters,
    *,
    batch_tokens: int = 4096,
    ranks: bool = False,
) -> list[TokenScores]:
    """Log-likelihood of every continuation token of every request.

    Requests with the same input tokens share one row. Rows are sorted by length, longest first, and split
    into batches of at most `batch_tokens` tokens. When memory runs out, the batch size is halved. Raises
    `ScoringError` if a single row does not fit.
    """
    counters.unique += len(build_trie(requests))
    rows: dict[tuple[int, ...], list[int]] = {}
    for index, request in enumerate(requests):
        rows.setdefault(request.fed, []).append(index)
    order = sorted(rows, key=len, reverse=True)
    scores: list[TokenScores | None] = [None] * len(requests)
    start = 0
    while start < len(order):
        batch = order[start : start + max(1, batch_tokens // len(order[start]))]
        continuations = [[requests[index].continuation for index in rows[fed]] for fed in batch]
        size, found = len(batch) * len(batch[0]), None
        try:
            counters.forwarded += size  # including repeated ones
            found = _score_batch(model, batch, continuations, ranks)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(batch) == 1:
                raise ScoringError(out_of_memory_message(f"a text of {len(batch[0])} tokens")) from error
        if found is None:  # outside the except clause, whose traceback keeps the tensors alive
            batch_tokens = size // 2
            log.info("out of memory: continuing with batches of %d tokens", batch_tokens)
            release()
            continue
        for fed, scored in zip(batch, found, strict=True):
            for index, score in zip(rows[fed], scored, strict=True):
                scores[index] = score
        counters.chunk = max(counters.chunk, size)
        start += len(batch)
    return [score for score in scores if score is not None]


def input_device(model: Any) -> torch.device:
    """Device of the input tokens of a transformers model.

    A model distributed over devices has hooks that move the tokens to its weights.
    """
    return torch.device("cpu") if model.device.type == "meta" else model.device


def _score_batch(
    model: Any,
    batch: Sequence[tuple[int, ...]],
    continuations: Sequence[Sequence[tuple[int, ...]]],
    ranks: bool,
) -> list[list[TokenScores]]:
    """Forward the rows of `batch` (longest first), and score the continuations of each row."""
    length = len(batch[0])
    fed = torch.zeros(len(batch), length, dtype=torch.long)  # (B, T); 0 pads
    for i, tokens in enumerate(batch):
        fed[i, : len(tokens)] = torch.tensor(tokens)
    # Only the positions that predict a continuation token go through the head.
    first = min(len(b) - max(map(len, c)) for b, c in zip(batch, continuations, strict=True))
    with torch.inference_mode():
        output = model(fed.to(input_device(model)), use_cache=False, logits_to_keep=length - first)
    logits = output.logits[:, first - length :]  # (B, T - first, V), even if the model returns all T
    return [
        [
            _score(logits[i, len(tokens) - first - len(target) : len(tokens) - first], target, ranks)
            for target in targets
        ]
        for i, (tokens, targets) in enumerate(zip(batch, continuations, strict=True))
    ]


def _score(logits: torch.Tensor, continuation: tuple[int, ...], ranks: bool) -> TokenScores:
    """Scores of a continuation of n tokens from its logits (n, V)."""
    target = torch.tensor(continuation, device=logits.device)  # (n,)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    # logsumexp, not log_softmax: the latter has a bias of 1e-5 nats per token in float32 on a CPU.
    found = logits.gather(1, target[:, None])  # (n, 1)
    values = found[:, 0] - torch.logsumexp(logits, dim=1)
    return TokenScores(
        tuple(values.double().tolist()),
        bool((logits.argmax(dim=1) == target).all()),
        tuple(((logits > found).sum(dim=1) + 1).tolist()) if ranks else None,
    )
