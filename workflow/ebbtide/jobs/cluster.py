"""Runs that submit their jobs to a scheduler."""

import re
import signal
import subprocess
from typing import Any, NoReturn

from ebbtide.errors import ConfigError
from ebbtide.jobs.snakemake_internals import jobs_run_here, slurm_status_checks

_LONGEST_GAP = 180  # seconds between two looks at the status of submissions, at most
_MARGIN = 20  # seconds that a look may take
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def prepare(workflow: Any) -> None:
    """Prepare a run with a remote executor; does nothing in a local run.

    SIGTERM then cancels submissions, as Ctrl-C does. Snakemake itself would wait for all of them, and whoever
    sent the signal, such as a machine that shuts down, would kill it before.

    Raises
    ------
    ConfigError
        If Slurm forgets finished submissions before Snakemake looks for them: it would wait forever.
    """
    if jobs_run_here(workflow):
        return
    check_status_checks(workflow)
    signal.signal(signal.SIGTERM, _interrupt)


def check_status_checks(workflow: Any) -> None:
    """Raise `ConfigError` if a submission can be forgotten by Slurm between two looks at its status."""
    command, first_look = slurm_status_checks(workflow) or ("", 0)
    if command != "squeue":
        return
    remembered = min_job_age()
    # The plugin uses `sacct` below this limit.
    if remembered is None or remembered < 3 * first_look or remembered >= _LONGEST_GAP + _MARGIN:
        return
    raise ConfigError(
        f"slurm-status-command: found squeue, but this Slurm forgets finished submissions after {remembered} "
        f"seconds (MinJobAge), and Snakemake asks every {_LONGEST_GAP} seconds, so it could wait forever; "
        f"ask the site for a MinJobAge of {_LONGEST_GAP + _MARGIN}, or set slurm-status-command to sacct in "
        "the profile, which needs an accounting database. With sacct, end submissions with Ctrl-C only: for "
        "one that scancel has ended, Snakemake waits forever."
    )


def min_job_age() -> int | None:
    """Return the seconds for which Slurm remembers finished submissions; None if that cannot be found out."""
    try:
        settings = subprocess.run(
            ["scontrol", "show", "config"], capture_output=True, text=True, check=True, timeout=30
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"^MinJobAge\s*=\s*(\d+)\s*([smh]?)", settings, re.MULTILINE)
    return int(found[1]) * _UNITS[found[2]] if found else None


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
