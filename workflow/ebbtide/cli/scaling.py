"""The verb of scaling laws: `fetch-testbed`."""

import argparse
from pathlib import Path


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to the command line."""
    fetch = verbs.add_parser("fetch-testbed", help="bring a directory of pinned files here")
    fetch.add_argument("--source", required=True, help="github:owner/repo@commit:path, or a local path")
    fetch.add_argument("--pins", required=True, metavar="FILE", help='lines "sha256  path"')
    fetch.add_argument("--to", required=True, metavar="DIR")
    fetch.set_defaults(verb=_fetch, network=True)


def _fetch(options: argparse.Namespace) -> None:
    from ebbtide.sources import mirrors
    from ebbtide.statistics.scaling_laws.pins import fetch_pinned, find_pins, read_pins

    pins = read_pins(find_pins(options.pins), options.source)
    fetch_pinned(pins, Path(options.to), mirrors([]))
