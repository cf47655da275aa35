"""Score a file of requests or of documents with one checkpoint, without a study."""

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from ebbtide.cells.cell import write_cell
from ebbtide.checkpoints.directory import directory_of, identities
from ebbtide.checkpoints.precision import own_dtype
from ebbtide.checkpoints.weight_files import weight_files
from ebbtide.errors import CellError, ScoringError
from ebbtide.jobs.checked import write_checked_cell
from ebbtide.logs import log
from ebbtide.scoring.documents import LOSSES, score_documents
from ebbtide.scoring.engine import import_backend, load_scorer, score_requests
from ebbtide.scoring.scorer import FAKE, Scorer, backend_identity
from ebbtide.scoring.version import SCORING_VERSION
from ebbtide.tables import REQUESTS, TOKENS, read_footer, write_parquet
from ebbtide.tasks.kinds import kind_of


def score_requests_file(
    model: str,
    requests: str | Path,
    to: str | Path,
    settings: Mapping[str, Any],
    *,
    dtype: str | None = None,
    backend: str = "auto",
    threads: int = 1,
    per_token: str | Path | None = None,
    rescore_examples: int = 0,
    offload: bool = False,
) -> Mapping[str, Any]:
    """Score every request with one checkpoint and write the cell; return its footer.

    Parameters
    ----------
    model
        Directory of a checkpoint, or a file in it.
    requests
        Parquet file with `example, choice, context, continuation`.
    settings
        `encoding`, `bos`, `truncation` and `max_length` (see `scoring.engine.score_requests`).
    dtype
        Precision; `checkpoint` is that of the saved weights, None the default of the device.
    backend
        `auto`, `transformers` or `fake` (see `scoring.scorer`).
    per_token
        File for one row per continuation token (`tables.TOKENS`); None writes none.
    rescore_examples
        How many examples to rescore in float64, one request at a time; the footer records the difference.
    offload
        See `scoring.engine.load_scorer`.

    Raises
    ------
    ScoringError
        Besides the errors of scoring: rescoring was not possible (the files are written), or found a
        difference (see `jobs.checked`).
    """
    _refuse_prompts(requests)
    directory, scorer = _load(model, dtype, backend, threads, offload=offload)
    scored = score_requests(scorer, requests, **settings, per_token=per_token is not None)
    footer = scored.footer
    weights, tokenizer = identities(directory)
    identity = {
        "weights": weights,
        "tokenizer": tokenizer,
        "task": f"requests:{footer['requests_sha256'][:32]}",
        "recipe": SCORING_VERSION,
        "dtype": scorer.dtype,
        **settings,
        **backend_identity(backend),
    }
    if rescore_examples:
        from ebbtide.scoring.rescore import largest_difference

        sample: dict[str, Any] = {"examples": rescore_examples, "dtype": scorer.dtype}
        check = partial(largest_difference, directory, requests, scored.rows, **sample, **settings)
        footer["verified"] = write_checked_cell(scored.rows, to, identity, footer, check)
    else:
        write_cell(scored.rows, to, identity, footer)
    if scored.tokens is not None and per_token is not None:
        write_parquet(scored.tokens, per_token, TOKENS, {**footer, "identity": identity})
    _warn(footer, settings["max_length"])
    if rescore_examples:
        _report(to, footer["verified"])
    return footer


def score_documents_file(
    model: str,
    documents: str | Path,
    to: str | Path,
    *,
    dtype: str | None = None,
    backend: str = "auto",
    threads: int = 1,
    context: int = 1,
    max_length: int | None = None,
    offload: bool = False,
) -> Mapping[str, Any]:
    """Compute the loss of every document and write the table (`documents.LOSSES`); return its footer."""
    directory, scorer = _load(model, dtype, backend, threads, offload=offload)
    losses = score_documents(scorer, documents, context=context, max_length=max_length)
    weights, tokenizer = identities(directory)
    write_parquet(losses.rows, to, LOSSES, {**losses.footer, "weights": weights, "tokenizer": tokenizer})
    return losses.footer


def _refuse_prompts(requests: str | Path) -> None:
    """Raise `ScoringError` for a frozen task of prompts, after which nothing is scored."""
    with suppress(CellError):  # a user's own requests, which scoring checks
        if kind_of(read_footer(requests, REQUESTS).get("definition", {})).needs == "samples":
            raise ScoringError(
                f"{requests}: a task of kind generation has prompts without continuations to score; generate "
                "with a study that lists the task (snakemake --configfile STUDY.yaml)."
            )


def _warn(footer: Mapping[str, Any], max_length: int | None) -> None:
    """Log what the scores do not show."""
    if footer["window_key"] is None and max_length is None:
        log.warning(
            "config.json sets no context window, so %d tokens are used; set --max-length",
            footer["model_window"],
        )
    if count := footer["truncated"]:
        log.warning("%d of %d contexts exceed the window and lost the beginning", count, footer["requests"])
    if (parts := footer.get("parts")) and parts["left_out"]:
        log.warning(
            "%d of %d prompts lost the last of their parts, to fit the window; %d to %d of %d were kept",
            *(parts[name] for name in ("left_out", "examples", "kept_least", "kept_most", "of")),
        )
    if count := footer["border_tokens"]:
        log.warning(
            "in %d of %d requests a token spans the border of context and continuation (column border_token)",
            *(count, footer["requests"]),
        )


def _report(to: str | Path, verified: Mapping[str, Any]) -> None:
    if "reason" in verified:
        raise ScoringError(f"{to} is written, but it could not be rescored in float64: {verified['reason']}.")
    log.info(
        "rescored %(requests)d requests in float64: largest difference %(largest_difference).2g nats",
        verified,
    )


def _load(model: str, dtype: str | None, backend: str, threads: int, *, offload: bool) -> tuple[Path, Scorer]:
    """Return the directory of a checkpoint and its scorer."""
    import_backend(backend)
    directory, weights = directory_of(model), ""
    if backend == FAKE:
        weights, dtype = identities(directory)[0], dtype or "float32"
    elif dtype is None:
        from ebbtide.scoring.model_scorer import default_dtype

        dtype = default_dtype()
    if dtype == "checkpoint":
        dtype = own_dtype(directory, weight_files(directory))
    return directory, load_scorer(
        directory, dtype, threads, backend=backend, weights=weights, offload=offload
    )
