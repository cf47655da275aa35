"""Both sides on the same token ids, taking turns: seconds, ratio, useful MFU, errors."""

import gc
import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ebbtide.errors import EbbtideError
from ebbtide.scoring.encoded import Requests
from ebbtide.scoring.encoding import encode
from ebbtide.scoring.engine import sums
from ebbtide.scoring.scorer import Counters, Scorer
from exact import Exact
from peer import Encoded as PeerEncoded
from peer import Peer, head_parameters, matmul_parameters
from workloads import Request

MFU_MUST, MFU_STRETCH = 0.70, 0.80
ERROR_MUST, ERROR_STRETCH = 1e-4, 3e-5  # nats per request, against float64
WARM_UP = 4  # requests scored before the clock runs: both sides set things up lazily

Clock = Callable[[], float]


class BenchmarkError(EbbtideError):
    """The two sides cannot be compared."""


@dataclass(frozen=True)
class Comparison:
    """One row: times are medians over rounds, per pass over all requests."""

    requests: int
    seconds: float
    peer_seconds: float
    peer_batch: str  # the batch size that was best
    ratio: float
    ratio_low: float  # over rounds
    ratio_high: float
    forwarded: int  # tokens
    unique: int  # tokens: distinct beginnings of what the requests feed
    peer_forwarded: int
    heads: int  # distinct beginnings after which something is scored
    mfu: float
    peak_gflops: float
    error: float  # nats, the largest of a request
    peer_error: float
    tokenisation: float  # seconds, once
    peer_tokenisation: float


def compare(
    scorer: Scorer,
    peer: Peer,
    exact: Exact,
    requests: Sequence[Request],
    *,
    batch_sizes: Sequence[int | str],
    repeats: int,
    clock: Clock = time.process_time,
    peak: Callable[[], float],
) -> Comparison:
    """Score `requests` `repeats` times with both sides in turns, every second round backwards.

    `peak` measures FLOP/s of a matrix product, once a round. Raises `BenchmarkError` when the two sides
    would not score the same token ids.
    """
    encoded, tokenisation = _timed(lambda: encode_ours(scorer, requests), clock)
    peer_encoded, peer_tokenisation = _timed(lambda: peer.encode(requests), clock)
    check_same(encoded, peer_encoded)
    expected = exact.score(encoded)
    found: dict[str, list[float]] = {}
    forwarded: dict[str, int] = {}

    def ours() -> None:
        counters = Counters()
        scores = scorer.score(replace(encoded), counters=counters)  # a copy, which builds its trie again
        found["ours"] = sums(scores.loglikelihood, scores.bounds)
        forwarded["ours"] = counters.forwarded

    def theirs(size: int | str) -> None:
        found[str(size)] = peer.score(peer_encoded, size)
        forwarded[str(size)] = peer.forwarded

    scorer.score(encoded[:WARM_UP])
    peer.score(peer_encoded[:WARM_UP], WARM_UP)
    methods: dict[str, Callable[[], None]] = {"ours": ours}
    methods |= {str(size): lambda size=size: theirs(size) for size in batch_sizes}  # type: ignore[misc]
    seconds, peaks = interleave(methods, repeats, clock, peak)

    median = {name: statistics.median(times) for name, times in seconds.items()}
    best = min((str(size) for size in batch_sizes), key=median.__getitem__)
    ratios = [theirs / ours for theirs, ours in zip(seconds[best], seconds["ours"], strict=True)]
    unique, heads = unique_tokens(encoded)
    useful = 2 * matmul_parameters(peer.model) * unique + 2 * head_parameters(peer.model) * heads  # FLOP
    flops = statistics.median(peaks)
    return Comparison(
        requests=len(requests),
        seconds=median["ours"],
        peer_seconds=median[best],
        peer_batch=best,
        ratio=median[best] / median["ours"],
        ratio_low=min(ratios),
        ratio_high=max(ratios),
        forwarded=forwarded["ours"],
        unique=unique,
        peer_forwarded=forwarded[best],
        heads=heads,
        mfu=useful / median["ours"] / flops,
        peak_gflops=flops / 1e9,
        error=_largest(found["ours"], expected),
        peer_error=_largest(found[best], expected),
        tokenisation=tokenisation,
        peer_tokenisation=peer_tokenisation,
    )


def interleave(
    methods: Mapping[str, Callable[[], object]], repeats: int, clock: Clock, peak: Callable[[], float]
) -> tuple[dict[str, list[float]], list[float]]:
    """Seconds of each method, round by round, so that a slow minute hits all; and the peak of each round."""
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    peaks = []
    for turn in range(repeats):
        peaks.append(peak())
        names = list(methods)
        for name in names if turn % 2 == 0 else reversed(names):
            gc.collect()
            seconds[name].append(_timed(methods[name], clock)[1])
    return seconds, peaks


def encode_ours(scorer: Scorer, requests: Sequence[Request]) -> Requests:
    """Token ids as Ebbtide makes them, by the rule of lm-eval."""
    return encode(
        scorer.tokenizer,
        [r.context for r in requests],
        [r.continuation for r in requests],
        [f"request {i}" for i in range(len(requests))],
        encoding="harness",
        bos="tokenizer",
        truncation="refuse",
        window=scorer.window,
        vocabulary=scorer.vocabulary,
    )


def check_same(ours: Requests, theirs: Sequence[PeerEncoded]) -> None:
    """Raise `BenchmarkError` unless both sides score the same ids after the same ids."""
    for number, (a, (texts, context, continuation)) in enumerate(zip(ours, theirs, strict=True)):
        if list(a.tokens) != context + continuation or a.context != len(context):
            raise BenchmarkError(
                f"request {number} ({texts[0][-40:]!r}, {texts[1]!r}): Ebbtide would score "
                f"{list(a.continuation)} after {a.context} tokens, lm-eval {continuation} after "
                f"{len(context)}; the times of different work cannot be compared."
            )


def unique_tokens(requests: Requests) -> tuple[int, int]:
    """(distinct beginnings that are fed, distinct beginnings after which a token is scored).

    Counted here by a plain dictionary, so that the engine's own count can be held against it.
    """
    nodes: dict[tuple[int, int], int] = {}  # (parent, token) -> node
    scored = set()
    for request in requests:
        node = -1
        for place, token in enumerate(request.fed):
            node = nodes.setdefault((node, token), len(nodes))
            if place >= request.context - 1:
                scored.add(node)
    return len(nodes), len(scored)


def matmul_peak(
    dtype: torch.dtype,
    device: str,
    sizes: Sequence[int],
    clock: Clock,
    product: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = torch.matmul,
) -> float:
    """FLOP/s of a square matrix product: the best of three at each size."""
    best = 0.0
    for size in sizes:
        a, b = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
        product(a, b)
        for _ in range(3):
            best = max(best, 2 * size**3 / _timed(lambda: product(a, b), clock)[1])  # noqa: B023
    return best


def verdict(value: float, must: float, stretch: float) -> str:
    """`stretch`, `must` or `missed`; of values that should be small, `must` is the larger bound."""
    sign = 1 if stretch >= must else -1
    reached = [name for name, bound in (("stretch", stretch), ("must", must)) if sign * value >= sign * bound]
    return next(itertools.chain(reached, ["missed"]))


def _timed(work: Callable[[], Any], clock: Clock) -> tuple[Any, float]:
    started = clock()
    result = work()
    return result, clock() - started


def _largest(found: Sequence[float], expected: Sequence[float]) -> float:
    return max(abs(a - b) for a, b in zip(found, expected, strict=True))
