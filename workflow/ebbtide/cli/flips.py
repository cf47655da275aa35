"""The verb `flips`: the examples that changed between two checkpoints."""

import argparse
import shutil
import sys
from typing import TYPE_CHECKING

from ebbtide.cli.options import whole_number

if TYPE_CHECKING:
    from ebbtide.cli.options import Verbs

LIMIT = 10
WIDEST = 120  # columns


def add_verbs(verbs: "Verbs") -> None:
    """Add the verb to the command line."""
    flips = verbs.add_parser(
        "flips", description="List the examples that changed between two checkpoints, with texts and answers."
    )
    flips.add_argument(
        "study",
        nargs="*",
        default=["config.yaml"],
        metavar="STUDY",
        help="configuration files of the study, as for snakemake --configfile (default: config.yaml)",
    )
    flips.add_argument("--model", required=True, metavar="MODEL", help="model of both checkpoints")
    for option, which in (("--from", "earlier"), ("--to", "later")):
        flips.add_argument(
            option,
            required=True,
            dest="before" if option == "--from" else "after",
            metavar="CHECKPOINT",
            help=f"{which} checkpoint: name or step, or MODEL/CHECKPOINT of another model",
        )
    flips.add_argument(
        "--task",
        nargs="+",
        action="extend",
        default=[],
        metavar="TASK",
        help="tasks; also several times (default: all that are scored at both checkpoints)",
    )
    flips.add_argument(
        "--metric",
        metavar="METRIC",
        help="metric to compare (default: trajectories.metrics of the study, or the first of the task)",
    )
    flips.add_argument(
        "--limit",
        type=whole_number(1),
        metavar="N",
        help="most examples in each direction, those that changed most first "
        f"(default: {LIMIT}; with --json or --tsv all)",
    )
    output = flips.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print pairs, groups and examples as JSON")
    output.add_argument("--tsv", action="store_true", help="print the examples as TSV")
    flips.set_defaults(verb=_flips)


def _flips(options: argparse.Namespace) -> None:
    from ebbtide.statistics.flips.lines import as_json, as_sheet, lines
    from ebbtide.statistics.flips.of_study import flips_between
    from ebbtide.study.load import read_study
    from ebbtide.texts import write_sheet

    limit = options.limit or (None if options.json or options.tsv else LIMIT)
    found = flips_between(
        read_study(*options.study, uses_results=False),
        options.model,
        options.before,
        options.after,
        tasks=options.task,
        metric=options.metric,
        most=limit,
    )
    for sentence in found.left_out:
        print(sentence, file=sys.stderr)
    if options.json:
        print(as_json(found.tables))
    elif options.tsv:
        write_sheet(as_sheet(found.tables.examples), sys.stdout, "\t")
    else:
        width = min(shutil.get_terminal_size().columns, WIDEST)
        print(*lines(found.tables, limit or LIMIT, width), sep="\n")
