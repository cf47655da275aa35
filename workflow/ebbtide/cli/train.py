"""The verb `train`: the checkpoints of one model of a generated ladder."""

import argparse
from typing import TYPE_CHECKING

from ebbtide.cli.options import read_json

if TYPE_CHECKING:
    from ebbtide.cli.options import Verbs


def add_verbs(verbs: "Verbs") -> None:
    """Add the verb to the command line."""
    train = verbs.add_parser("train", description="Train one model of a local ladder.")
    train.add_argument("--spec", required=True, help="corpus, recipe and model (JSON)")
    train.add_argument(
        "--markers",
        nargs="+",
        required=True,
        metavar="FILE",
        help="DIR/stepN/trained-ID.json, one per checkpoint; written when training has ended",
    )
    train.set_defaults(verb=_train)


def _train(options: argparse.Namespace) -> None:
    from ebbtide.logs import Progress, log_to_stderr
    from ebbtide.training.train import train_to_markers

    log_to_stderr()
    train_to_markers(read_json(options.spec, "--spec"), options.markers, Progress())
