"""Prompts as token ids, by the rules of `ebbtide.scoring.encoding` for contexts, and their prefix trie."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ebbtide.errors import ScoringError
from ebbtide.scoring.encoding import BOS, TRUNCATIONS, by_text, start_token, starts_of
from ebbtide.scoring.trie import Trie, build_trie

if TYPE_CHECKING:
    from ebbtide.scoring.tokenizer import Tokenizer


def encode_prompts(
    tokenizer: "Tokenizer",
    contexts: Sequence[str],
    names: Sequence[str],
    *,
    bos: str,
    truncation: str,
    window: int,
    vocabulary: int,
    max_tokens: int,
) -> tuple[list[list[int]], dict[str, Any]]:
    """Encode prompts, to each of which `max_tokens` may be added within the window.

    Parameters
    ----------
    names
        Name of each prompt in errors (`example 3`).
    bos, truncation
        See `encoding.encode`. An empty prompt is the beginning (else end) token.
    window
        Context window of the model in tokens.
    vocabulary
        Rows of the model's embedding; larger token ids raise an error.

    Returns
    -------
    ids
        Token ids of each prompt.
    facts
        Arrays (P,) by name: `context_tokens`, and `truncated`, whether a prompt lost its beginning.

    Raises
    ------
    ScoringError
        An unknown rule, a prompt that cannot be encoded, a token outside the vocabulary, a refused
        truncation, no beginning or end token, or a window too small for `max_tokens`.
    """
    for key, found, allowed in (("bos", bos, BOS), ("truncation", truncation, TRUNCATIONS)):
        if found not in allowed:
            raise ScoringError(f"{key}: found {found!r}, allowed: {', '.join(allowed)}.")
    space = window - max_tokens
    if space < 1:
        raise ScoringError(
            f"decoding.max_tokens: found {max_tokens}, but the window is {window} tokens, of which a prompt "
            f"needs one; allowed: at most {window - 1}."
        )
    starts, start = starts_of(tokenizer, bos), start_token(tokenizer)
    encoded = by_text(tokenizer.ids, contexts, names, hint="")
    ids, truncated = [], []
    for context, name in zip(contexts, names, strict=True):
        tokens = [*starts(context), *encoded[context]] if context else []
        if not tokens:
            if start is None:
                raise ScoringError(
                    f"{name}: the prompt has no tokens, and the tokenizer has neither a beginning nor an end "
                    "token to stand for an empty one."
                )
            tokens = [start]
        if (largest := max(tokens)) >= vocabulary:
            raise ScoringError(
                f"{name}: token {largest} is outside the model's vocabulary of {vocabulary}; "
                "the tokenizer does not belong to the model."
            )
        if len(tokens) > space and truncation == "refuse":
            raise ScoringError(
                f"{name}: the prompt has {len(tokens)} tokens, which with decoding.max_tokens {max_tokens} "
                f"exceed the window of {window}; shorten the prompt, lower decoding.max_tokens or allow "
                "`truncation: left`."
            )
        ids.append(tokens[-space:])
        truncated.append(len(tokens) > space)
    counts = np.array([len(tokens) for tokens in ids], dtype=np.int64)
    return ids, {"context_tokens": counts, "truncated": np.array(truncated, dtype=bool)}


def prompt_trie(prompts: Sequence[Sequence[int]]) -> Trie:
    """The prefix trie of prompts: one target per prompt, at the node of its last token."""
    lengths = np.array([len(prompt) for prompt in prompts], dtype=np.int64)
    padded = [token for prompt in prompts for token in (*prompt, 0)]  # the trie leaves out the last token
    bounds = np.cumsum([0, *(lengths + 1)], dtype=np.int64)
    return build_trie(np.array(padded, dtype=np.int32), bounds, lengths)
