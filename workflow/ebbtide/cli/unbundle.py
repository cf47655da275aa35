"""The verb `unbundle`: unpack the bundle of a study, from which Snakemake rebuilds the rest."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ebbtide.cli.options import Verbs


def add_verbs(verbs: "Verbs") -> None:
    """Add the verb to the command line."""
    unbundle = verbs.add_parser(
        "unbundle",
        description="Unpack the bundle of a study (snakemake bundle), after a check of every file.",
    )
    unbundle.add_argument("bundle", metavar="FILE", help="the bundle, results/STUDY/bundle.zip")
    unbundle.add_argument("--to", required=True, metavar="DIR", help="a directory that is empty or new")
    unbundle.set_defaults(verb=_unbundle)


def _unbundle(options: argparse.Namespace) -> None:
    from ebbtide.report.bundle.archive import unpack
    from ebbtide.report.bundle.contents import STUDY_FILE

    count = unpack(options.bundle, options.to)
    print(f"{count} files unpacked and checked. To rebuild tables, figures, report and paper, run")
    print(
        f"  snakemake --snakefile EBBTIDE/Snakefile --directory {options.to} "
        f"--configfile {options.to}/{STUDY_FILE} --cores all all paper"
    )
