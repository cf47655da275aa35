"""Watch a study: one pass, or pass after pass until somebody ends it."""

import math
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType

from ebbtide.errors import EbbtideError
from ebbtide.logs import duration
from ebbtide.study.load import read_settings
from ebbtide.watch.one_pass import WRONG, DeferredError, Watched, run_pass
from ebbtide.watch.ownership import Ownership, owned

SOON = 60.0  # seconds until the next pass, at most, if another run had locked the study


def watch(
    files: Sequence[str],
    options: Sequence[str],
    say: Callable[[str], None],
    *,
    every: float | None = None,
    retry: bool = False,
) -> int:
    """Watch a study and return the exit status of the last pass.

    A loop goes on after alarms, after checkpoints that fail, and while the study cannot be used, until SIGINT
    or SIGTERM, which raise `KeyboardInterrupt`.

    Parameters
    ----------
    files
        Configuration files of the study.
    options
        Further options for Snakemake.
    say
        Gets one line per event.
    every
        Seconds from the start of a pass to the start of the next one; None: one pass.
    retry
        Whether the first pass tries checkpoints again that have failed too often.

    Raises
    ------
    EbbtideError
        The study cannot be used, or another watcher has it.
    """
    _interrupt_on(signal.SIGTERM, signal.SIGHUP)
    watched = Watched(tuple(files), read_settings(*files)["study"], tuple(options))
    with owned(watched.lock) as ownership:
        if ownership.predecessor:
            say(f"took over from {ownership.predecessor}, which ended without giving its lock back")
        while True:
            started = time.monotonic()
            status, pause = _try_pass(watched, ownership, say, every, retry=retry)
            retry = False
            took = time.monotonic() - started
            if every is None:
                say(f"pass ended: status {status}, {duration(took)}")
                return status
            left = max(pause - took, 0)
            when = f"in {duration(left)}" if left else "at once"
            say(f"pass ended: status {status}, {duration(took)}; next {when}")
            time.sleep(left)


def _try_pass(
    watched: Watched, ownership: Ownership, say: Callable[[str], None], every: float | None, *, retry: bool
) -> tuple[int, float]:
    """Make a pass; return its status, and the seconds from its start until the next one."""
    pause = math.inf if every is None else every
    try:
        return run_pass(watched, ownership, say, retry=retry), pause
    except DeferredError as error:
        say(f"deferred: {error.args[0]}")
        return WRONG, min(pause, SOON)
    except (EbbtideError, OSError) as error:
        say(str(error) if isinstance(error, EbbtideError) else f"{type(error).__name__}: {error}")
        return WRONG, pause


def _interrupt_on(*signals: signal.Signals) -> None:
    """Let these signals do what Ctrl-C does, unless they are ignored, as SIGHUP is below nohup."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in signals:
        with suppress(ValueError):  # not in the main thread
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, interrupt)
