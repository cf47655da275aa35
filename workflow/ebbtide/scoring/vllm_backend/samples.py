"""Generation by vLLM: our noise chooses each token, and our rules end each sample."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from ebbtide.errors import ScoringError
from ebbtide.scoring.generation.choice import choose
from ebbtide.scoring.generation.decoding import Decoding, Sample, Samples
from ebbtide.scoring.generation.ends import Ends
from ebbtide.scoring.generation.loop import Unfinished, distinct_prompts
from ebbtide.scoring.generation.noise import Noise
from ebbtide.scoring.generation.prompts import prompt_trie
from ebbtide.scoring.scorer import Counters
from ebbtide.scoring.vllm_backend.choice import Choose
from ebbtide.scoring.vllm_backend.engine import Request, longest, run


def generate_vllm(
    engine: Any,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    ends: Ends,
    *,
    keys: Sequence[bytes],
    numbers: Sequence[int],
    counters: Counters,
) -> Samples:
    """See `Scorer.generate`.

    `counters.forwarded` does not include tokens that vLLM forwards again after it preempts a sample. Raises
    `ScoringError` if memory holds fewer tokens than the longest prompt and its sample.
    """
    distinct = distinct_prompts(prompts)
    _check_length(engine, max(map(len, distinct), default=0) + decoding.max_tokens)
    engine.reset_prefix_cache()  # rounding must not depend on the tasks before
    prompt_tokens, total = len(prompt_trie([*distinct])), len(prompts) * len(numbers)
    counters.unique += prompt_tokens
    most = prompt_tokens + total * decoding.max_tokens
    done: dict[tuple[int, int], Sample] = {}
    requests = _requests(prompts, decoding, keys, numbers)
    with closing(run(engine, requests)) as steps:
        for step in steps:
            forwarded = 0
            for request, output in step:
                forwarded += 1 if request.of.tokens else len(request.prompt) - (output.num_cached_tokens or 0)
                [new] = output.outputs
                for token, found in zip(new.token_ids, new.logprobs, strict=True):
                    request.of.append(token, found[token].logprob)
            _finish([request for request, _ in step], ends, done)
            counters.forwarded += forwarded
            finished = prompt_tokens * len(done) // total + len(done) * decoding.max_tokens
            counters.done(finished, forwarded, most)
    counters.unique += sum(len(sample.tokens) - 1 for sample in done.values())
    return Samples.of(done[index, number] for index in range(len(prompts)) for number in numbers)


def _check_length(engine: Any, needed: int) -> None:
    if needed > (found := longest(engine)):
        raise ScoringError(
            f"a prompt and its sample have up to {needed} tokens, but vLLM supports {found} with this "
            "model and memory; set a smaller scoring.max_length, or scoring.generation_backend to same.",
            recurs=False,
        )


def _requests(
    prompts: Sequence[Sequence[int]], decoding: Decoding, keys: Sequence[bytes], numbers: Sequence[int]
) -> Iterator[Request]:
    """Yield the samples to generate, one prompt after the other, so that vLLM reuses its keys and values."""
    for index, (prompt, key) in enumerate(zip(prompts, keys, strict=True)):
        noise = Noise(key, decoding.seed)
        for number in numbers:
            chooser = _chooser(decoding, noise, number)
            yield Request(list(prompt), chooser, decoding.max_tokens, of=Unfinished(index, number))


def _chooser(decoding: Decoding, noise: Noise, number: int) -> Choose:
    def token(logits: np.ndarray, position: int) -> int:
        return choose(logits, decoding, lambda count: noise.bits(number, position, count))[0]

    return token


def _finish(requests: Sequence[Request], ends: Ends, done: dict[tuple[int, int], Sample]) -> None:
    """Store the samples that have ended."""
    for request, reason in zip(
        requests, ends.reasons([request.of.tokens for request in requests]), strict=True
    ):
        if reason is not None:
            one: Unfinished = request.of
            request.ended = True
            done[one.prompt, one.number] = ends.sample(one.tokens, one.loglikelihood, reason)
