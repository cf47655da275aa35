"""Put on PYTHONPATH: processes that score cannot open a connection, and a log says so."""

import os
import socket
import sys

_SCORING = {"ebbtide.jobs.worker", "score"}

if _SCORING & set(sys.orig_argv) and "GUARD_LOG" in os.environ:

    def _note(what: str) -> None:
        with open(os.environ["GUARD_LOG"], "a", encoding="utf-8") as log:  # noqa: PTH123
            log.write(f"{what} {' '.join(sys.orig_argv[1:3])}\n")

    def _refuse(*arguments: object, **_: object) -> None:
        _note("blocked")
        raise OSError("this process must not use the network")

    _note("guarded")
    socket.socket.connect = _refuse  # type: ignore[assignment,method-assign]
    socket.socket.connect_ex = _refuse  # type: ignore[assignment,method-assign]
    socket.getaddrinfo = _refuse  # type: ignore[assignment]
