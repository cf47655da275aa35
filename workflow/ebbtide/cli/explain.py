"""The verb that explains a study: `explain`."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ebbtide.cli.options import Verbs


def add_verbs(verbs: "Verbs") -> None:
    """Add the verb to the command line."""
    explain = verbs.add_parser(
        "explain",
        description="Print a study's summary, with what it defaulted, dropped, tied or did not compare.",
    )
    explain.add_argument(
        "study",
        nargs="*",
        default=["config.yaml"],
        metavar="STUDY",
        help="configuration files of the study, as for snakemake --configfile (default: config.yaml)",
    )
    explain.set_defaults(verb=_explain)


def _explain(options: argparse.Namespace) -> None:
    from ebbtide.report.explain import explain
    from ebbtide.study.load import read_study

    print(*explain(read_study(*options.study)), sep="\n")
