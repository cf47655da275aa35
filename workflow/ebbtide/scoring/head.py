"""From hidden states to log-likelihoods, through the output matrix, without storing all logits.

The vocabulary is processed in slices that fit in the processor's cache. log Σ exp is computed per slice and
combined in float64. This is unbiased, whereas float32 `log_softmax` on a CPU has a bias of 1e-5 nats per
token.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ebbtide.scoring.linear import multiply

# Hidden states (k, d) → (first token, logits (k, v)) for slices of the vocabulary, in order.
Slices = Callable[[Tensor], Iterator[tuple[int, Tensor]]]

SLICE_ELEMENTS = {"cpu": 1 << 18, "cuda": 1 << 26}  # logits per slice; 1 MB on a CPU, to fit in its cache
SMALLEST_SLICE = 1024  # tokens
ALIGNED = 64  # slices of other lengths take slow kernels on a GPU


def vocabulary_slices(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, softcap: float | None
) -> Iterator[tuple[int, Tensor]]:
    """Yield (first token, logits (k, v)) of hidden states (k, d) for slices of the output matrix (V, d)."""
    size = max(SMALLEST_SLICE, _elements(hidden) // max(1, len(hidden)))
    if hidden.device.type != "cpu":
        size = -(-size // ALIGNED) * ALIGNED
    for first in range(0, len(weight), size):
        part = slice(first, first + size)
        logits = multiply(hidden, weight[part], None if bias is None else bias[part])
        yield first, logits if softcap is None else softcap * torch.tanh(logits / softcap)


@dataclass(frozen=True)
class Targets:
    """Scores of T targets."""

    loglikelihood: Tensor  # (T,) float64, nats
    greedy: Tensor  # (T,) whether the target is the argmax
    rank: Tensor | None  # (T,) 1 + the number of more likely tokens
    best: Tensor | None  # (T,) the argmax


def score_targets(
    hidden: Tensor, row: Tensor, target: Tensor, slices: Slices, *, ranks: bool, best: bool = False
) -> Targets:
    """Score `target[t]` after the hidden state `hidden[row[t]]`.

    Parameters
    ----------
    hidden
        (k, d), after the final norm.
    row, target
        (T,) each.
    ranks
        Whether to compute ranks, for which the logits are computed a second time.
    best
        Whether to also return the argmax after each hidden state.
    """
    count = len(hidden)
    normaliser = hidden.new_full((count,), -torch.inf, dtype=torch.float64)
    most = hidden.new_full((count,), -torch.inf, dtype=torch.float64)
    argmax = torch.zeros(count, dtype=torch.long, device=hidden.device) if best else None
    value = torch.zeros(len(target), dtype=torch.float64, device=hidden.device)
    greedy = torch.zeros(len(target), dtype=torch.bool, device=hidden.device)
    for first, part in slices(hidden):
        logits = _wide(part)
        highest = logits.amax(dim=1)
        normaliser = torch.logaddexp(normaliser, _logsumexp(logits, highest))
        better = highest > most  # the first of equal logits wins, in this slice or an earlier one
        most = torch.where(better, highest.double(), most)
        if argmax is not None:
            argmax = torch.where(better, first + logits.argmax(dim=1), argmax)
        greedy &= ~better[row]
        here = ((target >= first) & (target < first + logits.shape[1])).nonzero()[:, 0]
        for some in torch.split(here, len(hidden)):  # a node may have thousands of targets
            own, column = logits[row[some]], target[some] - first
            value[some] = own.gather(1, column[:, None])[:, 0].double()
            greedy[some] = better[row[some]] & (own.argmax(dim=1) == column)
    rank = _ranks(hidden, row, value, slices) if ranks else None
    return Targets(value - normaliser[row], greedy, rank, None if argmax is None else argmax[row])


def _ranks(hidden: Tensor, row: Tensor, value: Tensor, slices: Slices) -> Tensor:
    rank = torch.ones(len(row), dtype=torch.long, device=hidden.device)
    for _, part in slices(hidden):  # the same products, so bit-identical to `value`
        logits = _wide(part)
        size = max(1, _elements(hidden) // logits.shape[1])  # a node may have thousands of targets
        for first in range(0, len(row), size):
            here = slice(first, first + size)
            rank[here] += (logits[row[here]] > value[here, None].to(logits.dtype)).sum(dim=1)
    return rank


def _elements(hidden: Tensor) -> int:
    return SLICE_ELEMENTS.get(hidden.device.type, SLICE_ELEMENTS["cpu"])


def _logsumexp(logits: Tensor, highest: Tensor) -> Tensor:
    """log Σ exp (k,) of a slice."""
    return highest.double() + (logits - highest[:, None]).exp_().sum(dim=1).double().log()


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.dtype in (torch.float32, torch.float64) else logits.float()
