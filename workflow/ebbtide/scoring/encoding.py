"""Encode contexts and continuations as token ids by a named rule.

context tokens        continuation tokens
[c0 c1 … c(m-1)]      [k0 k1 … k(n-1)]
---- the model reads c0 … k(n-2); the prediction at c(m-1) scores k0, … at k(n-2) scores k(n-1)
"""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from ebbtide.errors import ScoringError
from ebbtide.scoring.encoded import Requests

if TYPE_CHECKING:
    from ebbtide.scoring.tokenizer import Tokenizer

ENCODINGS = ("harness", "joint", "separate")
BOS = ("tokenizer", "always", "never")
TRUNCATIONS = ("left", "refuse")
NO_LIMIT = 1 << 40  # tokens: a window that every text fits

Pair = tuple[list[int], list[int], bool]  # context tokens, scored tokens, whether a token spans the border
Starts = Callable[[str], list[int]]  # tokens to prepend to a text


def encode(
    tokenizer: "Tokenizer",
    contexts: Sequence[str],
    continuations: Sequence[str],
    names: Sequence[str],
    *,
    encoding: str,
    bos: str,
    truncation: str,
    window: int,
    vocabulary: int,
) -> Requests:
    """Encode requests, one per context and continuation.

    Parameters
    ----------
    names
        Name of each request in errors (`example 3, choice 1`).
    encoding
        The boundary between the tokens of the context and those of the continuation:

        `harness` is the rule of lm-evaluation-harness 0.4.13 for causal models (`HFLM.loglikelihood`).
        Trailing whitespace of the context moves to the continuation. The context is encoded alone. The
        continuation has the tokens of the whole text after as many tokens as the context has. There are two
        differences: a context of only whitespace counts as empty, where the harness fails; and a token that
        the tokenizer *appends* to every text is scored by the harness, but omitted here. Where a token spans
        the border (`hello wor` + `ld is round`), the harness scores only what follows the tokens of the
        context, here ` is round`; such a request is flagged (`Requests.border`), also under `joint`.

        `joint` encodes the whole text once. The continuation begins with the token that contains its first
        character, even if that token also contains the end of the context. Whitespace does not move.

        `separate` encodes context and continuation separately. Whitespace does not move.
    bos
        Tokens prepended to the text: `tokenizer` those of its own post-processor; `always` one beginning
        token (or end token, if there is none); `never` none. As in the harness, a text that already begins
        with the beginning token gets no second one.

        The first scored token needs a token before it. Under every `bos`, a request whose context has no
        tokens starts with the beginning (else end) token, as in the harness. If the continuation itself
        begins with that token, the token is the context and is not scored.
    truncation
        For a context that exceeds the window, `left` cuts its left end and flags the request; `refuse` raises
        an error.
    window
        Context window of the model in tokens.
    vocabulary
        Rows of the model's embedding; larger token ids raise an error.

    Raises
    ------
    ScoringError
        An unknown rule, a text that cannot be encoded, a continuation without tokens or longer than the
        window, a token outside the vocabulary, a refused truncation, or no beginning or end token.
    """
    for key, found, allowed in (
        ("encoding", encoding, ENCODINGS),
        ("bos", bos, BOS),
        ("truncation", truncation, TRUNCATIONS),
    ):
        if found not in allowed:
            raise ScoringError(f"{key}: found {found!r}, allowed: {', '.join(allowed)}.")
    rule = {"harness": _harness, "joint": _joint, "separate": _separate}[encoding]
    pairs = rule(tokenizer, contexts, continuations, names, starts_of(tokenizer, bos))
    split = [pair[:2] if pair[0] else _with_start(tokenizer, pair[1]) for pair in pairs]
    given, scored = (np.array([len(part[i]) for part in split], dtype=np.int64) for i in (0, 1))
    bounds = np.cumsum([0, *(given + scored)], dtype=np.int64)
    flat = chain.from_iterable(chain.from_iterable(split))
    tokens = np.fromiter(flat, dtype=np.int64, count=int(bounds[-1]))
    border = np.array([pair[2] for pair in pairs], dtype=bool)
    largest = np.maximum.reduceat(tokens, bounds[:-1]) if split else bounds[:-1]
    cut = np.maximum(0, given + scored - 1 - window)
    wrong = (scored == 0) | (largest >= vocabulary) | (cut >= given) | ((cut > 0) & (truncation == "refuse"))
    if wrong.any():
        i = int(wrong.argmax())
        sizes = int(given[i]), int(scored[i]), window
        reason = _reason(sizes, int(largest[i]), vocabulary, border=bool(border[i]))
        raise ScoringError(f"{names[i]}: {reason}")
    kept = given + scored - cut
    ends = np.repeat(bounds[1:], given + scored)
    tokens = tokens[np.arange(len(tokens)) >= ends - np.repeat(kept, given + scored)]
    return Requests(
        tokens.astype(np.int32), np.cumsum([0, *kept], dtype=np.int64), given - cut, cut > 0, border
    )


def _reason(sizes: tuple[int, int, int], largest: int, vocabulary: int, *, border: bool) -> str:
    """Why a request cannot be encoded; `sizes` are its context and scored tokens, and the window."""
    given, scored, window = sizes
    if not scored:
        hint = "; a token spans its border with the context, so begin it with a space" if border else ""
        return f"the continuation has no tokens of its own after its context{hint}."
    if largest >= vocabulary:
        return (
            f"token {largest} is outside the model's vocabulary of {vocabulary}; "
            "the tokenizer does not belong to the model."
        )
    if scored > window:
        return f"the continuation alone ({scored} tokens) exceeds the window of {window}."
    return (
        f"{given + scored - 1} tokens to read exceed the window of {window}; "
        "shorten the context (fewer shots) or allow `truncation: left`."
    )


def _harness(
    tokenizer: "Tokenizer",
    contexts: Sequence[str],
    continuations: Sequence[str],
    names: Sequence[str],
    starts: Starts,
) -> list[Pair]:
    kept = [context.rstrip() for context in contexts]
    texts = [context + continuation for context, continuation in zip(contexts, continuations, strict=True)]
    cuts = [tokenizer.cut(context, len(context)) for context in kept]
    heads = [context[:cut] for context, cut in zip(kept, cuts, strict=True)]
    alone = [context[cut:] for context, cut in zip(kept, cuts, strict=True)]
    whole = [text[cut:] for text, cut in zip(texts, cuts, strict=True)]
    ids = by_text(tokenizer.ids, [*heads, *alone, *whole], [*names, *names, *names])
    pairs = []
    for i, context in enumerate(contexts):
        head, rest = ids[heads[i]], ids[whole[i]]
        if context:
            given = [*starts(kept[i]), *head, *ids[alone[i]]]
            together = [*starts(texts[i]), *head, *rest]
            pairs.append((given, together[len(given) :], together[: len(given)] != given))
        else:  # without the tokens that the tokenizer itself would prepend
            pairs.append(([], head + rest, False))
    return pairs


def _joint(
    tokenizer: "Tokenizer",
    contexts: Sequence[str],
    continuations: Sequence[str],
    names: Sequence[str],
    starts: Starts,
) -> list[Pair]:
    texts = [context + continuation for context, continuation in zip(contexts, continuations, strict=True)]
    cuts = [tokenizer.cut(text, len(context)) for text, context in zip(texts, contexts, strict=True)]
    ids = by_text(tokenizer.ids, [text[:cut] for text, cut in zip(texts, cuts, strict=True)], names)
    tails = [text[cut:] for text, cut in zip(texts, cuts, strict=True)]
    encodings = by_text(tokenizer.encodings, tails, names)
    pairs = []
    for text, context, cut, tail in zip(texts, contexts, cuts, tails, strict=True):
        encoding, rest = encodings[tail], encodings[tail].ids
        # A character may belong to no token (a space between words); then the next one with a token decides.
        end = len(context) - cut
        tokens = map(encoding.char_to_token, range(end, len(tail)))
        border = next((token for token in tokens if token is not None), len(rest))
        # A space before the border belongs to the token after it, as after the rule of the harness.
        spans = border < len(rest) and bool(tail[encoding.offsets[border][0] : end].strip())
        pairs.append(([*starts(text), *ids[text[:cut]], *rest[:border]], rest[border:], spans))
    return pairs


def _separate(
    tokenizer: "Tokenizer",
    contexts: Sequence[str],
    continuations: Sequence[str],
    names: Sequence[str],
    starts: Starts,
) -> list[Pair]:
    ids = by_text(tokenizer.ids, [*contexts, *continuations], [*names, *names])
    return [
        ([*starts(context or continuation), *ids[context]], ids[continuation], False)
        for context, continuation in zip(contexts, continuations, strict=True)
    ]


def starts_of(tokenizer: "Tokenizer", bos: str) -> Starts:
    """The tokens to prepend under a `bos` policy; none to a text that begins with the start token."""
    start = start_token(tokenizer)
    front = list(tokenizer.beginning)
    if bos == "never":
        front = []
    if bos == "always":
        if start is None:
            raise ScoringError("bos: always, but the tokenizer has neither a beginning nor an end token.")
        front = front if front[:1] == [start] else [start, *front]
    own = None if start is None else tokenizer.backend.decode([start], skip_special_tokens=False)
    return lambda text: [] if own is not None and text.startswith(own) else front


def start_token(tokenizer: "Tokenizer") -> int | None:
    """The beginning token, else the end token: what stands for an empty context."""
    return tokenizer.eos if tokenizer.bos is None else tokenizer.bos


def _with_start(tokenizer: "Tokenizer", scored: list[int]) -> tuple[list[int], list[int]]:
    """Put the start token before scored tokens without a context."""
    start = start_token(tokenizer)
    if start is None:
        raise ScoringError(
            "the tokenizer has neither a beginning nor an end token to stand for an empty context."
        )
    return ([start], scored[1:]) if scored[:1] == [start] else ([start], scored)


def by_text(
    work: Callable[[Sequence[str]], list[Any]],
    texts: Sequence[str],
    names: Sequence[str],
    hint: str = "; does the continuation begin with a space?",
) -> dict[str, Any]:
    """Map each text to the result of `work`; equal texts are encoded once.

    Raises `ScoringError` with the name and the hint for a text that the tokenizer cannot encode.
    """
    unique = list(dict.fromkeys(texts))
    try:
        return dict(zip(unique, work(unique), strict=True))
    except Exception as error:  # a word-level vocabulary without an unknown token raises a plain Exception
        for text, name in zip(texts, names, strict=True):
            if not _is_encodable(work, text):
                raise ScoringError(f"{name}: {text!r} cannot be encoded ({error}){hint or '.'}") from error
        raise


def _is_encodable(work: Callable[[Sequence[str]], list[Any]], text: str) -> bool:
    try:
        work([text])
    except Exception:  # as above
        return False
    return True
