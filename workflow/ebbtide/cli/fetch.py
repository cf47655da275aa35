"""The verbs that download pinned files: `fetch` (one file) and `fetch-testbed` (a directory of them)."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ebbtide.errors import ConfigError

if TYPE_CHECKING:
    from ebbtide.cli.options import Verbs


def add_verbs(verbs: "Verbs") -> None:
    """Add the verbs to the command line."""
    fetch = verbs.add_parser("fetch", description="Download a pinned file and check its sha256.")
    what = fetch.add_mutually_exclusive_group(required=True)
    what.add_argument("--task", metavar="FILE", help="task definition (YAML) whose data to download")
    what.add_argument(
        "--source",
        nargs=2,
        metavar=("SOURCE", "SHA256"),
        help="source, such as github:owner/repo@commit:path, and its sha256",
    )
    fetch.add_argument("--to", required=True, metavar="FILE", help="file to write")
    fetch.set_defaults(verb=_fetch)

    testbed = verbs.add_parser("fetch-testbed", description="Download a directory of pinned files.")
    testbed.add_argument("--source", required=True, help="github:owner/repo@commit:path, or a local path")
    testbed.add_argument(
        "--pins", required=True, metavar="FILE", help='file with a line "sha256  path" per pinned file'
    )
    testbed.add_argument("--to", required=True, metavar="DIR", help="directory to write")
    testbed.set_defaults(verb=_fetch_testbed, network=True)


def _fetch(options: argparse.Namespace) -> None:
    from ebbtide.sources import Source, fetch, mirrors

    if options.source:
        source: Source | None = Source.parse(options.source[0], options.source[1], "--source")
    else:
        from ebbtide.tasks.definition import load_tasks

        source = next(iter(load_tasks(options.task, "--task").values())).source  # all formats have the same
    if source is None:
        raise ConfigError(
            f"--task: found {options.task}, which has no file to download; allowed: a task with source.file."
        )
    fetch(source, Path(options.to), mirrors([]))


def _fetch_testbed(options: argparse.Namespace) -> None:
    from ebbtide.sources import mirrors
    from ebbtide.statistics.scaling_laws.pins import fetch_pinned, find_pins, read_pins

    pins = read_pins(find_pins(options.pins), options.source)
    fetch_pinned(pins, Path(options.to), mirrors([]))
