"""Decode all samples in batches: finished ones leave, waiting ones enter.

A batch is what the back end holds as `Rows`. Each pass forwards the newest token of every row. The first
token of all samples of a prompt is chosen from the same logits, so a prompt is forwarded once.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ebbtide.errors import ScoringError
from ebbtide.logs import log
from ebbtide.scoring.generation.choice import choose
from ebbtide.scoring.generation.decoding import Decoding, Sample, Samples
from ebbtide.scoring.generation.ends import Ends
from ebbtide.scoring.generation.noise import Noise
from ebbtide.scoring.generation.prompts import prompt_trie
from ebbtide.scoring.memory import is_out_of_memory, out_of_memory_message, release
from ebbtide.scoring.scorer import Counters

Prompt = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Prefilled:
    """A prompt that has been forwarded."""

    prompt: int  # index in the list given to `Rows.prefill`
    logits: np.ndarray  # (V,) of its first new token
    state: Any  # keys and values, in the form of the back end


class Rows(Protocol):
    """Sequences of a batch, one per row, and the keys and values of their tokens."""

    passes: list[int]  # number of tokens of each forward pass so far, with padding and repeated ones

    def prefill(self, prompts: Sequence[Prompt], chunk: int) -> Iterator[tuple[int, list[Prefilled]]]:
        """Forward different prompts, about `chunk` tokens at a time: tokens done, and prompts complete."""

    def enter(self, state: Any, count: int) -> None:
        """Append this many rows that continue a prompt."""

    def forward(self, tokens: np.ndarray) -> Iterator[np.ndarray]:
        """Append a token (B,) to each row. Yields the logits of the next ones in blocks of rows (b, V)."""

    def keep(self, rows: Sequence[int]) -> None:
        """Keep only these rows, in this order."""


def generate(
    rows: Callable[[int], Rows],
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    ends: Ends,
    *,
    keys: Sequence[bytes],
    numbers: Sequence[int],
    counters: Counters,
    batch: int,
    chunk: int,
) -> Samples:
    """See `Scorer.generate`.

    `rows` makes the rows of a batch of a size, which is at most `batch`; `chunk` is the largest number of
    tokens of prompts that are forwarded together. When memory runs out, both are halved, finished samples are
    kept, and the others start again. Raises `ScoringError` if a single row does not fit, or for a prompt
    without tokens.
    """
    distinct = distinct_prompts(prompts)
    noise = [Noise(key, decoding.seed) for _, key in zip(prompts, keys, strict=True)]
    run = _Run(decoding, ends, noise, list(numbers), counters, len(prompt_trie([*distinct])))
    counters.unique += run.prompt_tokens
    while run.left:
        try:
            run.attempt(rows(min(batch, run.left)), distinct, batch, chunk)
            break
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if batch == chunk == 1:
                longest = max(map(len, distinct)) + decoding.max_tokens
                message = out_of_memory_message(f"one sequence of up to {longest} tokens")
                raise ScoringError(message, recurs=False) from error
        # Outside the except clause, whose traceback keeps the tensors alive.
        batch, chunk = max(1, batch // 2), max(1, chunk // 2)
        log.info("out of memory: continuing with batches of %d sequences", batch)
        release()
    found = run.done
    counters.unique += sum(len(sample.tokens) - 1 for sample in found.values())
    return Samples.of(found[index, number] for index in range(len(prompts)) for number in numbers)


def distinct_prompts(prompts: Sequence[Sequence[int]]) -> dict[Prompt, list[int]]:
    """Different prompts, with the indices of each. Raises `ScoringError` for one without tokens."""
    distinct: dict[Prompt, list[int]] = {}
    for index, prompt in enumerate(prompts):
        if not len(prompt):
            raise ScoringError(f"prompt {index} has no tokens.")
        distinct.setdefault(tuple(prompt), []).append(index)
    return distinct


@dataclass(eq=False)
class Unfinished:
    """A sample that is being generated."""

    prompt: int
    number: int
    tokens: list[int] = field(default_factory=list)
    loglikelihood: list[float] = field(default_factory=list)

    def append(self, token: int, loglikelihood: float) -> None:
        """Append a token. Raises `ScoringError` for a log-likelihood that is not finite."""
        if not np.isfinite(loglikelihood):
            raise ScoringError(
                f"prompt {self.prompt}: the log-likelihood of new token {len(self.tokens)} is "
                f"{loglikelihood}; generate in a wider dtype, or check the weights."
            )
        self.tokens.append(token)
        self.loglikelihood.append(loglikelihood)


@dataclass(eq=False)
class _Waiting:
    """A prompt of which samples have not begun."""

    prefilled: Prefilled
    cells: deque[tuple[int, int]]  # prompt, number


@dataclass(eq=False)
class _Run:
    """Finished samples, and the attempt to generate the others."""

    decoding: Decoding
    ends: Ends
    noise: Sequence[Noise]  # of each prompt
    numbers: Sequence[int]
    counters: Counters
    prompt_tokens: int  # unique ones
    done: dict[tuple[int, int], Sample] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """Number of samples that are not finished."""
        return len(self.noise) * len(self.numbers) - len(self.done)

    def attempt(self, rows: Rows, distinct: dict[Prompt, list[int]], batch: int, chunk: int) -> None:
        """Generate what is not done. On failure, finished samples are kept."""
        try:
            self._attempt(rows, distinct, batch, chunk)
        finally:
            self.counters.forwarded += sum(rows.passes)

    def _attempt(self, rows: Rows, distinct: dict[Prompt, list[int]], batch: int, chunk: int) -> None:
        begun = 0  # tokens of prompts
        cells = {
            prompt: deque((i, n) for i in indices for n in self.numbers if (i, n) not in self.done)
            for prompt, indices in distinct.items()
        }
        left = [prompt for prompt, missing in cells.items() if missing]
        source = rows.prefill(left, chunk)
        waiting: deque[_Waiting] = deque()
        live: list[Unfinished] = []
        while True:
            while len(live) < batch:
                if not waiting:
                    found = next(source, None)
                    if found is None:
                        break
                    begun += found[0]
                    self._count(rows, begun, live)
                    waiting.extend(_Waiting(one, cells[left[one.prompt]]) for one in found[1])
                    continue
                live += self._begin(rows, waiting[0], batch - len(live))
                if not waiting[0].cells:
                    waiting.popleft()
            if not live:
                return
            self._advance(rows, live)
            self._count(rows, begun, live)
            going = self._finish(live)
            rows.keep(going)
            live = [live[row] for row in going]

    def _begin(self, rows: Rows, waiting: _Waiting, most: int) -> list[Unfinished]:
        """Choose the first tokens of up to `most` samples of a prompt; those that go on enter the batch."""
        new = [Unfinished(*waiting.cells.popleft()) for _ in range(min(most, len(waiting.cells)))]
        for sequence in new:
            self._append(sequence, waiting.prefilled.logits)
        going = sorted(self._finish(new))
        if going:
            rows.enter(waiting.prefilled.state, len(going))
        return [new[row] for row in going]

    def _advance(self, rows: Rows, live: Sequence[Unfinished]) -> None:
        """Forward the newest token of each row, and choose the next one."""
        following = iter(live)
        for block in rows.forward(np.array([sequence.tokens[-1] for sequence in live], dtype=np.int64)):
            for logits in block:
                self._append(next(following), logits)

    def _append(self, sequence: Unfinished, logits: np.ndarray) -> None:
        noise, place = self.noise[sequence.prompt], (sequence.number, len(sequence.tokens))
        sequence.append(*choose(logits, self.decoding, lambda count: noise.bits(*place, count)))

    def _finish(self, live: Sequence[Unfinished]) -> list[int]:
        """Store the samples that have ended. Returns the rows of the others: the last ones fill the holes."""
        going = [True] * len(live)
        for row, ended in enumerate(self.ends.reasons([sequence.tokens for sequence in live])):
            if ended is not None:
                one, going[row] = live[row], False
                sample = self.ends.sample(one.tokens, one.loglikelihood, ended)
                self.done[one.prompt, one.number] = sample
        return _filled(going)

    def _count(self, rows: Rows, begun: int, live: Sequence[Unfinished]) -> None:
        """Note a forward pass after `begun` tokens of prompts; finished samples count as long ones."""
        longest = self.decoding.max_tokens
        tokens = longest * len(self.done) + sum(len(sequence.tokens) for sequence in live)
        most = longest * len(self.noise) * len(self.numbers)
        begun = min(begun, self.prompt_tokens)
        self.counters.done(begun + tokens, rows.passes[-1], self.prompt_tokens + most)


def _filled(going: Sequence[bool]) -> list[int]:
    """Rows that go on, so that few of them move: the last ones take the places of those that do not."""
    kept = [row for row, goes in enumerate(going) if goes]
    size = len(kept)
    last = (row for row in reversed(kept) if row >= size)
    return [row if going[row] else next(last) for row in range(size)]
