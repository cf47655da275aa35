"""The verbs that ask the Hugging Face hub: `lock` and `fetch-checkpoint`. No other verb may."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ebbtide.cli.options import add_study

if TYPE_CHECKING:
    from ebbtide.cli.options import Verbs


def add_verbs(verbs: "Verbs") -> None:
    """Add the verbs to the command line."""
    lock = verbs.add_parser(
        "lock", description="Resolve a study's checkpoints on the hub to commits and digests."
    )
    add_study(lock)
    lock.add_argument(
        "--follow",
        nargs="+",
        default=[],
        metavar="MODEL/CHECKPOINT",
        help="resolve these again although they are locked",
    )
    lock.set_defaults(verb=_lock, network=True)

    fetch = verbs.add_parser("fetch-checkpoint", description="Download a locked checkpoint and verify it.")
    fetch.add_argument("--lock", required=True, metavar="FILE", help="lockfile of a study")
    fetch.add_argument("--model", required=True, help="model, by its name in the lockfile")
    fetch.add_argument("--checkpoint", required=True, help="checkpoint, by its name in the lockfile")
    fetch.add_argument(
        "--format", required=True, choices=["safetensors", "bin"], help="format of the weights on the hub"
    )
    fetch.add_argument(
        "--remote-code",
        action="store_true",
        help="also download its Python files, which run when it is loaded",
    )
    fetch.add_argument(
        "--to",
        required=True,
        metavar="DIR",
        help="directory to write; with --plan ROOT/MODEL/CHECKPOINT/hub-ID",
    )
    fetch.add_argument(
        "--plan", metavar="FILE", help="plan of the running workflow, which sets the budget of disk space"
    )
    fetch.set_defaults(verb=_fetch_checkpoint, network=True)


def _lock(options: argparse.Namespace) -> None:
    from ebbtide.logs import log_to_stderr
    from ebbtide.study.lock import lock_checkpoints

    log_to_stderr()
    locked = lock_checkpoints(options.study, options.follow)
    for message in locked.messages:
        print(message)
    print(
        f"{locked.file}: {locked.models} models, {locked.checkpoints} checkpoints. Commit it with the study."
    )


def _fetch_checkpoint(options: argparse.Namespace) -> None:
    from ebbtide.checkpoints.hub.client import Hub
    from ebbtide.checkpoints.hub.fetch import fetch, locked_checkpoint
    from ebbtide.jobs.weight_plan import budget_of
    from ebbtide.logs import log_to_stderr

    log_to_stderr()
    to = Path(options.to)
    fetch(
        Hub(),
        locked_checkpoint(options.lock, options.model, options.checkpoint),
        to,
        format=options.format,
        remote_code=options.remote_code,
        budget=budget_of(options.plan, to) if options.plan else None,
    )
