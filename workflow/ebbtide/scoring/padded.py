"""Forwards of right-padded batches: plain, correct for every causal model, the reference of the engine.

Causal attention never looks right, so padding behind a request cannot change it and needs no mask.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ebbtide.scoring.encoding import Encoded


@dataclass(frozen=True)
class TokenScores:
    """Scores of one request's continuation tokens."""

    loglikelihoods: tuple[float, ...]  # nats, one per token
    greedy: bool  # every token is the model's argmax


@dataclass
class Counters:
    """What the forwards cost, in tokens."""

    forwarded: int = 0


def score_padded(
    model: Any,
    requests: Sequence[Encoded],
    counters: Counters,
    *,
    batch_tokens: int = 4096,
    progress: Callable[[int], None] = lambda done: None,
) -> list[TokenScores]:
    """Log-likelihood of every continuation token of every request.

    Requests that feed the model the same tokens share one row. Rows are sorted by length, the longest
    first, and cut into batches of at most `batch_tokens` tokens.
    """
    rows: dict[tuple[int, ...], list[int]] = {}
    for index, request in enumerate(requests):
        rows.setdefault(request.fed, []).append(index)
    order = sorted(rows, key=len, reverse=True)
    scores: list[TokenScores | None] = [None] * len(requests)
    start = 0
    while start < len(order):
        batch = order[start : start + max(1, batch_tokens // len(order[start]))]
        _score_batch(model, batch, rows, requests, scores, counters)
        start += len(batch)
        progress(counters.forwarded)
    return [score for score in scores if score is not None]


def _score_batch(
    model: Any,
    batch: Sequence[tuple[int, ...]],
    rows: dict[tuple[int, ...], list[int]],
    requests: Sequence[Encoded],
    scores: list[TokenScores | None],
    counters: Counters,
) -> None:
    import torch

    length = len(batch[0])
    fed = torch.zeros(len(batch), length, dtype=torch.long)  # (B, T); 0 pads
    for i, tokens in enumerate(batch):
        fed[i, : len(tokens)] = torch.tensor(tokens)
    # Only the positions that predict a continuation token go through the head.
    first = min(len(tokens) - max(len(requests[r].continuation) for r in rows[tokens]) for tokens in batch)
    with torch.inference_mode():
        logits = model(fed.to(model.device), use_cache=False, logits_to_keep=length - first).logits
    counters.forwarded += fed.numel()
    for i, tokens in enumerate(batch):
        for r in rows[tokens]:
            target = torch.tensor(requests[r].continuation, device=logits.device)  # (n,)
            last = len(tokens) - first
            kept = logits[i, last - len(target) : last]  # (n, V)
            kept = kept if kept.dtype == torch.float64 else kept.float()
            # logsumexp, not log_softmax: the latter is biased by 1e-5 a token in fp32 on CPU.
            values = kept.gather(1, target[:, None])[:, 0] - torch.logsumexp(kept, dim=1)
            greedy = bool((kept.argmax(dim=1) == target).all())
            scores[r] = TokenScores(tuple(values.double().tolist()), greedy)
