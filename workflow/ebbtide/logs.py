"""Logging of jobs: a log file, the terminal, and errors in one sentence.

Progress lines (checkpoint i of n) are printed on the terminal of the run at most every `TERMINAL_SECONDS`,
and in a log file at most every `QUIET_SECONDS`.
"""

import logging
import os
import re
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from ebbtide.errors import EbbtideError

log = logging.getLogger("ebbtide")
QUIET_SECONDS = 30.0
ABOVE = "its message is above."  # ends an error whose cause the same log has in the error before it
INTERRUPTED_LINE = "Interrupted."  # ends the log of a job that Ctrl-C ended
TERMINAL_SECONDS = 10.0
_ERROR = re.compile(r"(\d\d:\d\d:\d\d )?(\w*(Error|Exception): .*)")
_SLURM = re.compile(r"(slurmstepd|srun)\S*: error: (.*)")
_TERMINAL = "EBBTIDE_TERMINAL"  # host:device, because on another machine the device is someone else's


def log_to_stderr() -> None:
    """Log to stderr. For verbs of the command line; rules redirect stderr to their log file."""
    _set_up(logging.StreamHandler(sys.stderr))


def log_to(path: str) -> None:
    """Log to the file `path`, including any uncaught error. For scripts of rules.

    The file gets the traceback of an uncaught error, then its message as the last line. The message is also
    printed on stderr, where Snakemake displays it. After Ctrl-C, the file ends with `INTERRUPTED_LINE`.
    """
    _set_up(logging.FileHandler(path, mode="w", encoding="utf-8"))
    sys.excepthook = _explain


class Lenient:
    """A stream that reports its first failed write on stdout: a full disk for logs must not fail a job."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._failed = False

    def write(self, text: str) -> int:
        """Write the text, if possible."""
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush the stream, if possible."""
        self._try(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        """Return any other attribute of the stream."""
        return getattr(self._stream, name)

    def _try(self, write: Callable[[], object]) -> None:
        try:
            write()
        except OSError as error:
            if self._failed:
                return
            self._failed = True
            with suppress(OSError):
                print(
                    f"StorageError: {_file_of_stderr()} cannot be written: {os.strerror(error.errno or 0)}. "
                    "The job goes on without its log.",
                    flush=True,
                )


@contextmanager
def lenient_stderr() -> Iterator[None]:
    """Ignore failed writes to stderr, which is the log file of most jobs, except for one message."""
    before = sys.stderr
    sys.stderr = Lenient(before)  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.stderr = before


def _file_of_stderr() -> str:
    try:
        return str(Path("/proc/self/fd/2").readlink())
    except OSError:
        return "stderr"


def _set_up(handler: logging.Handler) -> None:
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False


def _explain(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        log.error("%s", INTERRUPTED_LINE)
        return
    sentence = str(error) if isinstance(error, EbbtideError) else f"{kind.__name__}: {error}"
    log.error("%s", "".join(traceback.format_exception(kind, error, trace)))
    log.error("%s", sentence)
    print(sentence, file=sys.stderr)


class Progress:
    """Progress of a long job: lines on the terminal, and fewer in the log.

    The terminal is that of the run that planned this job (see `share_terminal`), or stderr.
    """

    def __init__(self) -> None:
        started = time.monotonic()
        self._logged, self._printed = started, started
        self._terminal = _terminal()

    def show(self, text: str, on_terminal: Callable[[], str | None] | None = None) -> None:
        """Report `text`, unless the previous line was reported too recently.

        `on_terminal` returns another text for the terminal, or None to leave that to another job.
        """
        now = time.monotonic()
        if self._terminal and now - self._printed >= TERMINAL_SECONDS:
            shown = on_terminal() if on_terminal else text
            if shown is not None:
                self.tell(shown)
            self._printed = now
        if now - self._logged >= QUIET_SECONDS:
            log.info("%s", text)
            self._logged = now

    def tell(self, text: str) -> None:
        """Print `text` on the terminal at once, if there is one."""
        if self._terminal:
            with suppress(OSError), self._terminal.open("a", encoding="utf-8") as terminal:
                print(text, file=terminal)

    def done(self, text: str) -> None:
        """Log the final message."""
        log.info("%s", text)


def duration(seconds: float) -> str:
    """Return a length of time in at most two units: `12 s`, `3 min`, `2 h 5 min`, `4 d 1 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 36:
        return f"{hours} h {minutes} min"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days} d {hours} h"


def cause_in(path: str | Path) -> str | None:
    """Return the error with which a log ends, or the cause it names before; None for a log without one.

    A job that Ctrl-C ended is no error, but `INTERRUPTED_LINE` is its cause.
    Logs of Slurm contain the cause (time limit, out of memory, cancelled) in a line of the node's daemon.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
    except OSError:  # the log is missing, or not yet visible on a network file system
        return None
    if slurm := [match for line in lines if (match := _SLURM.match(line))]:
        # A daemon knows the reason; `srun` prints how the step ended.
        return max(slurm, key=lambda match: match[1] == "slurmstepd")[2].strip("* ")
    if lines and lines[-1].split(" ", 1)[-1] == INTERRUPTED_LINE:  # a script writes the time before it
        return INTERRUPTED_LINE
    found = [(line, match[2]) for line in lines if (match := _ERROR.match(line))]
    if not found or found[-1][0] != lines[-1]:
        return None
    named_before = found[-1][1].endswith(ABOVE) and len(found) > 1
    return found[-2 if named_before else -1][1]


def share_terminal() -> None:
    """Make the jobs of this process report progress on its terminal, because their stderr is a log file."""
    if sys.stderr.isatty():
        os.environ.setdefault(_TERMINAL, f"{socket.gethostname()}:{os.ttyname(sys.stderr.fileno())}")


def _terminal() -> Path | None:
    """Return the terminal for progress lines, if it is on this machine."""
    host, _, path = os.environ.get(_TERMINAL, "").partition(":")
    if path and host == socket.gethostname():
        return Path(path)
    return Path(os.ttyname(sys.stderr.fileno())) if sys.stderr.isatty() else None
