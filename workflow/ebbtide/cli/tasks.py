"""The verbs of tasks: `freeze`, `pin`, `preview`, `diff-requests`."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ebbtide.cli.options import whole_number

if TYPE_CHECKING:
    from ebbtide.cli.options import Verbs


def add_verbs(verbs: "Verbs") -> None:
    """Add the verbs to the command line."""
    freeze = verbs.add_parser("freeze", description="Freeze a task into requests.")
    freeze.add_argument("--task", required=True, metavar="FILE", help="task definition (YAML)")
    freeze.add_argument("--name", help="name of the task, if the definition has formats (NAME.FORMAT)")
    freeze.add_argument("--to", required=True, metavar="FILE", help="frozen task to write (Parquet)")
    # On the machine that runs Snakemake: a data set of the hub is read when it is frozen.
    freeze.set_defaults(verb=_freeze, network=True)

    pin = verbs.add_parser(
        "pin",
        description="Find the commit and the digest of a task's data, and write a definition with them.",
    )
    pin.add_argument(
        "task", metavar="TASK", help="task definition (YAML), or the name of a task in the catalogue"
    )
    pin.add_argument("--to", required=True, metavar="FILE", help="definition to write (YAML)")
    pin.set_defaults(verb=_pin, network=True)

    preview = verbs.add_parser("preview", description="Print the first requests of a frozen task.")
    preview.add_argument(
        "requests",
        metavar="REQUESTS",
        help="frozen task: resources/tasks/NAME.parquet, or what `freeze` wrote",
    )
    preview.add_argument(
        "--examples", type=whole_number(1), default=5, metavar="N", help="examples to print (default: 5)"
    )
    preview.add_argument(
        "--model", metavar="DIR", help="checkpoint whose tokenizer marks tokens, and those across the border"
    )
    preview.set_defaults(verb=_preview)

    diff = verbs.add_parser("diff-requests", description="Compare two frozen tasks.")
    diff.add_argument(
        "old", metavar="OLD", help="frozen task: resources/tasks/NAME.parquet, or what `freeze` wrote"
    )
    diff.add_argument(
        "new", metavar="NEW", help="frozen task: resources/tasks/NAME.parquet, or what `freeze` wrote"
    )
    diff.set_defaults(verb=_diff)


def _freeze(options: argparse.Namespace) -> None:
    from ebbtide.jobs.freeze_task import freeze_task
    from ebbtide.logs import log_to_stderr

    log_to_stderr()
    record = freeze_task(options.task, options.to, options.name)
    print(f"{options.to}: {record['examples']} examples, {record['requests']} requests", file=sys.stderr)


def _pin(options: argparse.Namespace) -> None:
    from ebbtide.sources import mirrors
    from ebbtide.tasks.pin import pin

    pin(options.task, Path(options.to), mirrors([]))
    print(f"{options.to}: pinned. List it under tasks.")


def _preview(options: argparse.Namespace) -> None:
    from ebbtide.tables import REQUESTS, read_footer, read_frame
    from ebbtide.tasks.preview import preview
    from ebbtide.texts import write_sheet

    requests, footer = read_frame(options.requests, REQUESTS), read_footer(options.requests, REQUESTS)
    shown = preview(requests, options.examples, options.model, footer)
    write_sheet(shown, sys.stdout, "\t")


def _diff(options: argparse.Namespace) -> None:
    from ebbtide.tasks.diff import diff_files

    print(diff_files(options.old, options.new) or "The requests are equal.")
