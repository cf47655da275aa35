"""Rows of transformers models, whose forward pass takes a `DynamicCache`; or, without one, whole texts.

prompts are padded on the right   b b b ·     nothing attends to the right, so no mask is needed
                                  a a a a
rows are padded on the left       · b b b B   a mask hides the padding, and positions are given
                                  a a a a A
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ebbtide.logs import log
from ebbtide.scoring.generation.decoding import Decoding, Samples
from ebbtide.scoring.generation.ends import Ends
from ebbtide.scoring.generation.loop import Prefilled, Prompt, Rows, generate
from ebbtide.scoring.generation.native import in_numpy
from ebbtide.scoring.hugging_face import is_length_dependent
from ebbtide.scoring.memory import chunk_size, is_out_of_memory
from ebbtide.scoring.padded import input_device
from ebbtide.scoring.scorer import Counters

PREFERRED_ROWS = {"cpu": 128, "cuda": 512}
PREFERRED_TOKENS = {"cpu": 512, "cuda": 4096}  # of prompts, in one forward pass

Kept = list[tuple[Tensor, Tensor]]  # keys and values of each layer: (heads, n, h), or (B, heads, n, h)


class CachedRows:
    """See `loop.Rows`."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._takes_positions = "position_ids" in inspect.signature(model.forward).parameters
        self._entering: list[tuple[Kept, int]] = []
        self._kept: Kept = []
        self._lengths: list[int] = []  # tokens of each row in the cache
        self.passes: list[int] = []

    def prefill(self, prompts: Sequence[Prompt], chunk: int) -> Iterator[tuple[int, list[Prefilled]]]:
        """See `loop.Rows`."""
        for some, logits, cache in _padded_prompts(self._model, prompts, chunk, self.passes, cached=True):
            states = [
                [(layer.keys[row, :, :length], layer.values[row, :, :length]) for layer in cache.layers]
                for row, length in enumerate(len(prompts[index]) for index in some)
            ]
            found = [Prefilled(*one) for one in zip(some, logits, states, strict=True)]
            yield sum(len(prompts[index]) for index in some), found

    def enter(self, state: Kept, count: int) -> None:
        """See `loop.Rows`."""
        self._entering.append((state, count))

    def forward(self, tokens: np.ndarray) -> Iterator[np.ndarray]:
        """See `loop.Rows`."""
        self.passes.append(len(tokens))
        device = input_device(self._model)
        with torch.inference_mode():
            self._merge()
            lengths = torch.tensor(self._lengths, device=device)[:, None]  # (B, 1)
            longest = max(self._lengths)
            mask = torch.arange(longest + 1, device=device) >= longest - lengths  # (B, longest + 1)
            output = self._model(
                torch.from_numpy(tokens).to(device)[:, None],
                attention_mask=mask.long(),
                past_key_values=_cache_of(self._kept),
                use_cache=True,
                logits_to_keep=1,
                **({"position_ids": lengths} if self._takes_positions else {}),
            )
            self._kept = [(layer.keys, layer.values) for layer in output.past_key_values.layers]
            self._lengths = [length + 1 for length in self._lengths]
            logits = in_numpy(output.logits[:, -1])
        yield logits

    def keep(self, rows: Sequence[int]) -> None:
        """See `loop.Rows`."""
        if list(rows) == list(range(len(self._lengths))):
            return
        self._lengths = [self._lengths[row] for row in rows]
        columns = slice(-max(self._lengths, default=0) or None, None)
        with torch.inference_mode():
            self._kept = [(k[list(rows), :, columns], v[list(rows), :, columns]) for k, v in self._kept]

    def _merge(self) -> None:
        """Append the rows that have entered, padded on the left to one length."""
        if not self._entering:
            return
        parts = [[(k[None].expand(n, -1, -1, -1), v[None].expand(n, -1, -1, -1)) for k, v in state]
                 for state, n in self._entering]  # fmt: skip
        parts = [self._kept, *parts] if self._lengths else parts
        longest = max(part[0][0].shape[2] for part in parts)

        def joined(tensors: Sequence[Tensor]) -> Tensor:
            return torch.cat([functional.pad(t, (0, 0, longest - t.shape[2], 0)) for t in tensors])

        self._kept = [
            (joined([k for k, _ in layer]), joined([v for _, v in layer]))
            for layer in zip(*parts, strict=True)
        ]
        for state, count in self._entering:
            self._lengths += [state[0][0].shape[1]] * count
        self._entering.clear()


class UncachedRows:
    """See `loop.Rows`: whole texts in each pass, for models with another cache or none.

    `alone` forwards each row by itself, for models whose positions depend on the longest row.
    """

    def __init__(self, model: Any, *, alone: bool) -> None:
        self._model, self._alone = model, alone
        self._rows: list[Prompt] = []
        self.passes: list[int] = []

    def prefill(self, prompts: Sequence[Prompt], chunk: int) -> Iterator[tuple[int, list[Prefilled]]]:
        """See `loop.Rows`."""
        for some, logits in self._logits(prompts, chunk):
            found = [Prefilled(index, row, prompts[index]) for index, row in zip(some, logits, strict=True)]
            yield sum(len(prompts[index]) for index in some), found

    def enter(self, state: Prompt, count: int) -> None:
        """See `loop.Rows`."""
        self._rows += [state] * count

    def forward(self, tokens: np.ndarray) -> Iterator[np.ndarray]:
        """See `loop.Rows`."""
        self._rows = [(*row, token) for row, token in zip(self._rows, tokens.tolist(), strict=True)]
        places: list[int] = []
        found: list[np.ndarray] = []
        for some, logits in self._logits(self._rows, PREFERRED_TOKENS["cuda"]):
            places += some
            found.append(logits)
        yield np.concatenate(found)[np.argsort(places)]

    def keep(self, rows: Sequence[int]) -> None:
        """See `loop.Rows`."""
        self._rows = [self._rows[row] for row in rows]

    def _logits(self, texts: Sequence[Prompt], chunk: int) -> Iterator[tuple[list[int], np.ndarray]]:
        size = 1 if self._alone else chunk
        for some, logits, _ in _padded_prompts(self._model, texts, size, self.passes, cached=False):
            yield some, logits


def _padded_prompts(
    model: Any, texts: Sequence[Prompt], size: int, passes: list[int], *, cached: bool
) -> Iterator[tuple[list[int], np.ndarray, Any]]:
    """Forward texts, longest first, in batches of at most `size` tokens (or one text), padded on the right.

    Yields indices of texts, logits (k, V) after the last token of each, and the cache if `cached`.
    """
    order = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
    device, start = input_device(model), 0
    while start < len(order):
        longest = len(texts[order[start]])
        some = order[start : start + max(1, size // longest)]
        start += len(some)
        passes.append(len(some) * longest)
        shortest = len(texts[some[-1]])
        fed = torch.tensor([[*texts[index], *[0] * (longest - len(texts[index]))] for index in some])
        with torch.inference_mode():
            named = {"past_key_values": _cache_of([]), "use_cache": True} if cached else {"use_cache": False}
            output = model(fed.to(device), logits_to_keep=longest - shortest + 1, **named)
            last = torch.tensor([len(texts[index]) - longest - 1 for index in some])
            logits = in_numpy(output.logits[torch.arange(len(some)), last])
        yield some, logits, output.past_key_values if cached else None


def _cache_of(kept: Kept) -> Any:
    """A cache without windows, which the mask implements."""
    from transformers import DynamicCache

    cache = DynamicCache()
    for layer, (keys, values) in enumerate(kept):
        cache.update(keys, values, layer)
    return cache


def rows_of(model: Any) -> Callable[[], Rows]:
    """What makes rows of a model: cached ones if they give the logits of whole texts, else these.

    The reason for whole texts is logged. Logits are compared for two rows of different lengths.
    """
    alone = is_length_dependent(model.config)
    uncached = partial(UncachedRows, model, alone=alone)
    name = type(model).__name__
    if alone:
        log.warning("%s: generates without a cache (its positions depend on the length)", name)
        return uncached
    try:
        found = _probe(CachedRows(model), model)
    except Exception as error:  # anything that the model's code raises for an unsupported cache
        if is_out_of_memory(error):
            raise
        log.warning("%s: generates without a cache (%s: %s)", name, type(error).__name__, error)
        return uncached
    difference = float(np.abs(found - _probe(uncached(), model)).max())
    tolerance = 1e-3 if model.dtype in (torch.float32, torch.float64) else 0.3
    if difference <= tolerance:
        return partial(CachedRows, model)
    log.warning("%s: generates without a cache (its logits differ by %.2g)", name, difference)
    return uncached


def _probe(rows: Rows, model: Any) -> np.ndarray:
    """Logits (2, V) of two rows after some tokens, one of which has entered later."""
    vocabulary = int(model.get_input_embeddings().num_embeddings)

    def tokens(*numbers: int) -> Prompt:
        return tuple((7 * number + 3) % vocabulary for number in numbers)

    states = {one.prompt: one.state for _, some in rows.prefill([tokens(0, 1, 2), tokens(*range(3, 12))], 64)
              for one in some}  # fmt: skip
    rows.enter(states[0], 1)
    list(rows.forward(np.array(tokens(20))))
    rows.enter(states[1], 1)
    list(rows.forward(np.array(tokens(21, 22))))
    return np.concatenate(list(rows.forward(np.array(tokens(23, 24)))))


def generate_transformers(
    model: Any,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    ends: Ends,
    *,
    keys: Sequence[bytes],
    numbers: Sequence[int],
    counters: Counters,
) -> Samples:
    """See `Scorer.generate`."""
    make, device = rows_of(model), input_device(model)
    config = model.config.get_text_config()
    longest = max(map(len, prompts), default=1) + decoding.max_tokens
    # Keys and values of a row, copied when the batch changes, and its logits.
    token = int(model.dtype.itemsize) * 2 * config.hidden_size * config.num_hidden_layers
    row = 3 * longest * token + 16 * int(model.get_input_embeddings().num_embeddings)
    return generate(
        lambda _: make(),
        prompts,
        decoding,
        ends,
        keys=keys,
        numbers=numbers,
        counters=counters,
        batch=chunk_size(PREFERRED_ROWS.get(device.type, PREFERRED_ROWS["cpu"]), row, device),
        chunk=chunk_size(PREFERRED_TOKENS.get(device.type, PREFERRED_TOKENS["cpu"]), 12 * token, device),
    )
