"""What tests of generation share: prompts, a tokenizer that spells ids, our decoder in any batches."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch

from ebbtide.scoring.body import NativeBody
from ebbtide.scoring.generation.decoding import Decoding, Samples, generation_key
from ebbtide.scoring.generation.ends import Ends
from ebbtide.scoring.generation.loop import Rows, generate
from ebbtide.scoring.generation.native import NativeRows
from ebbtide.scoring.scorer import Counters

VOCABULARY = 40
LONG = [5] * 20  # longer than a shared segment must be

PROMPTS = [
    *([1, 2], [1, 2, 3], [1, 2, 3, 4, 39], [0], [9, 8, 0, 30, 31, 32, 33]),
    *([*LONG, 1], [*LONG, 1, 2], [*LONG, 3], LONG, [*LONG, *LONG[:15], 4]),
]


class Spelled:
    """A tokenizer without a vocabulary: token 12 is `<12>`."""

    backend = SimpleNamespace(
        decode_batch=lambda texts: ["".join(f"<{token}>" for token in text) for text in texts]
    )


def keys_of(prompts: Sequence[Any]) -> list[bytes]:
    """A key for each prompt, by its tokens."""
    return [generation_key("cell", repr(list(prompt))) for prompt in prompts]


def of_decoder(body: NativeBody, *, shared: bool = True) -> Callable[[int], Rows]:
    """What makes rows of our decoder."""
    return lambda capacity: NativeRows(body, capacity, shared=shared)


def generated(
    rows: Callable[[int], Rows],
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    *,
    batch: int = 64,
    chunk: int = 512,
    numbers: Sequence[int] | None = None,
    eos: frozenset[int] = frozenset(),
    counters: Counters | None = None,
) -> Samples:
    """Samples in batches of a size; the key of a prompt follows from its tokens."""
    return generate(
        rows,
        prompts,
        decoding,
        Ends(Spelled(), decoding, eos),  # type: ignore[arg-type]
        keys=keys_of(prompts),
        numbers=range(decoding.samples) if numbers is None else numbers,
        counters=counters or Counters(),
        batch=batch,
        chunk=chunk,
    )


def greedy_tokens(model: Any, prompt: Sequence[int], most: int) -> list[int]:
    """What `transformers.generate` adds to a prompt, if nothing ends it."""
    ids = torch.tensor([prompt])
    settings = {"do_sample": False, "max_new_tokens": most, "eos_token_id": 10**6, "pad_token_id": 0}
    with torch.no_grad():
        found = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)
    tokens: list[int] = found[0, len(prompt) :].tolist()
    assert len(tokens) == most
    return tokens
