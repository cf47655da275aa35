"""A preview of the first requests of a task, as the model reads them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

BORDER = "‖"  # between context and continuation
BETWEEN = "·"  # between tokens
MAX_CHARACTERS = 2000  # of a context (its end) and of a continuation (its beginning)

# These characters would break a TSV file.
_VISIBLE = str.maketrans({"\n": "⏎", "\t": "⇥", "\r": "␍"})
_NO_LIMIT = 1 << 40  # tokens


def preview(
    requests: "pd.DataFrame", examples: int = 5, tokenizer: str | Path | None = None
) -> "pd.DataFrame":
    """Return the first examples: `example, choice, role (if any), gold, text`, and optionally `tokens`.

    `text` is context and continuation with a mark between them; line breaks and tabs are replaced by symbols.
    With the directory of a `tokenizer`, `tokens` is the same by token, including the beginning token. Its
    mark is at the boundary that scoring with the defaults (encoding `harness`, bos `tokenizer`) uses, which
    may be before the boundary of the texts.
    """
    ids = requests["example"].drop_duplicates()[:examples]
    first = requests[requests["example"].isin(ids)]
    table = first[[c for c in ("example", "choice", "role", "gold") if c in first.columns]].copy()
    pairs = list(zip(first["context"], first["continuation"], strict=True))
    table["text"] = [_end(context) + BORDER + _beginning(continuation) for context, continuation in pairs]
    if tokenizer is not None:
        table["tokens"] = list(_tokens(pairs, tokenizer))
    return table.reset_index(drop=True)


def _tokens(pairs: Sequence[tuple[str, str]], directory: str | Path) -> Iterator[str]:
    from ebbtide.scoring.encoding import encode
    from ebbtide.scoring.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(directory)
    encoded = encode(
        tokenizer,
        [context for context, _ in pairs],
        [continuation for _, continuation in pairs],
        [f"request {number}" for number in range(len(pairs))],
        encoding="harness",
        bos="tokenizer",
        truncation="left",
        window=_NO_LIMIT,
        vocabulary=_NO_LIMIT,
    )
    for request in encoded:
        texts = [tokenizer.backend.decode([token], skip_special_tokens=False) for token in request.tokens]
        given, scored = BETWEEN.join(texts[: request.context]), BETWEEN.join(texts[request.context :])
        yield _end(given) + BORDER + _beginning(scored)


def _end(text: str) -> str:
    return ("…" + text[-MAX_CHARACTERS:] if len(text) > MAX_CHARACTERS else text).translate(_VISIBLE)


def _beginning(text: str) -> str:
    return (text[:MAX_CHARACTERS] + "…" if len(text) > MAX_CHARACTERS else text).translate(_VISIBLE)
