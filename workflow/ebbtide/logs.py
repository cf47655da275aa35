"""Logging of jobs: a log file, a terminal, and errors as sentences.

A progress line that repeats (checkpoint i of n) goes to the terminal of the run every few seconds, and
at most once per `QUIET_SECONDS` to a log file.
"""

import logging
import os
import re
import socket
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from ebbtide.errors import EbbtideError

log = logging.getLogger("ebbtide")
QUIET_SECONDS = 30.0
TERMINAL_SECONDS = 3.0
_TERMINAL = "EBBTIDE_TERMINAL"  # host:device, so that a job on another machine does not write to a stranger's


def log_to_stderr() -> None:
    """Send the package's log to stderr (a verb of the command line; rules redirect it to their log file)."""
    _set_up(logging.StreamHandler(sys.stderr))


def log_to(path: str) -> None:
    """Send the package's log and any uncaught error to `path` (a rule's script).

    The traceback of an uncaught error goes to the file; its sentence is the file's last line and is
    repeated on stderr, where Snakemake shows it.
    """
    _set_up(logging.FileHandler(path, mode="w", encoding="utf-8"))
    sys.excepthook = _explain


def _set_up(handler: logging.Handler) -> None:
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False


def _explain(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sentence = str(error) if isinstance(error, EbbtideError) else f"{kind.__name__}: {error}"
    log.error("%s", "".join(traceback.format_exception(kind, error, trace)))
    log.error("%s", sentence)
    print(sentence, file=sys.stderr)


class Progress:
    """Lines that say how far a long job is: every few seconds on a terminal, sparse in the log.

    The terminal is that of the run that planned this job (see `share_terminal`), or stderr.
    """

    def __init__(self) -> None:
        started = time.monotonic()
        self._logged, self._shown = started, started
        self._terminal = _terminal()

    def show(self, text: str) -> None:
        """Show `text`, unless the last line is too young."""
        now = time.monotonic()
        if self._terminal and now - self._shown >= TERMINAL_SECONDS:
            with suppress(OSError), self._terminal.open("a", encoding="utf-8") as terminal:
                print(text, file=terminal)
            self._shown = now
        if now - self._logged >= QUIET_SECONDS:
            log.info("%s", text)
            self._logged = now

    def done(self, text: str) -> None:
        """The final message, always in the log."""
        log.info("%s", text)


def last_words(directory: str | Path, since: float) -> list[str]:
    """Why jobs failed: the last line of each log that ends in an error, written after `since` (Unix time)."""
    words = []
    for path in sorted(Path(directory).rglob("*.log")):
        if path.stat().st_mtime < since:
            continue
        lines = path.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
        if lines and re.match(r"(\d\d:\d\d:\d\d )?\w*(Error|Exception): ", lines[-1]):
            words.append(f"{path}: {lines[-1]}")
    return words


def share_terminal() -> None:
    """Let the jobs of this process show their progress on its terminal; their stderr is a log file."""
    if sys.stderr.isatty():
        os.environ.setdefault(_TERMINAL, f"{socket.gethostname()}:{os.ttyname(sys.stderr.fileno())}")


def _terminal() -> Path | None:
    """The terminal to show progress on, if there is one on this machine."""
    host, _, path = os.environ.get(_TERMINAL, "").partition(":")
    if path and host == socket.gethostname():
        return Path(path)
    return Path(os.ttyname(sys.stderr.fileno())) if sys.stderr.isatty() else None
