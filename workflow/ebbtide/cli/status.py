"""The verb that says how far a study is: `status`."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ebbtide.cli.options import Verbs


def add_verbs(verbs: "Verbs") -> None:
    """Add the verb to the command line."""
    status = verbs.add_parser(
        "status",
        description="Print which cells of a study are done, missing or failed and why, and what the missing "
        "ones would cost. It runs nothing, and can be asked during a run.",
    )
    status.add_argument(
        "study",
        nargs="*",
        default=["config.yaml"],
        metavar="STUDY",
        help="configuration files of the study, as for snakemake --configfile (default: config.yaml)",
    )
    status.add_argument(
        "--cells", action="store_true", help="also list every missing cell: model, checkpoint, task, state"
    )
    status.set_defaults(verb=_status)


def _status(options: argparse.Namespace) -> None:
    from ebbtide.report.status import lines, status_of
    from ebbtide.study.load import read_study

    print(*lines(status_of(read_study(*options.study)), cells=options.cells), sep="\n")
