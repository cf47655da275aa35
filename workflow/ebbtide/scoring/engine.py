"""Score all requests of a task with one checkpoint.

from ebbtide.scoring.engine import load_scorer, score_requests
scorer = load_scorer("path/to/checkpoint", dtype="float32")
scored = score_requests(scorer, "requests.parquet")
scored.rows        # one row per request: log-likelihood, tokens, greedy, …
"""

import itertools
import math
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ebbtide.arrow import array_of
from ebbtide.checkpoints.precision import DTYPES
from ebbtide.environment import quick_start
from ebbtide.errors import ConfigError, ScoringError
from ebbtide.scoring.encoded import Requests
from ebbtide.scoring.encoded_task import EncodedTask, encode_task, row_names
from ebbtide.scoring.peak import peak_memory, reset_peak
from ebbtide.scoring.scorer import AUTO, BACKENDS, FAKE, VLLM, Counters, Scorer, Scores
from ebbtide.tables import CELL, REQUESTS, TOKENS, read_parquet, table_of

if TYPE_CHECKING:
    from ebbtide.scoring.tokenizer import Tokenizer


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
    encoded: bool = False,
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
        `auto`, `transformers`, `vllm`, or `fake`, which reads no weights (see `ebbtide.scoring.scorer`).
    weights
        Identity of the weights, from which `fake` makes up its numbers.
    tokenizer
        Directory of the tokenizer; None: `directory`, or its parent if it has no `tokenizer.json`.
    offload
        Whether the part of a model that does not fit on the visible GPUs stays in CPU memory, which is slow.
    encoded
        Whether tasks may be encoded already, so that the tokenizer is loaded only when it is first used.

    Raises
    ------
    ConfigError
        An unknown dtype or back end.
    CheckpointError
        Missing, damaged or foreign files; non-finite weights; a tokenizer with more words than the model; a
        model that is not causal.
    ScoringError
        A model that does not fit on the visible GPUs, unless `offload`; one that vLLM cannot load.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"dtype: found {dtype!r}, allowed: {', '.join(DTYPES)}.")
    if backend == VLLM:
        from ebbtide.scoring.vllm_backend.load import load_vllm_scorer

        return load_vllm_scorer(directory, dtype, threads, tokenizer_directory=tokenizer, encoded=encoded)
    import_backend(backend)
    if backend == FAKE:
        from ebbtide.scoring.fake import load_fake_scorer

        return load_fake_scorer(directory, weights, dtype)
    from ebbtide.scoring.model_scorer import load_model_scorer

    return load_model_scorer(
        directory,
        dtype,
        threads,
        native=backend == AUTO,
        tokenizer_directory=tokenizer,
        offload=offload,
        encoded=encoded,
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
    table = read_parquet(requests, REQUESTS, foreign=True)
    window = window_of(scorer, max_length)
    rules: dict[str, Any] = {"encoding": encoding, "bos": bos, "truncation": truncation, "window": window}
    task = encode_task(scorer, table, requests, **rules)
    return score_task(scorer, task, table, requests, per_token=per_token)


def score_task(
    scorer: Scorer,
    task: EncodedTask,
    keys: pa.Table,
    source: str | Path,
    *,
    per_token: bool = False,
    report: Callable[[int, int], None] | None = None,
) -> Scored:
    """Score an encoded task.

    Parameters
    ----------
    task
        From `encode_task`, with the tokenizer of the scorer.
    keys
        Table with the columns `example, choice` of the requests.
    source
        File of the requests, named in errors.
    per_token
        See `score_requests`.
    report
        Called after forward passes with the unique tokens that are done, and all.

    Raises
    ------
    ScoringError
        A non-finite log-likelihood, too little memory.
    """
    started = time.perf_counter()
    reset_peak(scorer.device)
    counters = Counters(report=report)
    record = scorer.record()  # before scoring, because what fails later loses the scores
    wanted = {"ranks": per_token, "best": task.stops is not None}
    scores = scorer.score(task.requests, **wanted, counters=counters)
    rows = _rows(task, scores, keys, source)
    footer = {
        **task.facts,
        **provenance(scorer, counters, record),
        "peak_memory_bytes": peak_memory(scorer.device),
        "seconds": round(time.perf_counter() - started, 3),
    }
    tokens = _tokens(keys, scorer.tokenizer, task.requests, scores) if per_token else None
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


def sums(values: np.ndarray, bounds: np.ndarray) -> list[float]:
    """Sum of each segment of values, exact before rounding, so that it does not depend on their order."""
    known = values.tolist()
    return [math.fsum(known[a:b]) for a, b in itertools.pairwise(bounds.tolist())]


def _rows(task: EncodedTask, scores: Scores, keys: pa.Table, source: str | Path) -> pa.Table:
    """The rows of a cell, in the order of the requests."""
    first = scores.bounds[:-1]
    loglikelihood = np.array(sums(scores.loglikelihood, scores.bounds))
    if not (finite := np.isfinite(loglikelihood)).all():
        row = int(finite.argmin())
        raise ScoringError(
            f"{row_names(keys.slice(row, 1), source)[0]}: the log-likelihood is {loglikelihood[row]}; "
            "score in a wider dtype, or check the weights."
        )
    greedy = np.logical_and.reduceat(scores.greedy, first)
    values = {
        **task.rows,
        "loglikelihood": loglikelihood,
        "greedy": greedy if task.stops is None else task.stops.greedy(scores, greedy),
        "first_token_loglikelihood": scores.loglikelihood[first],
    }
    names = [name for name in (*CELL.columns, *CELL.optional) if name in values]
    return table_of(
        {"example": keys["example"], "choice": keys["choice"], **{name: values[name] for name in names}}, CELL
    )


def _tokens(keys: pa.Table, tokenizer: "Tokenizer", requests: Requests, scores: Scores) -> pa.Table:
    """One row per continuation token."""
    ids, counts = requests.continuations, requests.scored
    text = {
        token: tokenizer.backend.decode([token], skip_special_tokens=False) for token in set(ids.tolist())
    }
    request = np.repeat(np.arange(len(counts)), counts)
    rows = keys.select(["example", "choice"]).take(array_of(request.tolist(), pa.int64()))
    values: dict[str, Any] = {
        "place": np.arange(len(ids)) - np.repeat(scores.bounds[:-1], counts),
        "token": ids,
        "text": [text[token] for token in ids.tolist()],
        "loglikelihood": scores.loglikelihood,
        "rank": scores.rank,
    }
    return table_of({"example": rows["example"], "choice": rows["choice"], **values}, TOKENS)
