"""The loss of long documents: log-likelihood, bits per byte, perplexity.

from ebbtide.scoring.documents import score_documents
losses = score_documents(scorer, "documents.parquet")
losses.footer["loss"], losses.footer["bits_per_byte"]
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ebbtide.errors import ScoringError
from ebbtide.scoring.encoded_task import EncodedTask, encode_documents
from ebbtide.scoring.engine import Scored, provenance, sums, window_of
from ebbtide.scoring.peak import peak_memory, reset_peak
from ebbtide.scoring.rolling import bits_per_byte, loss, perplexity
from ebbtide.scoring.scorer import Counters, Scorer
from ebbtide.tables import CELL, INTEGER, REAL, TEXT, Schema, content_sha256, read_parquet, table_of
from ebbtide.texts import json_lines, read_text, suffix_of

DOCUMENTS = Schema(
    kind="documents",
    columns={"document": TEXT + INTEGER, "text": TEXT},
    key=("document",),
    remedy="give a Parquet file with one row per document and the columns document and text",
    missing="correct the path",
)

LOSSES = Schema(
    kind="losses",
    columns={
        "document": TEXT + INTEGER,
        "loglikelihood": REAL,  # nats, summed over the document
        "tokens": INTEGER,
        "bytes": INTEGER,
        "words": INTEGER,
        "windows": INTEGER,  # pieces that were scored separately, as the document exceeds the window
    },
    key=("document",),
    remedy="delete the file and score the documents again",
    missing="score the documents again",
)


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
    table, window = _read(documents), window_of(scorer, max_length)
    task = encode_documents(scorer, table, documents, window=window, context=context)
    return _score(scorer, task, table.column("document"), documents)


def encode_rolling(scorer: Scorer, table: pa.Table, source: str | Path, *, window: int) -> EncodedTask:
    """Encode a frozen task of kind rolling: every request is a document without context.

    Raises the errors of `encode_documents`.
    """
    names = [str(name) for name in table.column("example").to_pylist()]
    texts = table.column("continuation").to_pylist()
    documents = table_of({"document": names, "text": texts}, DOCUMENTS)
    task = encode_documents(scorer, documents, source, window=window)
    record = {"requests": len(table), "requests_sha256": content_sha256(table), "truncated": 0}
    return replace(task, facts={**task.facts, **record})


def score_rolling_task(
    scorer: Scorer,
    task: EncodedTask,
    keys: pa.Table,
    source: str | Path,
    *,
    report: Callable[[int, int], None] | None = None,
) -> Scored:
    """Score an encoded task of kind rolling (see `engine.score_task`).

    The rows are those of a cell. `greedy` is False and `first_token_loglikelihood` is NaN, because they are
    not computed.
    """
    losses = _score(scorer, task, keys.column("example"), source, report)
    none = np.zeros(len(keys), dtype=bool)
    rows = table_of(
        {
            "example": keys.column("example"),
            "choice": keys.column("choice"),
            **{name: losses.rows.column(name) for name in ("loglikelihood", "tokens", "bytes")},
            "characters": task.rows["characters"],
            "greedy": none,
            "first_token_loglikelihood": np.full(len(keys), np.nan),
            "context_tokens": none.astype(np.int64),
            "truncated": none,
        },
        CELL,
    )
    return Scored(rows, losses.footer)


def _score(
    scorer: Scorer,
    task: EncodedTask,
    names: pa.ChunkedArray,
    source: str | Path,
    report: Callable[[int, int], None] | None = None,
) -> Losses:
    """Score encoded documents with these names; `source` is the file they came from."""
    started = time.perf_counter()
    reset_peak(scorer.device)
    counters, record = Counters(report=report), scorer.record()
    scores = scorer.score(task.requests, counters=counters)
    windows = np.cumsum([0, *task.rows["windows"]])  # where those of each document begin
    losses = sums(scores.loglikelihood, scores.bounds[windows])
    for name, value in zip(names.to_pylist(), losses, strict=True):
        if not math.isfinite(value):
            raise ScoringError(
                f"{source}: document {name}: the log-likelihood is {value}; "
                "score in a wider dtype, or check the weights."
            )
    counts = {name: task.rows[name] for name in ("tokens", "bytes", "words")}
    columns = {"document": names, "loglikelihood": losses, **counts, "windows": task.rows["windows"]}
    footer = {
        **task.facts,
        "loss": loss(losses, counts["tokens"].tolist()),
        "bits_per_byte": bits_per_byte(losses, counts["bytes"].tolist()),
        **{f"{what[:-1]}_perplexity": perplexity(losses, counts[what].tolist()) for what in counts},
        **provenance(scorer, counters, record),
        "peak_memory_bytes": peak_memory(scorer.device),
        "seconds": round(time.perf_counter() - started, 3),
    }
    return Losses(table_of(columns, LOSSES), footer)


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
