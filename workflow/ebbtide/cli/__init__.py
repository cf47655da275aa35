"""`python -m ebbtide VERB`: the verbs the rules call, usable alone.

A lean module: each verb imports what it needs when it is called, because a sibling's `score` only
copies a file and must not pay for torch.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.cli.exchange import add_verbs as add_exchange_verbs
from ebbtide.cli.hub import add_verbs as add_hub_verbs
from ebbtide.cli.scaling import add_verbs as add_scaling_verbs
from ebbtide.cli.tasks import add_verbs as add_task_verbs
from ebbtide.errors import ConfigError, EbbtideError

BOOTSTRAP = 1000  # draws for the few standard errors that lm-eval takes by bootstrap

if TYPE_CHECKING:
    from ebbtide.scoring.scorer import Scorer


def main(arguments: list[str] | None = None) -> int:
    """Run a verb; an error of the user's is one sentence on stderr and status 1."""
    options = _parser().parse_args(arguments)
    if not getattr(options, "network", False):
        os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        options.verb(options)
    except EbbtideError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:  # no space, no permission
        print(f"{type(error).__name__}: {error}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ebbtide", description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    score = verbs.add_parser("score", help="log-likelihood of every request with one checkpoint")
    score.add_argument("--model", required=True, help="Hugging Face directory, or a file in it")
    score.add_argument("--requests", required=True, help="Parquet: example, choice, context, continuation")
    score.add_argument("--to", required=True, help="the cell to write (Parquet)")
    _add_model_options(score)
    score.add_argument(
        "--encoding",
        default="harness",
        choices=["harness", "joint", "separate"],
        help="how context and continuation become tokens (default: harness)",
    )
    score.add_argument(
        "--bos",
        default="tokenizer",
        choices=["tokenizer", "always", "never"],
        help="whether a beginning token comes first (default: as the tokenizer does)",
    )
    score.add_argument(
        "--truncation",
        default="left",
        choices=["left", "refuse"],
        help="what happens to a context longer than the window (default: left)",
    )
    score.add_argument(
        "--per-token", metavar="FILE", help="write log-likelihood and rank of every continuation token, too"
    )
    score.add_argument(
        "--rescore-examples",
        type=_count,
        default=0,
        metavar="N",
        help="rescore N examples one by one in float64 and say how far they are",
    )
    workflow = score.add_argument_group("within the workflow")
    workflow.add_argument("--identity", help="JSON; the cell is taken from the store when it is there")
    workflow.add_argument(
        "--hint", help="JSON: the store, and siblings to score with the same load of weights"
    )
    score.set_defaults(verb=_score)

    losses = verbs.add_parser("loss", help="loss, bits per byte and perplexity of long documents")
    losses.add_argument("--model", required=True, help="Hugging Face directory, or a file in it")
    losses.add_argument("--documents", required=True, help="Parquet (document, text) or JSON Lines (text)")
    losses.add_argument("--to", required=True, help="one row per document (Parquet)")
    _add_model_options(losses)
    losses.add_argument(
        "--context",
        type=_positive,
        default=1,
        help="tokens read before the first scored one of a window (default: 1, the harness's rule)",
    )
    losses.set_defaults(verb=_loss)

    train = verbs.add_parser("train", help="train one model of a local ladder")
    train.add_argument("--spec", required=True, help="JSON: corpus, recipe, model")
    train.add_argument(
        "--markers", nargs="+", required=True, help="DIR/stepN/trained-ID.json, one per checkpoint"
    )
    train.set_defaults(verb=_train)

    fetch = verbs.add_parser("fetch", help="bring a pinned file here and check its hash")
    what = fetch.add_mutually_exclusive_group(required=True)
    what.add_argument("--task", help="task definition (YAML), for its data")
    what.add_argument(
        "--source", nargs=2, metavar=("SOURCE", "SHA256"), help="such as github:owner/repo@commit:path"
    )
    fetch.add_argument("--to", required=True)
    fetch.set_defaults(verb=_fetch)

    for add in (add_hub_verbs, add_task_verbs, add_exchange_verbs, add_scaling_verbs):
        add(verbs)

    freeze = verbs.add_parser("freeze", help="freeze a task into requests")
    freeze.add_argument("--task", required=True, help="task definition (YAML)")
    freeze.add_argument("--to", required=True)
    freeze.set_defaults(verb=_freeze)

    measure = verbs.add_parser("measure", help="metrics of the cells of one checkpoint")
    measure.add_argument("--cells", nargs="+", required=True)
    measure.add_argument("--requests", nargs="+", required=True, help="frozen tasks, in the order of --cells")
    measure.add_argument(
        "--expected", required=True, help="JSON: model, checkpoint, step, tokens, cells (task and identity)"
    )
    measure.add_argument("--to", required=True, help="the metrics (Parquet)")
    measure.add_argument("--examples", required=True, help="the metrics of every example (Parquet)")
    measure.set_defaults(verb=_measure)
    return parser


def _score(options: argparse.Namespace) -> None:
    if options.identity is not None:
        from ebbtide.jobs.score_cell import score_cell

        identity = _json(options.identity, "--identity")
        how = score_cell(
            options.model, options.requests, identity, options.to, hint=options.hint, threads=options.threads
        )
        print(f"{options.to}: {how}", file=sys.stderr)
        return
    from ebbtide.cells.cell import write_cell
    from ebbtide.checkpoints.directory import identities
    from ebbtide.logs import log
    from ebbtide.scoring.scorer import backend_identity
    from ebbtide.scoring.version import RECIPE_VERSION
    from ebbtide.tables import TOKENS, write_parquet

    if options.per_token and Path(options.per_token).resolve() == Path(options.to).resolve():
        raise ConfigError(f"--per-token: found {options.per_token}, which --to names too.")
    directory, scorer = _load(options)
    from ebbtide.scoring.engine import score_requests

    settings = {name: getattr(options, name) for name in ("encoding", "bos", "truncation", "max_length")}
    scored = score_requests(scorer, options.requests, **settings, per_token=options.per_token is not None)
    footer = scored.footer
    if options.rescore_examples:
        from ebbtide.scoring.rescore import largest_difference

        footer["verified"] = largest_difference(
            directory, options.requests, scored.rows, examples=options.rescore_examples, **settings
        )
        log.info(
            "float64, one by one: %(requests)d requests differ by at most %(largest_difference).2g nats",
            footer["verified"],
        )
    weights, tokenizer = identities(directory)
    identity = {
        "weights": weights,
        "tokenizer": tokenizer,
        "task": f"requests:{footer['requests_sha256'][:32]}",
        "recipe": RECIPE_VERSION,
        "dtype": scorer.dtype,
        **settings,
        **backend_identity(options.backend),
    }
    write_cell(scored.rows, options.to, identity, footer)
    if scored.tokens is not None:
        write_parquet(scored.tokens, options.per_token, TOKENS, {**footer, "identity": identity})
    log.info("%s: %d requests in %.2f s", options.to, footer["requests"], footer["seconds"])


def _loss(options: argparse.Namespace) -> None:
    from ebbtide.logs import log
    from ebbtide.tables import LOSSES, write_parquet

    directory, scorer = _load(options)
    from ebbtide.checkpoints.directory import identities
    from ebbtide.scoring.documents import score_documents

    losses = score_documents(
        scorer, options.documents, context=options.context, max_length=options.max_length
    )
    weights, tokenizer = identities(directory)
    write_parquet(
        losses.rows, options.to, LOSSES, {**losses.footer, "weights": weights, "tokenizer": tokenizer}
    )
    log.info(
        "%s: loss %.4f nats per token, %.4f bits per byte",
        options.to,
        *map(losses.footer.get, ("loss", "bits_per_byte")),
    )


def _add_model_options(verb: argparse.ArgumentParser) -> None:
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
    verb.add_argument("--max-length", type=_positive, help="tokens the model may read (default: its window)")
    verb.add_argument("--threads", type=_positive, default=1, help="CPU threads (default: 1)")


def _load(options: argparse.Namespace) -> "tuple[Path, Scorer]":
    """The directory of `--model` and its scorer."""
    from ebbtide.environment import quick_start

    with quick_start():
        from ebbtide.scoring.engine import import_backend, load_scorer
    from ebbtide.checkpoints.directory import directory_of, identities, weight_files
    from ebbtide.checkpoints.precision import own_dtype
    from ebbtide.logs import log_to_stderr
    from ebbtide.scoring.scorer import FAKE

    log_to_stderr()
    import_backend(options.backend)
    directory, dtype, weights = directory_of(options.model), options.dtype, ""
    if options.backend == FAKE:
        weights, dtype = identities(directory)[0], dtype or "float32"
    elif dtype is None:
        from ebbtide.scoring.model_scorer import default_dtype

        dtype = default_dtype()
    if dtype == "checkpoint":
        dtype = own_dtype(directory, weight_files(directory))
    return directory, load_scorer(directory, dtype, options.threads, backend=options.backend, weights=weights)


def _count(text: str) -> int:
    """A whole number from 0 on."""
    return _whole(text, 0)


def _positive(text: str) -> int:
    """A whole number from 1 on."""
    return _whole(text, 1)


def _whole(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"found {text!r}, allowed: a whole number from {least} on")
    return int(text)


def _json(text: str, option: str) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{option}: found {text!r}, which is not JSON ({error}).") from None
    return value


def _train(options: argparse.Namespace) -> None:
    from ebbtide.files import write_text
    from ebbtide.logs import Progress, log_to_stderr
    from ebbtide.training.train import train

    log_to_stderr()
    markers = {int(Path(path).parent.name.removeprefix("step")): Path(path) for path in options.markers}
    spec = {**_json(options.spec, "--spec"), "checkpoints": sorted(markers)}
    train(spec, next(iter(markers.values())).parent.parent, Progress())
    for step, path in markers.items():
        for stale in path.parent.glob("trained-*.json"):
            stale.unlink()
        write_text(json.dumps({**spec, "step": step}, indent=1) + "\n", path)


def _fetch(options: argparse.Namespace) -> None:
    from ebbtide.sources import Source, fetch, mirrors

    if options.source:
        source: Source | None = Source.parse(options.source[0], options.source[1], "--source")
    else:
        from ebbtide.tasks import load_task

        source = load_task(options.task, "--task").source
    if source is None:
        raise ConfigError(f"{options.task}: source: a generated task has no data to fetch.")
    fetch(source, Path(options.to), mirrors([]))


def _freeze(options: argparse.Namespace) -> None:
    from ebbtide.logs import log_to_stderr
    from ebbtide.metrics import check_metrics
    from ebbtide.tables import REQUESTS, write_parquet
    from ebbtide.tasks import frozen, load_task

    log_to_stderr()
    task = load_task(options.task, "--task")
    if "lm_eval" not in task.definition["source"]:  # before any scoring
        check_metrics(task.definition.get("kind", "choice"), task.definition.get("metrics"), str(task.file))
    requests, record = frozen(task)
    write_parquet(requests, options.to, REQUESTS, record)
    print(f"{options.to}: {record['examples']} examples, {record['requests']} requests", file=sys.stderr)


def _measure(options: argparse.Namespace) -> None:
    import pandas as pd

    from ebbtide.cells.cell import read_cell
    from ebbtide.metrics import loglikelihoods_sha256, measured, placed_rows
    from ebbtide.tables import EXAMPLES, METRICS, REQUESTS, read_footer, read_frame, write_parquet

    expected = _json(options.expected, "--expected")
    place = {k: expected[k] for k in ("model", "checkpoint", "step", "tokens", "parameters_nominal")}
    rows, digests = [], {}
    examples = [pd.DataFrame({name: pd.Series(dtype="str") for name in EXAMPLES.columns})]
    for cell, requests, of in zip(options.cells, options.requests, expected["cells"], strict=True):
        asked = read_footer(requests, REQUESTS)
        scores, footer = read_cell(cell, of["identity"], asked["content_sha256"])
        where = {**place, "task": of["task"]}
        definition = {"kind": asked.get("definition", {}).get("kind", "choice"), **of.get("measuring", {})}
        table = read_frame(requests, REQUESTS)
        if "lm_eval" in asked:
            from ebbtide.tasks.lm_eval import results_of

            theirs = results_of(scores, table, asked["lm_eval"], bootstrap_iters=BOOTSTRAP)
            rows.append(placed_rows(theirs, footer, where))
        if not asked.get("lm_eval", {}).get("own_process_results"):
            ours, of_examples = measured(scores, table, definition)
            rows.append(placed_rows(ours, footer, where))
            examples.append(of_examples.assign(task=of["task"]))
        digests[of["task"]] = loglikelihoods_sha256(scores)
    metrics = pd.concat(rows, ignore_index=True)
    sizes = {n: int(metrics[n].iloc[0]) for n in METRICS.columns if n.startswith("parameters_")}
    record = {"place": {**place, **sizes}}
    write_parquet(pd.concat(examples, ignore_index=True), options.examples, EXAMPLES, record)
    write_parquet(metrics, options.to, METRICS, {"loglikelihoods": digests})
