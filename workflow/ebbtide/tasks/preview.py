"""The first requests of a task, as a model will see them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

BORDER = "‖"  # between context and continuation
BETWEEN = "·"  # between tokens
MAX_CHARACTERS = 2000  # of a context (its end) and of a continuation (its beginning)

# These would break a table of lines and tabs.
_VISIBLE = str.maketrans({"\n": "⏎", "\t": "⇥", "\r": "␍"})
_NO_LIMIT = 1 << 40  # tokens


def preview(
    requests: "pd.DataFrame", examples: int = 5, tokenizer: str | Path | None = None
) -> "pd.DataFrame":
    """The first examples: `example, choice, role (where there is one), gold, text`, and `tokens`.

    `text` is context and continuation with a mark at the border; line breaks and tabs are replaced by signs.
    `tokens` is there if `tokenizer` names a directory that has one; the border is where a scorer with the
    default rules (encoding `harness`, bos `tokenizer`) puts it, which may be before the border of
    the texts, and the beginning token is included.
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
