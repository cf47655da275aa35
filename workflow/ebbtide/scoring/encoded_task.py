"""A task in tokens: everything that its cells need, the same for every checkpoint with the same tokenizer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ebbtide.arrow import key_codes
from ebbtide.errors import ScoringError
from ebbtide.scoring.encoded import Requests
from ebbtide.scoring.encoding import encode
from ebbtide.scoring.fitting import PARTS, fit
from ebbtide.scoring.rolling import count_bytes, count_words, rolling_windows
from ebbtide.scoring.stops import Stops, stops_of
from ebbtide.tables import content_sha256

if TYPE_CHECKING:
    from ebbtide.scoring.scorer import Scorer


@dataclass(frozen=True)
class EncodedTask:
    """Requests, or the windows of documents, in tokens.

    Attributes
    ----------
    requests
        What the model is given.
    rows
        Columns of the cell that need no scores, by name: an array (R,) each.
    facts
        Footer entries that need no scores.
    stops
        Which requests ask whether the model stops; None if none does.
    """

    requests: Requests
    rows: Mapping[str, np.ndarray]
    facts: Mapping[str, Any]
    stops: Stops | None = None


def encode_task(
    scorer: "Scorer",
    table: pa.Table,
    source: object,
    *,
    encoding: str = "harness",
    bos: str = "tokenizer",
    truncation: str = "left",
    window: int,
) -> EncodedTask:
    """Encode a table of requests (columns `example, choice, context, continuation`) from the file `source`.

    Of contexts with parts (column `parts`), as many are kept as fit (`scoring.fitting`). Rules are those of
    `ebbtide.scoring.encoding`. Raises `ScoringError` for an empty table, or a request that cannot be encoded.
    """
    if not len(table):
        raise ScoringError(f"{source} contains no requests.")
    columns = {name: table.column(name).to_pylist() for name in ("context", "continuation")}
    names = row_names(table, source)
    rules: dict[str, Any] = {"encoding": encoding, "bos": bos, "truncation": truncation, "window": window}
    rules["vocabulary"] = scorer.vocabulary
    fitted = fit(scorer.tokenizer, table, names, **rules) if PARTS in table.column_names else None
    if fitted is not None:
        columns["context"] = fitted.contexts
    requests = encode(scorer.tokenizer, columns["context"], columns["continuation"], names, **rules)
    rows = {
        "tokens": requests.scored,
        "bytes": _counts(count_bytes(text) for text in columns["continuation"]),
        "characters": _counts(len(text) for text in columns["continuation"]),
        "context_tokens": requests.context,
        "truncated": requests.truncated,
        "border_token": requests.border,
    }
    facts = {
        "requests": len(requests),
        "requests_sha256": content_sha256(table),
        "truncated": int(requests.truncated.sum()),
        "border_tokens": int(requests.border.sum()),
        "equal_first_tokens": _equal_first_tokens(table, requests),
    }
    if fitted is not None:
        rows[PARTS], facts[PARTS] = fitted.kept, fitted.facts
    stops = stops_of(table, requests, scorer.tokenizer, scorer.vocabulary, source)
    return EncodedTask(requests, rows, facts, stops)


def encode_documents(
    scorer: "Scorer", table: pa.Table, source: object, *, window: int, context: int = 1
) -> EncodedTask:
    """Encode a table of documents (columns `document, text`) in windows (see `scoring.rolling`).

    The rows are one per document. Raises `ScoringError` for documents without tokens, a token outside the
    vocabulary, and a tokenizer without a token to begin with.
    """
    texts, tokenizer = table.column("text").to_pylist(), scorer.tokenizer
    start = tokenizer.bos if tokenizer.bos is not None else tokenizer.eos
    if start is None:
        raise ScoringError(
            f"{source}: the tokenizer has neither a beginning nor an end token to predict the first from."
        )
    tokens = tokenizer.ids(texts)
    highest = max((max(ids) for ids in tokens if ids), default=0)
    if highest >= scorer.vocabulary:
        raise ScoringError(
            f"{source}: token {highest} is outside the model's vocabulary of {scorer.vocabulary}; "
            "the tokenizer does not belong to the model."
        )
    requests, windows = rolling_windows(tokens, start, window, context)
    if not len(requests):
        raise ScoringError(f"{source} contains no tokens.")
    rows = {
        "tokens": _counts(map(len, tokens)),
        "bytes": _counts(map(count_bytes, texts)),
        "words": _counts(map(count_words, texts)),
        "characters": _counts(map(len, texts)),
        "windows": windows,
    }
    facts = {
        "documents": len(texts),
        "documents_sha256": content_sha256(table),
        "context": context,
        "window": window,
    }
    return EncodedTask(requests, rows, facts)


def row_names(keys: pa.Table, source: object) -> list[str]:
    """Names of requests in errors: `FILE: example 3, choice 1`."""
    examples, choices = keys.column("example").to_pylist(), keys.column("choice").to_pylist()
    return [f"{source}: example {e}, choice {c}" for e, c in zip(examples, choices, strict=True)]


def _counts(values: Any) -> np.ndarray:
    return np.fromiter(values, dtype=np.int64)


def _equal_first_tokens(table: pa.Table, requests: Requests) -> int:
    """Number of examples in which two choices begin with the same token."""
    example = key_codes(table, ["example"])
    first = requests.continuations[requests.scored_bounds[:-1]].astype(np.int64)
    if "role" in table.column_names:
        chosen = np.array(table.column("role").to_pylist()) == "choice"
        example, first = example[chosen], first[chosen]
    size = int(first.max(initial=0)) + 1
    pairs, counts = np.unique(example * size + first, return_counts=True)
    return len(np.unique(pairs[counts > 1] // size))
