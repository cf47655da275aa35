"""The verb `convert`: a checkpoint of another format in Hugging Face layout."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ebbtide.cli.options import read_json

if TYPE_CHECKING:
    from ebbtide.cli.options import Verbs


def add_verbs(verbs: "Verbs") -> None:
    """Add the verb to the command line."""
    convert = verbs.add_parser(
        "convert", description="Convert a checkpoint of another format to safetensors in Hugging Face layout."
    )
    convert.add_argument(
        "--spec", required=True, help="path, format, map, config, tokenizer and base of the checkpoint (JSON)"
    )
    convert.add_argument(
        "--to", required=True, metavar="DIR", help="directory to write, ROOT/MODEL/CHECKPOINT/converted-ID"
    )
    convert.add_argument(
        "--plan", metavar="FILE", help="plan of the running workflow, which sets the budget of disk space"
    )
    convert.set_defaults(verb=_convert)


def _convert(options: argparse.Namespace) -> None:
    from ebbtide.checkpoints.formats.conversion import convert_to_directory
    from ebbtide.jobs.weight_plan import budget_of
    from ebbtide.logs import log_to_stderr

    log_to_stderr()
    to = Path(options.to)
    budget = budget_of(options.plan, to) if options.plan else None
    convert_to_directory(read_json(options.spec, "--spec"), to, budget)
