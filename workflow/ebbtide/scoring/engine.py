"""Score all requests of a task with one checkpoint.

from ebbtide.scoring.engine import load_scorer, score_requests
scorer = load_scorer("path/to/checkpoint", dtype="float32")
scored = score_requests(scorer, "requests.parquet")
scored.rows        # one row per request: log-likelihood, tokens, greedy, …
"""

import math
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ebbtide.arrow import array_of
from ebbtide.checkpoints.precision import DTYPES
from ebbtide.environment import quick_start
from ebbtide.errors import ConfigError, ScoringError
from ebbtide.scoring.encoding import Encoded, encode
from ebbtide.scoring.peak import peak_memory, reset_peak
from ebbtide.scoring.scorer import AUTO, BACKENDS, FAKE, Counters, Scorer, TokenScores
from ebbtide.scoring.tokenizer import Tokenizer
from ebbtide.tables import CELL, REQUESTS, TOKENS, content_sha256, read_parquet, table_of


@dataclass(frozen=True)
class Scored:
    """Rows of a cell, and the entries of its footer other than the identity."""

    rows: pa.Table
    footer: dict[str, Any]
    tokens: pa.Table | None = None  # one row per continuation token, if requested


def import_backend(backend: str) -> None:
    """Import the modules of a back end, which takes seconds for all but the fake one.

    Raises `ConfigError` for an unknown name.
    """
    if backend not in BACKENDS:
        raise ConfigError(f"scoring.backend: found {backend!r}, allowed: {', '.join(BACKENDS)}.")
    if backend != FAKE:
        with quick_start():
            import ebbtide.scoring.model_scorer  # noqa: F401


def load_scorer(
    directory: str | Path,
    dtype: str = "float32",
    threads: int = 1,
    *,
    backend: str = AUTO,
    weights: str = "",
    tokenizer: str | Path | None = None,
    offload: bool = False,
) -> Scorer:
    """Load weights and tokenizer of a checkpoint on the GPU if there is one, else on the CPU.

    Parameters
    ----------
    directory
        Hugging Face checkpoint: `config.json`, safetensors, `tokenizer.json`.
    dtype
        `float32`, `float64`, `bfloat16` or `float16`: the precision to score in.
    threads
        On a CPU. One is right when jobs run side by side (a second thread that meets a busy core makes
        both slower).
    backend
        `auto`, `transformers` or `fake`, which reads no weights (see `ebbtide.scoring.scorer`).
    weights
        Identity of the weights, from which `fake` makes up its numbers.
    tokenizer
        Directory of the tokenizer; None: `directory`, or its parent if it has no `tokenizer.json`.
    offload
        Whether the part of a model that does not fit on the visible GPUs stays in CPU memory, which is slow.

    Raises
    ------
    ConfigError
        An unknown dtype or back end.
    CheckpointError
        Missing, damaged or foreign files; non-finite weights; a tokenizer with more words than the model; a
        model that is not causal.
    ScoringError
        A model that does not fit on the visible GPUs, unless `offload`.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"dtype: found {dtype!r}, allowed: {', '.join(DTYPES)}.")
    import_backend(backend)
    if backend == FAKE:
        from ebbtide.scoring.fake import load_fake_scorer

        return load_fake_scorer(directory, weights, dtype)
    from ebbtide.scoring.model_scorer import load_model_scorer

    return load_model_scorer(
        directory, dtype, threads, native=backend == AUTO, tokenizer_directory=tokenizer, offload=offload
    )


def score_requests(
    scorer: Scorer,
    requests: str | Path,
    *,
    encoding: str = "harness",
    bos: str = "tokenizer",
    truncation: str = "left",
    max_length: int | None = None,
    per_token: bool = False,
) -> Scored:
    """Score a table of requests (columns `example, choice, context, continuation`).

    Parameters
    ----------
    requests
        Parquet file; one row per example × choice.
    encoding, bos, truncation
        Rules of `ebbtide.scoring.encoding`.
    max_length
        Largest number of tokens that the model reads; None: the model's own window.
    per_token
        Whether to also return a table of all continuation tokens with log-likelihood and rank.

    Raises
    ------
    ScoringError
        An empty table, a request that cannot be encoded, a non-finite log-likelihood, too little memory.
    CellError
        A damaged or incomplete requests file.
    """
    started = time.perf_counter()
    reset_peak(scorer.device)
    table = read_parquet(requests, REQUESTS, foreign=True)
    if not len(table):
        raise ScoringError(f"{requests} contains no requests.")
    columns = {name: table.column(name).to_pylist() for name in REQUESTS.columns}
    names = [
        f"{requests}: example {e}, choice {c}"
        for e, c in zip(columns["example"], columns["choice"], strict=True)
    ]
    encoded = encode(
        scorer.tokenizer,
        columns["context"],
        columns["continuation"],
        names,
        encoding=encoding,
        bos=bos,
        truncation=truncation,
        window=window_of(scorer, max_length),
        vocabulary=scorer.vocabulary,
    )
    counters = Counters()
    record = scorer.record()  # before scoring, because what fails later loses the scores
    scores = scorer.score(encoded, ranks=per_token, counters=counters)
    rows = _rows(table, columns["continuation"], encoded, scores, names)
    footer = {
        "requests": len(rows),
        "requests_sha256": content_sha256(table),
        "truncated": sum(e.truncated for e in encoded),
        "border_tokens": sum(e.border for e in encoded),
        "equal_first_tokens": _equal_first_tokens(table, encoded),
        **provenance(scorer, counters, record),
        "peak_memory_bytes": peak_memory(scorer.device),
        "seconds": round(time.perf_counter() - started, 3),
    }
    tokens = _tokens(table, scorer.tokenizer, encoded, scores) if per_token else None
    return Scored(rows, footer, tokens)


def window_of(scorer: Scorer, max_length: int | None) -> int:
    """Context window to use, in tokens. Raises `ScoringError` if `max_length` exceeds the model's window.

    A model whose configuration sets no window has none to exceed.
    """
    if max_length is None:
        return scorer.window
    if max_length > scorer.window and scorer.window_key is not None:
        raise ScoringError(f"max_length: found {max_length}, the model's window is {scorer.window} tokens.")
    return max_length


def provenance(scorer: Scorer, counters: Counters, record: Mapping[str, Any]) -> dict[str, Any]:
    """Footer entries about how scores were computed: model, method, machine, numbers of tokens.

    `record` is that of the scorer.
    """
    return {
        **record,
        "model_window": scorer.window,
        "window_key": scorer.window_key,
        "dtype": scorer.dtype,
        "device": scorer.device,
        "machine": platform.machine(),
        "unique_tokens": counters.unique,
        "forwarded_tokens": counters.forwarded,
        "chunk_tokens": counters.chunk,
    }


def _rows(
    table: pa.Table,
    continuations: Sequence[str],
    encoded: Sequence[Encoded],
    scores: Sequence[TokenScores],
    names: Sequence[str],
) -> pa.Table:
    """The rows of a cell, in the order of the requests."""
    values: dict[str, list[Any]] = {
        "loglikelihood": [math.fsum(s.loglikelihoods) for s in scores],
        "tokens": [len(e.continuation) for e in encoded],
        "bytes": [len(k.encode()) for k in continuations],
        "characters": [len(k) for k in continuations],
        "greedy": [s.greedy for s in scores],
        "first_token_loglikelihood": [s.loglikelihoods[0] for s in scores],
        "context_tokens": [e.context for e in encoded],
        "truncated": [e.truncated for e in encoded],
        "border_token": [e.border for e in encoded],
    }
    for name, value in zip(names, values["loglikelihood"], strict=True):
        if not math.isfinite(value):
            raise ScoringError(
                f"{name}: the log-likelihood is {value}; score in a wider dtype, or check the weights."
            )
    return table_of({"example": table["example"], "choice": table["choice"], **values}, CELL)


def _equal_first_tokens(table: pa.Table, encoded: Sequence[Encoded]) -> int:
    """Number of examples in which two choices begin with the same token."""
    examples = table.column("example").to_pylist()
    roles = table.column("role").to_pylist() if "role" in table.column_names else None
    seen: set[tuple[Any, int]] = set()
    equal = set()
    for row, (example, request) in enumerate(zip(examples, encoded, strict=True)):
        if roles is not None and roles[row] != "choice":
            continue
        start = (example, request.tokens[request.context])
        if start in seen:
            equal.add(example)
        seen.add(start)
    return len(equal)


def _tokens(
    table: pa.Table, tokenizer: Tokenizer, encoded: Sequence[Encoded], scores: Sequence[TokenScores]
) -> pa.Table:
    """One row per continuation token."""
    request = [r for r, e in enumerate(encoded) for _ in e.continuation]
    ids = [token for e in encoded for token in e.continuation]
    text = {token: tokenizer.backend.decode([token], skip_special_tokens=False) for token in set(ids)}
    rows = table.select(["example", "choice"]).take(array_of(request, pa.int64()))
    values: dict[str, list[Any]] = {
        "place": [place for e in encoded for place in range(len(e.continuation))],
        "token": ids,
        "text": [text[token] for token in ids],
        "loglikelihood": [value for s in scores for value in s.loglikelihoods],
        "rank": [rank for s in scores for rank in s.ranks or ()],
    }
    return table_of({"example": rows["example"], "choice": rows["choice"], **values}, TOKENS)
