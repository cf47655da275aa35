"""Score all requests of a task with one checkpoint.

from ebbtide.scoring.engine import load_scorer, score_requests
scorer = load_scorer("path/to/checkpoint", dtype="float32")
scored = score_requests(scorer, "requests.parquet")
scored.rows        # one row per request: log-likelihood, tokens, greedy, …
"""

import math
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from ebbtide.arrow import array_of
from ebbtide.checkpoints.directory import configuration, context_window, weight_files
from ebbtide.checkpoints.load import count_parameters, load_model
from ebbtide.checkpoints.precision import DTYPES
from ebbtide.errors import ConfigError, ScoringError
from ebbtide.logs import log
from ebbtide.parameters import count
from ebbtide.scoring.body import Body, NativeBody
from ebbtide.scoring.encoding import Encoded, encode
from ebbtide.scoring.families import Unsupported, build
from ebbtide.scoring.memory import chunk_size, fits_one_device, peak_memory, reset_peak
from ebbtide.scoring.padded import Counters, TokenScores, score_padded
from ebbtide.scoring.tokenizer import Tokenizer, check_vocabulary, load_tokenizer
from ebbtide.scoring.walk import score_trie
from ebbtide.scoring.weights import Weights
from ebbtide.tables import CELL, REQUESTS, TOKENS, content_sha256, read_parquet, table_of

BATCH_TOKENS = 4096  # of a padded batch


@dataclass(frozen=True)
class Scorer:
    """A loaded checkpoint, ready to score.

    Attributes
    ----------
    body
        How the trie is forwarded; None for a model that the trie does not fit.
    model
        The model of transformers; None when it was not needed.
    window
        Tokens that the model can read.
    vocabulary
        Rows of its embedding.
    alone
        Whether each request needs a forward of its own.
    """

    body: Body | None
    model: Any
    tokenizer: Tokenizer
    window: int
    vocabulary: int
    dtype: str
    device: str
    parameters_total: int
    parameters_non_embedding: int
    parameters_active: int  # of those outside embeddings, what a token uses
    alone: bool = False

    @property
    def method(self) -> str:
        """`trie`: each unique token is forwarded once; `padded`: batches, for what the trie does not fit."""
        return "padded" if self.body is None else "trie"

    @property
    def implementation(self) -> str:
        """Whose forward it is: `ebbtide` or `transformers`."""
        return "ebbtide" if self.model is None else "transformers"

    @property
    def kernel(self) -> str:
        """How attention is computed, in the words of transformers."""
        if self.model is None:
            return "sdpa"
        return str(getattr(self.model.config, "_attn_implementation", "unknown"))

    def score(
        self, requests: Sequence[Encoded], *, ranks: bool = False, counters: Counters | None = None
    ) -> list[TokenScores]:
        """Log-likelihood (nats) of every continuation token of every request, in their order.

        `ranks` asks for the rank of each token too, and costs a second pass through the head. Raises
        `ScoringError` when not even one token at a time fits into memory.
        """
        counters = counters if counters is not None else Counters()
        if self.body is None:
            batch = 1 if self.alone else BATCH_TOKENS
            return score_padded(self.model, requests, counters, batch_tokens=batch, ranks=ranks)
        deepest = max((len(request.fed) for request in requests), default=0)
        chunk = chunk_size(self.body.bytes_per_token(deepest), self.body.device)
        return score_trie(self.body, requests, counters, chunk=chunk, ranks=ranks)


@dataclass(frozen=True)
class Scored:
    """Rows of a cell, and what is recorded in its footer beside the identity."""

    rows: pa.Table
    footer: dict[str, Any]
    tokens: pa.Table | None = None  # one row per continuation token, where asked for


def default_dtype() -> str:
    """`checkpoint` (its own precision) on a GPU, float32 on a CPU, where 16 bits are several times slower."""
    return "checkpoint" if torch.cuda.is_available() else "float32"


def load_scorer(directory: str | Path, dtype: str = "float32", threads: int = 1) -> Scorer:
    """Load weights and tokenizer of a checkpoint onto the GPU if there is one, else the CPU.

    Parameters
    ----------
    directory
        Hugging Face checkpoint: `config.json`, safetensors, `tokenizer.json`.
    dtype
        `float32`, `float64`, `bfloat16` or `float16`: the precision to score in.
    threads
        On a CPU. One is right when jobs run side by side (a second thread that meets a busy core makes
        both slower).

    Raises
    ------
    ConfigError
        An unknown dtype.
    CheckpointError
        Missing, damaged or foreign files; non-finite weights; a tokenizer with more words than the model; a
        model that fits no device.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"dtype: found {dtype!r}, allowed: {', '.join(DTYPES)}.")
    torch.set_num_threads(max(1, threads))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and dtype in ("bfloat16", "float16"):
        log.warning("scoring in %s on a CPU, which is several times slower than float32", dtype)
    files = weight_files(directory)
    config = configuration(directory)
    tokenizer = load_tokenizer(directory)
    common: dict[str, Any] = {
        "tokenizer": tokenizer,
        "window": context_window(config),
        "dtype": dtype,
        "device": device,
    }
    if fits_one_device(files, dtype, device):
        try:
            with Weights(directory, getattr(torch, dtype), device) as weights:
                decoder = build(config, weights)
        except Unsupported as reason:
            log.info("%s goes through transformers: %s", directory, reason)
        else:
            check_vocabulary(tokenizer, len(decoder.embedding), directory)
            return Scorer(
                body=NativeBody(decoder),
                model=None,
                vocabulary=len(decoder.embedding),
                parameters_total=weights.total,
                parameters_non_embedding=weights.total - weights.embedding,
                parameters_active=weights.total - weights.embedding,  # every decoder here is dense
                **common,
            )
        model = load_model(directory, dtype).to(device)
    else:
        model = load_model(directory, dtype, device_map="auto")
    from ebbtide.scoring.hugging_face import body_of, is_length_dependent

    rows = int(model.get_input_embeddings().num_embeddings)  # type: ignore[operator]
    check_vocabulary(tokenizer, rows, directory)
    total, non_embedding = count_parameters(model)
    counted = count(config)
    return Scorer(
        body=body_of(model),
        model=model,
        alone=is_length_dependent(model.config),
        vocabulary=rows,
        parameters_total=total,
        parameters_non_embedding=non_embedding,
        parameters_active=non_embedding
        - (counted.non_embedding - counted.active_non_embedding if counted else 0),
        **common,
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
        Tokens the model may read; the model's own window when None.
    per_token
        Whether to return a table of every continuation token with its log-likelihood and rank, too.

    Raises
    ------
    ScoringError
        An empty table, a request that cannot be encoded, a non-finite log-likelihood, too little memory.
    CellError
        A damaged or incomplete requests file.
    """
    started = time.perf_counter()
    device = torch.device(scorer.device)
    reset_peak(device)
    table = read_parquet(requests, REQUESTS, foreign=True)
    if not len(table):
        raise ScoringError(f"{requests} holds no requests.")
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
    scores = scorer.score(encoded, ranks=per_token, counters=counters)
    rows = _rows(table, columns["continuation"], encoded, scores, names)
    footer = {
        "requests": len(rows),
        "requests_sha256": content_sha256(table),
        "truncated": sum(e.truncated for e in encoded),
        **provenance(scorer, counters),
        "peak_memory_bytes": peak_memory(device),
        "seconds": round(time.perf_counter() - started, 3),
    }
    tokens = _tokens(table, scorer.tokenizer, encoded, scores) if per_token else None
    return Scored(rows, footer, tokens)


def window_of(scorer: Scorer, max_length: int | None) -> int:
    """Tokens the model may read. Raises `ScoringError` for more than it can."""
    if max_length is None:
        return scorer.window
    if max_length > scorer.window:
        raise ScoringError(f"max_length: found {max_length}, the model's window is {scorer.window} tokens.")
    return max_length


def provenance(scorer: Scorer, counters: Counters) -> dict[str, Any]:
    """What a footer says about the making of its numbers: model, method, machine, tokens."""
    return {
        "parameters_total": scorer.parameters_total,
        "parameters_non_embedding": scorer.parameters_non_embedding,
        "parameters_active": scorer.parameters_active,
        "dtype": scorer.dtype,
        "device": scorer.device,
        "method": scorer.method,
        "implementation": scorer.implementation,
        "kernel": scorer.kernel,
        "machine": platform.machine(),
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers")},
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
    }
    for name, value in zip(names, values["loglikelihood"], strict=True):
        if not math.isfinite(value):
            raise ScoringError(
                f"{name}: the log-likelihood is {value}; score in a wider dtype, or look for damaged weights."
            )
    return table_of({"example": table["example"], "choice": table["choice"], **values}, CELL)


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
