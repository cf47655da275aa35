"""Every signal that ends a worker has its true reason and a remedy."""

import signal

import pytest

from ebbtide.jobs.signals import exit_reason
from ebbtide.logs import ABOVE


def test_an_error_of_the_worker_itself_is_above() -> None:
    assert exit_reason(1) == f" (the worker ended with status 1); {ABOVE}"


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (signal.SIGKILL, "as the kernel does when memory runs out"),
        (signal.SIGSEGV, "as after a fault in a native library or a driver. Run the same command again"),
        (
            signal.SIGBUS,
            "as when a weight file is cut short, or its disk fails, while it is read. Check",
        ),
        (signal.SIGABRT, "as when a native library stops itself, often because memory cannot be allocated"),
        (signal.SIGILL, "as when a library was built for another processor. Install the project again"),
        (signal.SIGTERM, "as when a user or a scheduler ends a job, for example at its time limit. Run the"),
        (signal.SIGXCPU, "as at a limit of CPU time (ulimit -t). Raise the limit, and run the same command"),
        (signal.SIGINT, "as when somebody interrupts a run. Run the same command again; finished cells are"),
    ],
)
def test_a_signal_is_explained(number: signal.Signals, reason: str) -> None:
    found = exit_reason(-number)
    assert found.startswith(f": the worker was killed by signal {int(number)} ({number.name}), {reason}")
    assert not found.endswith(ABOVE)  # nothing is above: the worker could not write anything


def test_a_real_time_signal_has_no_name() -> None:
    assert exit_reason(-40).startswith(": the worker was killed by signal 40, as when")
