"""A preview of the first requests of a task, as the model reads them, with the notices of its texts."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.tasks.notices import findings, spanning

if TYPE_CHECKING:
    import pandas as pd

    from ebbtide.scoring.tokenizer import Tokenizer

BORDER = "‖"  # between context and continuation
BETWEEN = "·"  # between tokens
MAX_CHARACTERS = 2000  # of a context (its end) and of a continuation (its beginning)

# These characters would break a TSV file.
_VISIBLE = str.maketrans({"\n": "⏎", "\t": "⇥", "\r": "␍"})


def preview(
    requests: "pd.DataFrame",
    examples: int = 5,
    tokenizer: str | Path | None = None,
    footer: Mapping[str, Any] | None = None,
) -> "pd.DataFrame":
    """Return the first examples: `example, choice, role (if any), gold, text, notice`.

    `text` is context and continuation with a mark between them; line breaks and tabs are replaced by symbols.
    With the directory of a `tokenizer`, there are two more columns. `tokens` is the text by token, including
    the beginning token. Its mark is at the boundary that scoring with the defaults (encoding `harness`, bos
    `tokenizer`) uses, which may be before the boundary of the texts. `across` is true where a token contains
    characters from both sides, so that part of the continuation is not scored.

    `notice` says what is remarkable about the texts of the whole task, in the row of its first example, which
    is added to the first `examples` if it is not one of them. `footer` is that of the frozen task.
    """
    loaded = None if tokenizer is None else _load(tokenizer)
    requests = requests.reset_index(drop=True)
    said: dict[int, list[str]] = {}
    for finding in findings(requests, footer or {}, loaded):
        said.setdefault(finding.row or 0, []).append(finding.notice.detail.translate(_VISIBLE))
    named = requests["example"].iloc[sorted(said)] if len(requests) else requests["example"]
    ids = [*requests["example"].drop_duplicates()[:examples], *named]
    first = requests[requests["example"].isin(ids)]
    table = first[[c for c in ("example", "choice", "role", "gold") if c in first.columns]].copy()
    pairs = list(zip(first["context"], first["continuation"], strict=True))
    table["text"] = [_end(context) + BORDER + _beginning(continuation) for context, continuation in pairs]
    if loaded is not None:
        table["tokens"] = list(_tokens(pairs, loaded))
        table["across"] = spanning(loaded, pairs)
    table["notice"] = [" ".join(said.get(row, [])) for row in first.index]
    return table.reset_index(drop=True)


def _load(directory: str | Path) -> "Tokenizer":
    from ebbtide.scoring.tokenizer import load_tokenizer

    return load_tokenizer(directory)


def _tokens(pairs: Sequence[tuple[str, str]], tokenizer: "Tokenizer") -> Iterator[str]:
    for tokens in _encoded(pairs, tokenizer):
        given, scored = (
            BETWEEN.join(tokenizer.backend.decode([token], skip_special_tokens=False) for token in part)
            for part in tokens
        )
        yield _end(given) + BORDER + _beginning(scored)


def _encoded(
    pairs: Sequence[tuple[str, str]], tokenizer: "Tokenizer"
) -> Iterator[tuple[Sequence[int], Sequence[int]]]:
    """Yield the tokens of each context and continuation, or of prompts after which a model writes."""
    from ebbtide.scoring.encoding import NO_LIMIT, encode
    from ebbtide.scoring.generation.prompts import encode_prompts

    contexts, continuations = [context for context, _ in pairs], [continuation for _, continuation in pairs]
    names = [f"request {number}" for number in range(len(pairs))]
    rules: Any = {"bos": "tokenizer", "truncation": "left", "window": NO_LIMIT, "vocabulary": NO_LIMIT}
    if pairs and not any(continuations):
        prompts, _ = encode_prompts(tokenizer, contexts, names, **rules, max_tokens=1)
        yield from ((prompt, ()) for prompt in prompts)
        return
    for request in encode(tokenizer, contexts, continuations, names, encoding="harness", **rules):
        yield request.tokens[: request.context], request.continuation


def _end(text: str) -> str:
    return ("…" + text[-MAX_CHARACTERS:] if len(text) > MAX_CHARACTERS else text).translate(_VISIBLE)


def _beginning(text: str) -> str:
    return (text[:MAX_CHARACTERS] + "…" if len(text) > MAX_CHARACTERS else text).translate(_VISIBLE)
