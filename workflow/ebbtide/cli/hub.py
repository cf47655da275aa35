"""The verbs of the hub: `lock` and `fetch-checkpoint`. They alone may ask it."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ebbtide.errors import ConfigError

if TYPE_CHECKING:
    from ebbtide.checkpoints.hub.disk import Budget


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs to the command line."""
    lock = verbs.add_parser("lock", help="resolve a study's checkpoints on the hub to commits and digests")
    lock.add_argument("--study", required=True, nargs="+", metavar="FILE", help="the study, as for Snakemake")
    lock.add_argument(
        "--follow",
        nargs="+",
        default=[],
        metavar="MODEL/CHECKPOINT",
        help="take these anew, although they are locked",
    )
    lock.set_defaults(verb=_lock, network=True)

    fetch = verbs.add_parser("fetch-checkpoint", help="bring a locked checkpoint here and verify it")
    fetch.add_argument("--lock", required=True, metavar="FILE", help="the lock of a study")
    fetch.add_argument("--model", required=True, help="as the lock names it")
    fetch.add_argument("--checkpoint", required=True, help="as the lock names it")
    fetch.add_argument("--format", required=True, choices=["safetensors", "bin"], help="of the weights there")
    fetch.add_argument("--remote-code", action="store_true", help="fetch its Python files; loading runs them")
    fetch.add_argument(
        "--to", required=True, metavar="DIR", help="ROOT/MODEL/CHECKPOINT/hub-ID, or any other"
    )
    fetch.add_argument("--plan", metavar="FILE", help="of a run, see ebbtide.jobs.fetch_plan")
    fetch.set_defaults(verb=_fetch_checkpoint, network=True)


def _lock(options: argparse.Namespace) -> None:
    from ebbtide.checkpoints.hub.client import Hub
    from ebbtide.checkpoints.hub.lock import read_lock
    from ebbtide.checkpoints.hub.resolve import lock_study
    from ebbtide.logs import log_to_stderr
    from ebbtide.study.load import read_study

    log_to_stderr()
    study = read_study(*options.study, results="both")  # what is scored one day can be locked today
    messages = lock_study(study.hub, Hub(), study.lock_file, options.follow)
    for message in messages:
        print(message)
    lock = read_lock(study.lock_file)
    count = sum(bool(wanted.locked) for model in study.hub for wanted in model.wanted(lock))
    print(f"{study.lock_file}: {len(study.hub)} models, {count} checkpoints. Commit it beside the study.")


def _fetch_checkpoint(options: argparse.Namespace) -> None:
    from ebbtide.checkpoints.hub.client import Hub
    from ebbtide.checkpoints.hub.fetch import fetch, locked_checkpoint
    from ebbtide.logs import log_to_stderr

    log_to_stderr()
    locked = locked_checkpoint(options.lock, options.model, options.checkpoint)
    fetch(
        Hub(),
        locked,
        Path(options.to),
        format=options.format,
        remote_code=options.remote_code,
        budget=_budget(options),
    )


def _budget(options: argparse.Namespace) -> "Budget | None":
    """The budget of a run's plan."""
    from ebbtide.checkpoints.hub.disk import Budget
    from ebbtide.jobs.fetch_plan import read_run

    if options.plan is None:
        return None
    run = read_run(options.plan)
    if run.budget is None:
        return None
    to = Path(options.to).absolute()
    if not to.name.startswith("hub-") or len(to.parents) < 3:
        raise ConfigError(
            f"--to: found {options.to}; within a budget, allowed: ROOT/MODEL/CHECKPOINT/hub-ID."
        )
    return Budget(to.parents[2], run.budget, run.needs, check=run.check)
