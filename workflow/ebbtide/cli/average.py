"""The verb `average`: the mean of the weights of several checkpoints, as a checkpoint."""

import argparse
from typing import TYPE_CHECKING

from ebbtide.cli.options import read_json

if TYPE_CHECKING:
    from ebbtide.cli.options import Verbs


def add_verbs(verbs: "Verbs") -> None:
    """Add the verb to the command line."""
    average = verbs.add_parser("average", description="Average the weights of checkpoints of one run.")
    average.add_argument("--spec", required=True, help="parents, their shares, and the cell store (JSON)")
    average.add_argument(
        "--to", required=True, metavar="DIR", help="directory to write, MODEL/CHECKPOINT/averaged-ID"
    )
    average.set_defaults(verb=_average)


def _average(options: argparse.Namespace) -> None:
    from ebbtide.checkpoints.average_weights import average_to_directory
    from ebbtide.logs import log_to_stderr

    log_to_stderr()
    average_to_directory(read_json(options.spec, "--spec"), options.to)
