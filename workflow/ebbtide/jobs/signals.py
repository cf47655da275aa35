"""Why a worker ended without its cell, in words. A lean module."""

import resource
import signal
import sys

from ebbtide.logs import ABOVE

_LIBRARY = (
    "as after a fault in a native library or a driver. Run the same command again; if it fails again, set "
    "scoring.backend: transformers, and report this model."
)
# What usually sends a signal to a worker, and what to do.
_CAUSES = {
    signal.SIGKILL: (
        "as the kernel does when memory runs out{peak}. Run fewer jobs at a time (--cores), give each more "
        "memory (--set-resources score:mem_mb=…), or set a smaller scoring.max_length, which scores all "
        "cells again."
    ),
    signal.SIGSEGV: _LIBRARY,
    signal.SIGFPE: _LIBRARY,
    signal.SIGBUS: (
        "as when a weight file is cut short, or its disk fails, while it is read. Check that the weights are "
        "complete and their file system is mounted, and run the same command again."
    ),
    signal.SIGABRT: (
        "as when a native library stops itself, often because memory cannot be allocated{peak}. Its own "
        "message is above. Run fewer jobs at a time (--cores), or set scoring.backend: transformers."
    ),
    signal.SIGILL: (
        "as when a library was built for another processor. Install the project again on this machine."
    ),
    signal.SIGTERM: (
        "as when a user or a scheduler ends a job, for example at its time limit. Run the same command "
        "again; if it was the time limit, give more time (--set-resources score:runtime=…, in minutes)."
    ),
    signal.SIGXCPU: (
        "as at a limit of CPU time (ulimit -t). Raise the limit, and run the same command again."
    ),
}
_STOPPED = "as when somebody interrupts a run. Run the same command again; finished cells are kept."


def exit_reason(status: int) -> str:
    """Return the end of a sentence on an exit status as of `subprocess`, where -9 is signal 9.

    It ends with `logs.ABOVE` if the worker itself reported an error.
    """
    if status >= 0:
        return f" (the worker ended with status {status}); {ABOVE}"
    try:
        number = signal.Signals(-status)
    except ValueError:  # a real-time signal
        return f": the worker was killed by signal {-status}, {_STOPPED}"
    reason = _CAUSES.get(number, _STOPPED).format(peak=_peak())
    return f": the worker was killed by signal {-status} ({number.name}), {reason}"


def _peak() -> str:
    """Return the most memory that a worker of this process has used, in words."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    return f" (it used {peak / 1e9:.1f} GB)" if peak else ""
