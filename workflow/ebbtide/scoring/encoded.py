"""The requests of a task in tokens, as arrays: no Python object per request or token.

tokens    c0 c1 c2 k0 k1 | c0 k0 | c0 c1 k0 k1 …      c: context, k: scored
bounds    0                5       7             …
context   3                1       2             …
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np

from ebbtide.scoring.trie import Trie, build_trie


@dataclass(frozen=True)
class Encoded:
    """One request in tokens: `tokens[:context]` is the context, `tokens[context:]` is scored."""

    tokens: tuple[int, ...]
    context: int
    truncated: bool
    border: bool = False  # a token of the whole text spans the end of the context

    @property
    def fed(self) -> tuple[int, ...]:
        """The tokens that the model reads: all but the last."""
        return self.tokens[:-1]

    @property
    def continuation(self) -> tuple[int, ...]:
        """The scored tokens."""
        return self.tokens[self.context :]


@dataclass(frozen=True, eq=False)
class Requests(Sequence[Encoded]):
    """R requests; their scored (continuation) tokens are T in total.

    An index gives one request as an `Encoded`, a slice gives `Requests`.
    """

    tokens: np.ndarray  # (S,) int32, request after request
    bounds: np.ndarray  # (R + 1,) int64: where each request begins, and the end
    context: np.ndarray  # (R,) int64, at least 1
    truncated: np.ndarray  # (R,) bool
    border: np.ndarray  # (R,) bool
    stored_trie: Trie | None = None  # None: built when needed

    @classmethod
    def of(cls, requests: Sequence[Encoded]) -> "Requests":
        """The arrays of single requests."""
        return cls(
            np.array([token for request in requests for token in request.tokens], dtype=np.int32),
            np.cumsum([0, *(len(request.tokens) for request in requests)], dtype=np.int64),
            np.array([request.context for request in requests], dtype=np.int64),
            np.array([request.truncated for request in requests], dtype=bool),
            np.array([request.border for request in requests], dtype=bool),
        )

    def __len__(self) -> int:
        """Number of requests."""
        return len(self.context)

    @overload
    def __getitem__(self, index: int) -> Encoded: ...

    @overload
    def __getitem__(self, index: slice) -> "Requests": ...

    def __getitem__(self, index: int | slice) -> "Encoded | Requests":
        if isinstance(index, slice):
            return Requests.of([self[i] for i in range(*index.indices(len(self)))])
        i = range(len(self))[index]
        return Encoded(
            tuple(self.tokens[self.bounds[i] : self.bounds[i + 1]].tolist()),
            int(self.context[i]),
            bool(self.truncated[i]),
            bool(self.border[i]),
        )

    @cached_property
    def trie(self) -> Trie:
        """The prefix trie of the tokens that the model reads."""
        return self.stored_trie or build_trie(self.tokens, self.bounds, self.context)

    @cached_property
    def scored(self) -> np.ndarray:
        """Number of scored tokens of each request (R,)."""
        return np.asarray(np.diff(self.bounds) - self.context)

    @cached_property
    def scored_bounds(self) -> np.ndarray:
        """Where the scored tokens of each request begin among those of all requests, and the end (R + 1,)."""
        return np.cumsum([0, *self.scored])

    @cached_property
    def continuations(self) -> np.ndarray:
        """The scored tokens of all requests, request after request (T,)."""
        place = np.arange(len(self.tokens)) - np.repeat(self.bounds[:-1], np.diff(self.bounds))
        return np.asarray(self.tokens[place >= np.repeat(self.context, np.diff(self.bounds))])

    @property
    def deepest(self) -> int:
        """Most tokens that the model reads of one request; 0 without requests."""
        return int(np.diff(self.bounds).max(initial=1)) - 1
