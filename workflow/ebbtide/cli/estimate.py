"""The verb `estimate`: the accuracy of a new checkpoint from a sample of the examples of a task."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ebbtide.cli.options import same_file, whole_number
from ebbtide.errors import ConfigError

if TYPE_CHECKING:
    from ebbtide.cli.options import Verbs


def add_verbs(verbs: "Verbs") -> None:
    """Add the verb to the command line."""
    estimate = verbs.add_parser(
        "estimate",
        description="Estimate the accuracy of a new checkpoint from a sample of the examples of a task.",
    )
    estimate.add_argument(
        "--model", required=True, help="directory of a Hugging Face checkpoint, or a file in it"
    )
    estimate.add_argument(
        "--cells",
        nargs="+",
        required=True,
        metavar="FILE",
        help="cells of this task for earlier checkpoints of the run, in the order of training",
    )
    estimate.add_argument("--requests", required=True, help="frozen task (Parquet)")
    estimate.add_argument("--to", required=True, metavar="FILE", help="estimate to write (JSON)")
    estimate.add_argument(
        "--half-width",
        type=_half_width,
        default=0.01,
        metavar="W",
        help="half width of the 95%% interval of the accuracy on all examples (default: 0.01)",
    )
    estimate.add_argument(
        "--gpus",
        type=whole_number(0),
        metavar="N",
        help="most GPUs to take; 0 scores on CPUs (default: as many as the weights need)",
    )
    estimate.add_argument(
        "--offload",
        action="store_true",
        help="keep the part of a model that does not fit on the GPUs in CPU memory, which is slow",
    )
    estimate.add_argument("--threads", type=whole_number(1), default=1, help="CPU threads (default: 1)")
    estimate.set_defaults(verb=_estimate)


def _half_width(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 0.5:
        raise argparse.ArgumentTypeError(f"found {text!r}, allowed: a number above 0 and below 0.5")
    return value


def _estimate(options: argparse.Namespace) -> None:
    if any(same_file(options.to, path) for path in (*options.cells, options.requests)):
        raise ConfigError(f"--to: found {options.to}, which is one of the inputs; allowed: another file.")
    if Path(options.to).is_dir():
        raise ConfigError(f"--to: found {options.to}, which is a directory; give the name of a file.")
    from ebbtide.environment import quick_start
    from ebbtide.files import check_writable
    from ebbtide.jobs.gpu_jobs import leased, say_on_stderr
    from ebbtide.logs import log_to_stderr

    log_to_stderr()
    check_writable(Path(options.to).parent)
    with quick_start():
        from ebbtide.statistics.small_evaluation import evaluate
    run = evaluate.read_run(options.cells, options.requests)
    place = (options.model, run.identity["dtype"], run.backend, options.to)
    with leased(*place, say_on_stderr, most=options.gpus, offload=options.offload) as lease:
        os.environ.update(lease.environment)
        found = evaluate.estimate_file(
            run,
            options.model,
            options.half_width,
            options.to,
            threads=options.threads,
            offload=options.offload,
        )
    print(f"{options.model}: {evaluate.sentence(found)}")
