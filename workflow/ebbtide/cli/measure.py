"""The verb `measure`: from the cells of one checkpoint to its metrics."""

import argparse
from typing import TYPE_CHECKING

from ebbtide.cli.options import read_json

if TYPE_CHECKING:
    from ebbtide.cli.options import Verbs


def add_verbs(verbs: "Verbs") -> None:
    """Add the verb to the command line."""
    measure = verbs.add_parser("measure", description="Compute the metrics of the cells of one checkpoint.")
    measure.add_argument("--cells", nargs="+", required=True, metavar="FILE", help="cells, one per task")
    measure.add_argument(
        "--requests", nargs="+", required=True, metavar="FILE", help="frozen tasks, in the order of --cells"
    )
    measure.add_argument(
        "--expected",
        required=True,
        help="JSON: model, checkpoint, step, tokens, parameters_nominal, cells (task and identity of each)",
    )
    measure.add_argument("--to", required=True, metavar="FILE", help="table of metrics to write (Parquet)")
    measure.add_argument(
        "--examples", required=True, metavar="FILE", help="table of single examples to write (Parquet)"
    )
    measure.set_defaults(verb=_measure)


def _measure(options: argparse.Namespace) -> None:
    from ebbtide.environment import quick_start

    with quick_start():
        from ebbtide.metrics.measure import measure_checkpoint
    expected = read_json(options.expected, "--expected")
    measure_checkpoint(options.cells, options.requests, expected, options.to, options.examples)
