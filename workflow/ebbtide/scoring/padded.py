"""Forwards of right-padded batches: plain, correct for every causal model, the reference of the engine.

Causal attention never looks right, so padding behind a request cannot change it and needs no mask.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ebbtide.scoring.encoding import Encoded

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TokenScores:
    """Scores of one request's continuation tokens."""

    loglikelihoods: tuple[float, ...]  # nats, one per token
    greedy: bool  # every token is the model's argmax
    ranks: tuple[int, ...] | None = None  # 1 + the number of likelier tokens, where asked for


@dataclass
class Counters:
    """What the forwards cost, in tokens."""

    forwarded: int = 0
    unique: int = 0  # nodes of the tries: the least that can be forwarded


def score_padded(
    model: Any,
    requests: Sequence[Encoded],
    counters: Counters,
    *,
    batch_tokens: int = 4096,
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
        continuations = [[requests[index].continuation for index in rows[fed]] for fed in batch]
        for fed, found in zip(batch, _score_batch(model, batch, continuations), strict=True):
            for index, score in zip(rows[fed], found, strict=True):
                scores[index] = score
        counters.forwarded += len(batch) * len(batch[0])
        start += len(batch)
    return [score for score in scores if score is not None]


def input_device(model: Any) -> "torch.device":
    """Where a model of transformers takes its tokens.

    A model spread over devices has hooks that bring tokens to weights, wherever these are now.
    """
    import torch

    return torch.device("cpu") if model.device.type == "meta" else model.device


def _score_batch(
    model: Any, batch: Sequence[tuple[int, ...]], continuations: Sequence[Sequence[tuple[int, ...]]]
) -> list[list[TokenScores]]:
    """Feed the rows of `batch` (the longest first); score the continuations that each of them ends in."""
    import torch

    length = len(batch[0])
    fed = torch.zeros(len(batch), length, dtype=torch.long)  # (B, T); 0 pads
    for i, tokens in enumerate(batch):
        fed[i, : len(tokens)] = torch.tensor(tokens)
    # Only the positions that predict a continuation token go through the head.
    first = min(len(b) - max(map(len, c)) for b, c in zip(batch, continuations, strict=True))
    with torch.inference_mode():
        output = model(fed.to(input_device(model)), use_cache=False, logits_to_keep=length - first)
    logits = output.logits[:, first - length :]  # (B, T - first, V), also of a model that keeps all T
    return [
        [
            _score(logits[i, len(tokens) - first - len(target) : len(tokens) - first], target)
            for target in targets
        ]
        for i, (tokens, targets) in enumerate(zip(batch, continuations, strict=True))
    ]


def _score(logits: "torch.Tensor", continuation: tuple[int, ...]) -> TokenScores:
    """Scores of a continuation of n tokens from its logits (n, V)."""
    import torch

    target = torch.tensor(continuation, device=logits.device)  # (n,)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    # logsumexp, not log_softmax: the latter is biased by 1e-5 a token in fp32 on CPU.
    values = logits.gather(1, target[:, None])[:, 0] - torch.logsumexp(logits, dim=1)
    likelier = (logits > logits.gather(1, target[:, None])).sum(dim=1)
    return TokenScores(
        tuple(values.double().tolist()),
        bool((logits.argmax(dim=1) == target).all()),
        tuple((likelier + 1).tolist()),
    )
