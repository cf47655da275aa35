"""The protocol of a model that forwards chunks of a trie, and its implementation by our decoder."""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from ebbtide.scoring.attention import Cache
from ebbtide.scoring.chunks import GROUPS_PER_PATH, Chunk, group_size
from ebbtide.scoring.decoder import Decoder
from ebbtide.scoring.head import vocabulary_slices

PREFERRED_TOKENS = {"cpu": 512, "cuda": 32768}  # of our own decoder


class Body(Protocol):
    """A model that forwards chunks of a trie after the path in its cache."""

    @property
    def device(self) -> torch.device:
        """Device of the input tokens."""

    @property
    def preferred_tokens(self) -> int:
        """Tokens per forward pass if memory suffices."""

    def bytes_per_token(self, depth: int) -> int:
        """Estimated memory (bytes) per additional token of a chunk, in a trie of this depth."""

    def start(self) -> None:
        """Clear the path before a new trie."""

    def forward(self, chunk: Chunk) -> Tensor:
        """Final hidden states (k, d) of the chunk's scored nodes. Caches keys and values until `keep`.

        After a failed call, another chunk may be forwarded after the same path.
        """

    def keep(self, slots: Tensor) -> None:
        """Make these slots (of path and chunk) the new path. On failure nothing changes."""

    def logits(self, hidden: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield the logits of hidden states (k, d) in slices of the vocabulary: (first token, (k, v))."""


class NativeBody:
    """Our own decoder."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self._cache = Cache(decoder)

    @property
    def device(self) -> torch.device:
        """See `Body`."""
        return self.decoder.embedding.device

    @property
    def preferred_tokens(self) -> int:
        """See `Body`."""
        return PREFERRED_TOKENS.get(self.device.type, PREFERRED_TOKENS["cpu"])

    def bytes_per_token(self, depth: int) -> int:
        """See `Body`: a few copies of the residual stream, the widest activations, keys and values, masks."""
        decoder, layer = self.decoder, self.decoder.layers[0]
        residual = 6 * decoder.embedding.shape[1]
        wide = 2 * len(layer.up.weight) + 4 * decoder.heads * decoder.head_dim
        kept = 2 * decoder.key_value_heads * decoder.head_dim * (len(decoder.layers) + GROUPS_PER_PATH + 1)
        shared = decoder.slopes is None and decoder.attention_softcap is None
        slots = depth + group_size(self.device.type)
        masks = slots * (1 if shared else decoder.heads)
        return decoder.embedding.element_size() * (residual + wide + kept + 2 * masks)

    def start(self) -> None:
        """See `Body`."""
        self._cache = Cache(self.decoder)

    def forward(self, chunk: Chunk) -> Tensor:
        """See `Body`."""
        self._cache.reserve(len(chunk.past) + chunk.stop - chunk.start)
        return self.decoder.forward(chunk, self._cache)

    def keep(self, slots: Tensor) -> None:
        """See `Body`."""
        self._cache.keep(slots)

    def logits(self, hidden: Tensor) -> Iterator[tuple[int, Tensor]]:
        """See `Body`."""
        head = self.decoder.head
        return vocabulary_slices(hidden, head.weight, head.bias, self.decoder.final_softcap)
