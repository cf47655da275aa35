"""The loss of long documents: log-likelihood, bits per byte, perplexity.

from ebbtide.scoring.documents import score_documents
losses = score_documents(scorer, "documents.parquet")
losses.footer["loss"], losses.footer["bits_per_byte"]
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ebbtide.errors import ScoringError
from ebbtide.files import json_lines
from ebbtide.scoring.engine import Scored, provenance, window_of
from ebbtide.scoring.peak import peak_memory, reset_peak
from ebbtide.scoring.rolling import (
    bits_per_byte,
    count_bytes,
    count_words,
    loss,
    perplexity,
    rolling_windows,
)
from ebbtide.scoring.scorer import Counters, Scorer
from ebbtide.tables import CELL, DOCUMENTS, LOSSES, REQUESTS, content_sha256, read_parquet, table_of
from ebbtide.texts import read_text, suffix_of


@dataclass(frozen=True)
class Losses:
    """One row per document, and the values for the whole corpus in the footer."""

    rows: pa.Table
    footer: dict[str, Any]


def score_documents(
    scorer: Scorer, documents: str | Path, *, context: int = 1, max_length: int | None = None
) -> Losses:
    """Score every token of every document once, in windows (see `ebbtide.scoring.rolling`).

    The first token of a document is predicted from the tokenizer's beginning (or end) token. Tokens that its
    post-processor would add are not part of a document.

    Parameters
    ----------
    documents
        Parquet with columns `document, text`, or JSON Lines (`.jsonl`, `.jsonl.gz`) with `text` and,
        optionally, `document`.
    context
        Fewest tokens that a window (except the first) reads before the first one it scores. 1: as in the
        harness.
    max_length
        Tokens per window; None: the model's own window.

    Returns
    -------
    `Losses`; the footer has, over all documents, `loss` (nats per token), `bits_per_byte`, and perplexity per
    token, byte and word.

    Raises
    ------
    ScoringError
        No documents, no tokens, a token outside the vocabulary, a non-finite log-likelihood.
    CellError
        A damaged file.
    """
    return _score(scorer, _read(documents), documents, context, max_length)


def score_rolling(scorer: Scorer, requests: str | Path, *, max_length: int | None = None) -> Scored:
    """Score a frozen task of kind rolling: every request is a document without context.

    The rows are those of a cell. `greedy` is False and `first_token_loglikelihood` is NaN, because they are
    not computed. Raises the errors of `score_documents`.
    """
    table = read_parquet(requests, REQUESTS)
    names = [str(name) for name in table.column("example").to_pylist()]
    texts = table.column("continuation").to_pylist()
    documents = table_of({"document": names, "text": texts}, DOCUMENTS)
    losses = _score(scorer, documents, requests, 1, max_length)
    rows = table_of(
        {
            "example": table.column("example"),
            "choice": table.column("choice"),
            "loglikelihood": losses.rows.column("loglikelihood"),
            "tokens": losses.rows.column("tokens"),
            "bytes": losses.rows.column("bytes"),
            "characters": [len(text) for text in texts],
            "greedy": [False] * len(texts),
            "first_token_loglikelihood": [math.nan] * len(texts),
            "context_tokens": [0] * len(texts),
            "truncated": [False] * len(texts),
        },
        CELL,
    )
    record = {"requests": len(rows), "requests_sha256": content_sha256(table), "truncated": 0}
    return Scored(rows, {**losses.footer, **record})


def _score(
    scorer: Scorer, table: pa.Table, documents: str | Path, context: int, max_length: int | None
) -> Losses:
    """Score a table of documents; `documents` is the file it came from."""
    started = time.perf_counter()
    reset_peak(scorer.device)
    texts = table.column("text").to_pylist()
    start = scorer.tokenizer.bos if scorer.tokenizer.bos is not None else scorer.tokenizer.eos
    if start is None:
        raise ScoringError(
            f"{documents}: the tokenizer has neither a beginning nor an end token to predict the first from."
        )
    tokens = scorer.tokenizer.ids(texts)
    highest = max((max(ids) for ids in tokens if ids), default=0)
    if highest >= scorer.vocabulary:
        raise ScoringError(
            f"{documents}: token {highest} is outside the model's vocabulary of {scorer.vocabulary}; "
            "the tokenizer does not belong to the model."
        )
    window = window_of(scorer, max_length)
    windows = [rolling_windows(ids, start, window, context) for ids in tokens]
    counters, record = Counters(), scorer.record()
    scores = iter(scorer.score([w for document in windows for w in document], counters=counters))
    sums = [math.fsum(v for _ in document for v in next(scores).loglikelihoods) for document in windows]
    for name, value in zip(table.column("document").to_pylist(), sums, strict=True):
        if not math.isfinite(value):
            raise ScoringError(
                f"{documents}: document {name}: the log-likelihood is {value}; "
                "score in a wider dtype, or check the weights."
            )
    counts = {
        "tokens": [len(ids) for ids in tokens],
        "bytes": [count_bytes(text) for text in texts],
        "words": [count_words(text) for text in texts],
    }
    rows = table_of(
        {
            "document": table.column("document"),
            "loglikelihood": sums,
            **counts,
            "windows": [len(document) for document in windows],
        },
        LOSSES,
    )
    if not sum(counts["tokens"]):
        raise ScoringError(f"{documents} contains no tokens.")
    footer = {
        "documents": len(rows),
        "documents_sha256": content_sha256(table),
        "context": context,
        "window": window,
        "loss": loss(sums, counts["tokens"]),
        "bits_per_byte": bits_per_byte(sums, counts["bytes"]),
        **{f"{what[:-1]}_perplexity": perplexity(sums, counts[what]) for what in counts},
        **provenance(scorer, counters, record),
        "peak_memory_bytes": peak_memory(scorer.device),
        "seconds": round(time.perf_counter() - started, 3),
    }
    return Losses(rows, footer)


def _read(path: str | Path) -> pa.Table:
    if suffix_of(path) != ".jsonl":
        return read_parquet(path, DOCUMENTS, foreign=True)
    names: list[str] = []
    texts: list[str] = []
    lines = read_text(path, ScoringError).split("\n")
    for number, row in json_lines(lines, path, ScoringError):
        try:
            row["text"].encode()  # fails for an unpaired surrogate
        except (ValueError, KeyError, AttributeError):
            raise ScoringError(
                f"{path}: line {number}: text: found {row.get('text')!r:.40}, expected Unicode text."
            ) from None
        texts.append(row["text"])
        names.append(str(row.get("document", number)))
    if len(set(names)) < len(names):
        raise ScoringError(f"{path}: document names are not unique.")
    return table_of({"document": names, "text": texts}, DOCUMENTS)
