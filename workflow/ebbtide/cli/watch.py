"""The verb `watch`: follow a run in training."""

import argparse
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ebbtide.cli.options import Verbs

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_STATUSES = """exit statuses: 0 success, 1 alarms at or above alarms.fail_on, 2 anything that went wrong
(a checkpoint that fails or is refused, another watcher of this study, another run of Snakemake on its
files), 130 interrupted. Checkpoints that wait do not count."""


def add_verbs(verbs: "Verbs") -> None:
    """Add the verb to the command line."""
    watch = verbs.add_parser(
        "watch",
        description="Score the checkpoints of a run in training as they appear: find them, wait until they "
        "are whole, run the workflow and its gate, publish, and print a line for each event.",
        epilog=_STATUSES,
    )
    watch.add_argument(
        "study",
        nargs="+",
        metavar="STUDY",
        help="configuration files of the study, as for snakemake --configfile",
    )
    how = watch.add_mutually_exclusive_group(required=True)
    how.add_argument("--once", action="store_true", help="make one pass, for cron, timers and CI")
    how.add_argument(
        "--every",
        type=_duration,
        metavar="TIME",
        help="make a pass every so often, such as 30s, 10m or 2h, until SIGINT or SIGTERM",
    )
    watch.add_argument(
        "--retry", action="store_true", help="try checkpoints again that have failed watch.attempts times"
    )
    watch.add_argument(
        "--snakemake",
        nargs=argparse.REMAINDER,
        default=[],
        metavar="OPTION",
        help="pass everything after this option to snakemake, such as --profile slurm (default: --cores all)",
    )
    watch.set_defaults(verb=_watch, network=True)


def _duration(text: str) -> float:
    """A type of option: a time in seconds, minutes, hours or days."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not found or float(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"found {text!r}, allowed: a number and s, m, h or d, such as 10m")
    return float(found[1]) * _SECONDS[found[2]]


def _watch(options: argparse.Namespace) -> None:
    from ebbtide.watch.loop import watch

    status = watch(options.study, options.snakemake, _say, every=options.every, retry=options.retry)
    raise SystemExit(status)


def _say(text: str) -> None:
    """Print an event on one line, with the time in UTC."""
    print(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {' '.join(text.split())}", flush=True)
