"""The verbs that load a model: `score` (requests) and `loss` (documents)."""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ebbtide.cli.options import read_json, same_file, whole_number
from ebbtide.errors import ConfigError

if TYPE_CHECKING:
    from ebbtide.cli.options import Verbs


def add_verbs(verbs: "Verbs") -> None:
    """Add the verbs to the command line."""
    score = verbs.add_parser(
        "score", description="Compute the log-likelihood of every request with one checkpoint."
    )
    score.add_argument(
        "--requests",
        required=True,
        metavar="FILE",
        help="Parquet file with example, choice, context, continuation",
    )
    score.add_argument("--to", required=True, metavar="FILE", help="cell to write (Parquet)")
    _add_model_options(score)
    score.add_argument(
        "--encoding",
        default="harness",
        choices=["harness", "joint", "separate"],
        help="how context and continuation are tokenized (default: harness)",
    )
    score.add_argument(
        "--bos",
        default="tokenizer",
        choices=["tokenizer", "always", "never"],
        help="whether to prepend a beginning-of-sequence token (default: as the tokenizer does)",
    )
    score.add_argument(
        "--truncation",
        default="left",
        choices=["left", "refuse"],
        help="what to do with a context longer than the window (default: left)",
    )
    score.add_argument(
        "--per-token",
        metavar="FILE",
        help="also write the log-likelihood and rank of every continuation token (Parquet)",
    )
    score.add_argument(
        "--rescore-examples",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="rescore N examples one by one in float64 and report the largest difference (default: 0)",
    )
    workflow = score.add_argument_group("options that the workflow passes")
    workflow.add_argument(
        "--identity",
        metavar="JSON",
        help="identity of the cell (JSON), which is copied if it is in the store",
    )
    workflow.add_argument(
        "--hint",
        metavar="FILE",
        help="JSON file that names the store and the cells to score with the same load of weights",
    )
    score.set_defaults(verb=_score)

    loss = verbs.add_parser(
        "loss", description="Compute loss, bits per byte and perplexity of long documents."
    )
    loss.add_argument(
        "--documents",
        required=True,
        metavar="FILE",
        help="Parquet file with document, text, or JSON Lines with text (.jsonl, .jsonl.gz)",
    )
    loss.add_argument(
        "--to", required=True, metavar="FILE", help="table to write, one row per document (Parquet)"
    )
    _add_model_options(loss)
    loss.add_argument(
        "--context",
        type=whole_number(1),
        default=1,
        metavar="TOKENS",
        help="tokens read before the first scored token of a window (default: 1, as in lm-eval)",
    )
    loss.set_defaults(verb=_loss)


def _add_model_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--model",
        required=True,
        metavar="DIR",
        help="directory of a Hugging Face checkpoint, or a file in it",
    )
    verb.add_argument(
        "--dtype",
        choices=["checkpoint", "float32", "float64", "bfloat16", "float16"],
        help="precision (default: float32 on a CPU, the checkpoint's own on a GPU)",
    )
    verb.add_argument(
        "--backend",
        default="auto",
        choices=["auto", "transformers", "fake"],
        help="auto: our own decoder where it knows the family; fake: made-up numbers (default: auto)",
    )
    verb.add_argument(
        "--max-length",
        type=whole_number(1),
        metavar="TOKENS",
        help="tokens that the model may read (default: its window)",
    )
    verb.add_argument(
        "--gpus",
        type=whole_number(0),
        metavar="N",
        help="most GPUs to take; 0 scores on CPUs (default: as many as the weights need)",
    )
    verb.add_argument(
        "--offload",
        action="store_true",
        help="keep the part of a model that does not fit on the GPUs in CPU memory, which is slow",
    )
    verb.add_argument(
        "--threads", type=whole_number(1), default=1, metavar="N", help="CPU threads (default: 1)"
    )


def _score(options: argparse.Namespace) -> None:
    if options.identity is not None:
        _score_cell(options)
        return
    if options.per_token and same_file(options.per_token, options.to):
        raise ConfigError(f"--per-token: found {options.per_token}, allowed: another file than --to.")
    from ebbtide.environment import quick_start
    from ebbtide.logs import log, log_to_stderr

    log_to_stderr()
    with _gpus(options):
        with quick_start():
            from ebbtide.jobs.score_files import score_requests_file

        footer = score_requests_file(
            options.model,
            options.requests,
            options.to,
            {name: getattr(options, name) for name in ("encoding", "bos", "truncation", "max_length")},
            dtype=options.dtype,
            backend=options.backend,
            threads=options.threads,
            per_token=options.per_token,
            rescore_examples=options.rescore_examples,
            offload=options.offload,
        )
    log.info("%s: %d requests in %.2f s", options.to, footer["requests"], footer["seconds"])


def _score_cell(options: argparse.Namespace) -> None:
    """Score within a workflow; a cell that is in the store is copied without importing torch."""
    from ebbtide.jobs.score_cell import score_cell

    identity = read_json(options.identity, "--identity")
    how = score_cell(
        options.model, options.requests, identity, options.to, hint=options.hint, threads=options.threads
    )
    print(f"{options.to}: {how}", file=sys.stderr)


@contextmanager
def _gpus(options: argparse.Namespace) -> Iterator[None]:
    """Hold the GPUs of this process, which must not have initialised CUDA before."""
    from ebbtide.jobs.gpu_jobs import leased, say_on_stderr

    limits = {"most": options.gpus, "offload": options.offload}
    with leased(options.model, options.dtype, options.backend, options.to, say_on_stderr, **limits) as lease:
        os.environ.update(lease.environment)
        yield


def _loss(options: argparse.Namespace) -> None:
    from ebbtide.environment import quick_start
    from ebbtide.logs import log, log_to_stderr

    log_to_stderr()
    with _gpus(options):
        with quick_start():
            from ebbtide.jobs.score_files import score_documents_file

        footer = score_documents_file(
            options.model,
            options.documents,
            Path(options.to),
            dtype=options.dtype,
            backend=options.backend,
            threads=options.threads,
            context=options.context,
            max_length=options.max_length,
            offload=options.offload,
        )
    log.info(
        "%s: loss %.4f nats per token, %.4f bits per byte",
        *(options.to, footer.get("loss"), footer.get("bits_per_byte")),
    )
