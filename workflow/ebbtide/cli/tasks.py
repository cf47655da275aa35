"""The verbs of tasks: `pin`, `preview`, `diff-requests`."""

import argparse
from pathlib import Path


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs to the command line."""
    pin = verbs.add_parser(
        "pin", help="find commit and sha256 of a task's data, and write a definition with them"
    )
    pin.add_argument("task", help="task definition (YAML), or a name of the catalogue")
    pin.add_argument("--to", required=True, metavar="FILE.yaml", help="the definition to write")
    pin.set_defaults(verb=_pin, network=True)

    preview = verbs.add_parser("preview", help="show the first requests of a frozen task")
    preview.add_argument("requests", help="the frozen task (Parquet)")
    preview.add_argument("--examples", type=int, default=5)
    preview.add_argument("--model", metavar="DIR", help="mark tokens, with the tokenizer of this checkpoint")
    preview.set_defaults(verb=_preview)

    diff = verbs.add_parser("diff-requests", help="what changed between two frozen tasks")
    diff.add_argument("old")
    diff.add_argument("new")
    diff.set_defaults(verb=_diff)


def _pin(options: argparse.Namespace) -> None:
    from ebbtide.sources import mirrors
    from ebbtide.tasks.pin import pin

    pin(options.task, Path(options.to), mirrors([]))
    print(f"{options.to}: pinned; name it under tasks.")


def _preview(options: argparse.Namespace) -> None:
    from ebbtide.tables import REQUESTS, read_frame
    from ebbtide.tasks.preview import preview

    requests = read_frame(options.requests, REQUESTS)
    print(preview(requests, options.examples, options.model).to_csv(sep="\t", index=False), end="")


def _diff(options: argparse.Namespace) -> None:
    from ebbtide.tasks.diff import diff_files

    print(diff_files(options.old, options.new) or "The two ask the same.")
