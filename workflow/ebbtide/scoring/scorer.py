"""The seam between the engine and what computes log-likelihoods. A lean module: no torch.

A back end is a `Scorer`. There are three: our own decoder and transformers (both in `model_scorer`), and one
that makes numbers up (`fake`). `engine.load_scorer` loads a checkpoint with one of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ebbtide.scoring.encoding import Encoded
    from ebbtide.scoring.tokenizer import Tokenizer

AUTO, TRANSFORMERS, FAKE = "auto", "transformers", "fake"
# `auto` is our own decoder for the families that it knows, and transformers for all others.
BACKENDS = (AUTO, TRANSFORMERS, FAKE)


def backend_of(identity: Mapping[str, Any]) -> str:
    """The back end that a cell's identity names; it names none for `auto`."""
    return str(identity.get("backend", AUTO))


def backend_identity(backend: str) -> dict[str, str]:
    """What a back end adds to the identity of its cells: its name, where it may change numbers."""
    return {} if backend == AUTO else {"backend": backend}


@dataclass(frozen=True)
class TokenScores:
    """Scores of one request's continuation tokens."""

    loglikelihoods: tuple[float, ...]  # nats, one per token
    greedy: bool  # every token is the model's argmax
    ranks: tuple[int, ...] | None = None  # 1 + the number of likelier tokens, where asked for


@dataclass
class Counters:
    """What the forwards cost, in tokens."""

    forwarded: int = 0
    unique: int = 0  # nodes of the tries: the least that can be forwarded
    chunk: int = 0  # the most in one forward, where memory sufficed


class Scorer(Protocol):
    """A loaded checkpoint, ready to score."""

    @property
    def tokenizer(self) -> "Tokenizer":
        """Texts to tokens."""

    @property
    def window(self) -> int:
        """Tokens that the model can read."""

    @property
    def vocabulary(self) -> int:
        """Rows of its embedding."""

    @property
    def dtype(self) -> str:
        """The precision of its weights and forwards."""

    @property
    def device(self) -> str:
        """Where it computes."""

    def score(
        self, requests: "Sequence[Encoded]", *, ranks: bool = False, counters: Counters | None = None
    ) -> list[TokenScores]:
        """Log-likelihood (nats) of every continuation token of every request, in their order.

        `ranks` asks for the rank of each token, which costs more. Raises `ScoringError` when not even one
        token at a time fits into memory.
        """

    def record(self) -> dict[str, Any]:
        """Footer entries: parameter counts, `method`, `implementation`, `kernel`, and `versions`.

        `source`, where it is there, replaces `scored` in tables of metrics.
        """
