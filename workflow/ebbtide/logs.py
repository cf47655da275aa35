"""Logging of jobs: a log file, a terminal, and errors as sentences.

A progress line that repeats (checkpoint i of n) is rewritten in place on a terminal and
written at most once per `QUIET_SECONDS` to a file.
"""

import logging
import sys
import time
import traceback
from types import TracebackType

from ebbtide.errors import EbbtideError

log = logging.getLogger("ebbtide")
QUIET_SECONDS = 30.0


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
    """A line that says how far a long job is; rewritten on a terminal, sparse in a file."""

    def __init__(self) -> None:
        self._last = 0.0
        self._terminal = sys.stderr.isatty()

    def show(self, text: str) -> None:
        """Show `text` now on a terminal; in a file, only if the last line is old enough."""
        now = time.monotonic()
        if self._terminal:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
        elif now - self._last >= QUIET_SECONDS:
            log.info("%s", text)
            self._last = now

    def done(self, text: str) -> None:
        """End the line with a final message, always written."""
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr)
        log.info("%s", text)
