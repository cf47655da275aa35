"""Log-likelihoods of given tokens by vLLM, one pass per text: what the load proof asks for.

tokens    c0 c1 k0 k1 k2      c: context, k: scored
prompt    c0 c1 k0 k1         vLLM returns the log-likelihoods of its tokens,
new                   k2      and that of the new token, which is also given
"""

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import numpy as np

from ebbtide.errors import ScoringError
from ebbtide.scoring.encoded import Encoded, Requests
from ebbtide.scoring.scorer import Counters, Scores
from ebbtide.scoring.vllm_backend.choice import Choose
from ebbtide.scoring.vllm_backend.engine import Request, longest, run


def score_vllm(
    engine: Any, requests: Requests, counters: Counters, *, ranks: bool = False, best: bool = False
) -> Scores:
    """See `Scorer.score`. Nothing is shared between requests.

    Raises `ScoringError` also for a request of more tokens than vLLM reads at once.
    """
    if (needed := requests.deepest + 1) > (found := longest(engine)):
        raise ScoringError(f"a text has {needed} tokens, but vLLM reads at most {found}.")
    counters.unique += len(requests.trie)
    values, rank = (np.zeros(len(requests.continuations), dtype) for dtype in (np.float64, np.int64))
    likeliest = np.zeros_like(rank)
    with closing(run(engine, _texts(requests))) as steps:
        for step in steps:
            forwarded = sum(len(request.prompt) for request, _ in step)
            for request, output in step:
                index = request.of
                places = slice(*requests.scored_bounds[index : index + 2])
                one = requests[index]
                entries = [*output.prompt_logprobs, output.outputs[0].logprobs[0]][one.context :]
                found_of = [entry[token] for entry, token in zip(entries, one.continuation, strict=True)]
                values[places] = [each.logprob for each in found_of]
                rank[places] = [each.rank for each in found_of]
                likeliest[places] = [_likeliest(entry) for entry in entries]
            counters.forwarded += forwarded
            counters.done(0, forwarded)
    greedy = likeliest == requests.continuations
    return Scores(
        requests.scored_bounds, values, greedy, rank if ranks else None, likeliest if best else None
    )


def _texts(requests: Requests) -> Iterator[Request]:
    for index, one in enumerate(requests):
        yield Request(list(one.fed), _given(one), most=1, of=index, reads_prompt=True)


def _given(one: Encoded) -> Choose:
    return lambda logits, position: one.tokens[-1]


def _likeliest(entry: Mapping[int, Any]) -> int:
    """The most likely token of a position, of which vLLM lists it and the given one."""
    return max(entry, key=lambda token: entry[token].logprob)
