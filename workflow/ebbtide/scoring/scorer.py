"""The protocol of back ends, which compute log-likelihoods for the engine. A lean module: no torch.

A back end is a `Scorer`. There are four: our own decoder and transformers (both in `model_scorer`), `fake`
with made-up numbers, and vLLM (`vllm_backend`), for generated texts and their load proofs.
`engine.load_scorer` loads a checkpoint with one of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, overload

if TYPE_CHECKING:
    import numpy as np

    from ebbtide.scoring.encoded import Requests
    from ebbtide.scoring.generation.decoding import Decoding, Samples
    from ebbtide.scoring.tokenizer import Tokenizer

AUTO, TRANSFORMERS, FAKE, VLLM = "auto", "transformers", "fake", "vllm"
# `auto` uses our own decoder for the families that it supports, and transformers for all others.
BACKENDS = (AUTO, TRANSFORMERS, FAKE)
SAME = "same"  # as `scoring.generation_backend`: the back end of all other cells


def backend_of(identity: Mapping[str, Any]) -> str:
    """The back end in a cell's identity; `auto` if the identity has none."""
    return str(identity.get("backend", AUTO))


def backend_identity(backend: str) -> dict[str, str]:
    """Entry of a back end in the identity of its cells: its name, unless it is `auto`."""
    return {} if backend == AUTO else {"backend": backend}


def load_once_per(wanted: str, backend: str) -> str:
    """What one load of weights serves, of `cell`, `checkpoint` and `model`.

    With vLLM at most a checkpoint: it has global state for one engine in a process.
    """
    return "checkpoint" if backend == VLLM and wanted == "model" else wanted


@dataclass(frozen=True)
class TokenScores:
    """Scores of one request's continuation tokens."""

    loglikelihoods: tuple[float, ...]  # nats, one per token
    greedy: bool  # every token is the model's argmax
    ranks: tuple[int, ...] | None = None  # 1 + the number of more likely tokens, if requested


@dataclass(frozen=True, eq=False)
class Scores(Sequence[TokenScores]):
    """Scores of the T continuation tokens of R requests, request after request.

    An index gives those of one request as `TokenScores`.
    """

    bounds: "np.ndarray"  # (R + 1,) where the tokens of each request begin, and the end
    loglikelihood: "np.ndarray"  # (T,) float64, nats
    greedy: "np.ndarray"  # (T,) whether the token is the model's argmax
    rank: "np.ndarray | None" = None  # (T,) 1 + the number of more likely tokens, if requested
    best: "np.ndarray | None" = None  # (T,) the model's argmax, if requested

    def __len__(self) -> int:
        """Number of requests."""
        return len(self.bounds) - 1

    @overload
    def __getitem__(self, index: int) -> TokenScores: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[TokenScores]: ...

    def __getitem__(self, index: int | slice) -> TokenScores | Sequence[TokenScores]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        i = range(len(self))[index]
        mine = slice(self.bounds[i], self.bounds[i + 1])
        return TokenScores(
            tuple(self.loglikelihood[mine].tolist()),
            bool(self.greedy[mine].all()),
            None if self.rank is None else tuple(self.rank[mine].tolist()),
        )


@dataclass
class Counters:
    """Numbers of tokens in the forward passes."""

    forwarded: int = 0
    unique: int = 0  # nodes of the tries: the minimum that must be forwarded
    chunk: int = 0  # largest number in one successful forward pass
    report: Callable[[int, int], None] | None = None  # gets the unique tokens done, and all, after a pass

    def done(self, tokens: int, size: int, most: int | None = None) -> None:
        """Note a successful forward pass of `size` tokens, after which `tokens` unique ones are done.

        `most` is the largest number of unique tokens that there can be, while it is not known. On a GPU, the
        pass may still be queued.
        """
        self.chunk = max(self.chunk, size)
        if self.report is not None:
            self.report(tokens, self.unique if most is None else most)


class Scorer(Protocol):
    """A loaded checkpoint, ready to score."""

    @property
    def tokenizer(self) -> "Tokenizer":
        """The tokenizer of the checkpoint, which may be loaded here.

        Raises `CheckpointError` for files that cannot be read, or ids beyond the rows of the embedding.
        """

    @property
    def window(self) -> int:
        """Context window in tokens."""

    @property
    def window_key(self) -> str | None:
        """Key of the configuration that sets the window; None if none does, and the window is a default."""

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding."""

    @property
    def dtype(self) -> str:
        """Precision of the weights and forward passes."""

    @property
    def device(self) -> str:
        """Device of the computation."""

    def score(
        self,
        requests: "Requests",
        *,
        ranks: bool = False,
        best: bool = False,
        counters: Counters | None = None,
    ) -> Scores:
        """Log-likelihood (nats) of every continuation token of every request, in order.

        `ranks` also computes the rank of each token, which takes longer, and `best` the model's argmax in its
        place. Raises `ScoringError` if not even one token fits in memory.
        """

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        decoding: "Decoding",
        *,
        keys: Sequence[bytes],
        eos: frozenset[int],
        numbers: Sequence[int] | None = None,
        counters: Counters | None = None,
    ) -> "Samples":
        """Samples of each prompt, given by its token ids.

        A sample depends on the model, its prompt, the key (16 bytes) of the prompt, its number and the
        decoding alone, but for rounding. `numbers` are those of the samples to generate; None: all of
        `decoding.samples`. `eos` are the tokens that end a sample (`generation.ends.end_tokens`).

        The counters count tokens of prompts and samples: `unique` those that must be forwarded, with what
        prompts share once, and of a sample all but the last. Raises `ScoringError` if not even one sequence
        fits in memory, or if logits are not finite.
        """

    def record(self) -> dict[str, Any]:
        """Footer entries: parameter counts, `method`, `implementation`, `kernel`, `gpus`, and `versions`.

        `source`, if present, replaces `scored` in tables of metrics.
        """
