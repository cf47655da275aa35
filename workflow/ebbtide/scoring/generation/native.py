"""Rows of our own decoder."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ebbtide.scoring.body import NativeBody
from ebbtide.scoring.generation.attention import RowAttention, RowCache
from ebbtide.scoring.generation.decoding import Decoding, Samples
from ebbtide.scoring.generation.ends import Ends
from ebbtide.scoring.generation.loop import Prefilled, Prompt, generate
from ebbtide.scoring.generation.prefill import Segment, prefill
from ebbtide.scoring.generation.prompts import prompt_trie
from ebbtide.scoring.memory import chunk_size
from ebbtide.scoring.scorer import Counters

PREFERRED_ROWS = {"cpu": 256, "cuda": 1024}
LOGITS = 1 << 24  # logits computed at once, at most; but of at least `FEWEST` rows,
FEWEST = 64  # with which multiplying takes longer than reading the output matrix

State = tuple[tuple[Segment, ...], Segment | None]  # segments shared by rows, tokens of a single row


class NativeRows:
    """See `loop.Rows`.

    Parameters
    ----------
    body
        Our decoder.
    capacity
        Largest number of rows.
    shared
        Whether a prompt has several samples. The end of a prompt of a single one is copied to its row,
        where all rows are multiplied at once.
    """

    def __init__(self, body: NativeBody, capacity: int, *, shared: bool) -> None:
        self._body, self._shared = body, shared
        self._cache = RowCache(body.decoder, capacity)
        self.passes: list[int] = []

    def prefill(self, prompts: Sequence[Prompt], chunk: int) -> Iterator[tuple[int, list[Prefilled]]]:
        """See `loop.Rows`."""
        if not prompts:
            return
        for count, indices, hidden, segments in prefill(self._body.decoder, prompt_trie(prompts), chunk):
            self.passes.append(count)
            states: list[State] = [(own, None) if self._shared else (own[:-1], own[-1]) for own in segments]
            logits = [row for block in self._logits(hidden) for row in block]
            yield count, [Prefilled(*one) for one in zip(indices.tolist(), logits, states, strict=True)]

    def enter(self, state: State, count: int) -> None:
        """See `loop.Rows`."""
        with torch.inference_mode():
            self._cache.enter(*state, count)

    def forward(self, tokens: np.ndarray) -> Iterator[np.ndarray]:
        """See `loop.Rows`."""
        decoder, cache = self._body.decoder, self._cache
        self.passes.append(len(tokens))
        with torch.inference_mode():
            attention = RowAttention(decoder, cache)
            token = torch.from_numpy(tokens).to(decoder.embedding.device)
            hidden = decoder.states(token, attention.depth, attention)
        cache.own = [own + 1 for own in cache.own]
        yield from self._logits(hidden)

    def keep(self, rows: Sequence[int]) -> None:
        """See `loop.Rows`."""
        with torch.inference_mode():
            self._cache.keep(rows)

    def _logits(self, hidden: Tensor) -> Iterator[np.ndarray]:
        """Logits of hidden states (k, d) in blocks of rows."""
        size = max(FEWEST, LOGITS // len(self._body.decoder.head.weight))
        for block in torch.split(hidden, size):
            with torch.inference_mode():
                logits = torch.cat([part for _, part in self._body.logits(block)], dim=1)
            yield in_numpy(logits)


def in_numpy(logits: Tensor) -> np.ndarray:
    """Logits as an array of float32, or float64 if they are."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return np.asarray(wide.cpu().numpy())


def generate_native(
    body: NativeBody,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    ends: Ends,
    *,
    keys: Sequence[bytes],
    numbers: Sequence[int],
    counters: Counters,
) -> Samples:
    """See `Scorer.generate`: batches as large as is useful and fits in memory."""
    longest = max(map(len, prompts), default=1)
    # A row has its own tokens, and its share of the prompt of its siblings.
    row = _row_bytes(body, decoding.max_tokens + -(-longest // max(1, len(numbers))))
    shared = len(numbers) > 1 or len(set(map(tuple, prompts))) < len(prompts)
    return generate(
        lambda capacity: NativeRows(body, capacity, shared=shared),
        prompts,
        decoding,
        ends,
        keys=keys,
        numbers=numbers,
        counters=counters,
        batch=chunk_size(PREFERRED_ROWS.get(body.device.type, PREFERRED_ROWS["cpu"]), row, body.device),
        chunk=chunk_size(body.preferred_tokens, body.bytes_per_token(longest), body.device),
    )


def _row_bytes(body: NativeBody, own: int) -> int:
    """Estimated memory (bytes) of a row with this many tokens, whose cache is copied while it grows."""
    decoder = body.decoder
    kept = 2 * 2 * decoder.key_value_heads * decoder.head_dim * len(decoder.layers) * own
    wide = 8 * len(decoder.layers[0].up.weight) + 4 * len(decoder.head.weight)
    return decoder.embedding.element_size() * (kept + wide)
