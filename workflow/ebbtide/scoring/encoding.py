"""From texts to token ids, by a named rule.

context tokens        continuation tokens
[c0 c1 … c(m-1)]      [k0 k1 … k(n-1)]
---- the model is fed c0 … k(n-2); the prediction at c(m-1) scores k0, … at k(n-2) scores k(n-1)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ebbtide.errors import ScoringError

ENCODINGS = ("harness",)


@dataclass(frozen=True)
class Encoded:
    """One request in tokens: `tokens[:context]` is given, `tokens[context:]` is scored."""

    tokens: tuple[int, ...]
    context: int
    truncated: bool

    @property
    def fed(self) -> tuple[int, ...]:
        """What the model reads: everything but the last token."""
        return self.tokens[:-1]

    @property
    def continuation(self) -> tuple[int, ...]:
        """The tokens whose log-likelihood is asked."""
        return self.tokens[self.context :]


def encode(
    tokenizer: Any,
    contexts: Sequence[str],
    continuations: Sequence[str],
    names: Sequence[str],
    *,
    encoding: str,
    window: int,
    vocabulary: int,
) -> list[Encoded]:
    """Encode requests by the rule of lm-evaluation-harness (0.4.13).

    Trailing whitespace of the context moves to the continuation; the context's tokens are those of the
    context alone; the continuation's are those of the whole text after as many tokens. The beginning
    token is added when the tokenizer's own post-processor adds it; an empty context without one
    becomes the beginning (or end-of-text) token.

    Parameters
    ----------
    names
        How to call each request in an error (`example 3, choice 1`).
    window
        Tokens the model can read; a longer context loses its *left* end and the request is flagged.
    vocabulary
        Rows of the model's embedding; a token beyond it is an error.

    Raises
    ------
    ScoringError
        A continuation of zero tokens, one longer than the window, a token outside the vocabulary.
    """
    if encoding not in ENCODINGS:
        raise ScoringError(f"encoding: found {encoding!r}, allowed: {', '.join(ENCODINGS)}.")
    prefix = beginning(tokenizer)
    moved = [_move_whitespace(c, k) for c, k in zip(contexts, continuations, strict=True)]
    plain = _token_ids(tokenizer, [c for c, _ in moved], names)
    whole = _token_ids(tokenizer, [c + k for c, k in moved], names)
    start = prefix if prefix or all(plain) else _fallback_start(tokenizer)
    encoded = []
    for given, ids, name in zip(plain, whole, names, strict=True):
        head = [*prefix, *given] or start
        tokens = head + ids[len(given) :]
        if len(tokens) == len(head):
            raise ScoringError(f"{name}: the continuation has no tokens of its own after its context.")
        if max(tokens) >= vocabulary:
            raise ScoringError(
                f"{name}: token {max(tokens)} is outside the model's vocabulary of {vocabulary}; "
                "the tokenizer does not belong to the model."
            )
        cut = max(0, len(tokens) - 1 - window)
        if cut >= len(head):
            raise ScoringError(
                f"{name}: the continuation alone ({len(tokens) - len(head)} tokens) exceeds "
                f"the window of {window}."
            )
        encoded.append(Encoded(tuple(tokens[cut:]), len(head) - cut, cut > 0))
    return encoded


def beginning(tokenizer: Any) -> list[int]:
    """Tokens that the tokenizer's own post-processor puts before a text (often none, or one)."""
    special = set(tokenizer.all_special_tokens)
    for word in ["a"] if _knows(tokenizer, "a") else tokenizer.get_vocab():
        if word not in special and _knows(tokenizer, word):
            bare, full = (tokenizer(word, add_special_tokens=s)["input_ids"] for s in (False, True))
            return list(full[: full.index(bare[0])])  # and not what may be put behind
    return []


def _knows(tokenizer: Any, word: str) -> bool:
    try:
        return bool(tokenizer(word, add_special_tokens=False)["input_ids"])
    except Exception:  # a word-level vocabulary without an unknown token raises a bare Exception
        return False


def _fallback_start(tokenizer: Any) -> list[int]:
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if start is None:
        raise ScoringError(
            "the tokenizer has neither a beginning nor an end token to stand for an empty context."
        )
    return [start]


def _move_whitespace(context: str, continuation: str) -> tuple[str, str]:
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation


def _token_ids(tokenizer: Any, texts: Sequence[str], names: Sequence[str]) -> list[list[int]]:
    """Token ids of each text without special tokens; equal texts are encoded once."""
    unique = list(dict.fromkeys(texts))
    try:
        ids = dict(zip(unique, tokenizer(unique, add_special_tokens=False)["input_ids"], strict=True))
    except Exception as error:
        for text, name in zip(texts, names, strict=True):
            if text and not _knows(tokenizer, text):
                raise ScoringError(
                    f"{name}: {text!r} cannot be encoded ({error}); does the continuation begin with a space?"
                ) from error
        raise
    return [list(ids[text]) for text in texts]
