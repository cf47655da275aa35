"""A web server on the loopback that stands for the hub."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import constants

from ebbtide import transport


@contextmanager
def serving(
    monkeypatch: pytest.MonkeyPatch, reply: Callable[[BaseHTTPRequestHandler], None]
) -> Iterator[int]:
    """The port of a server that answers GET by `reply`; it is the hub, without a proxy and a token."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            reply(self)

        def log_message(self, *_: object) -> None:
            pass

    forget = transport.client.cache_clear  # the client keeps the proxies that it was made with
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{http.server_port}/")
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nonexistent")
    forget()
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield http.server_port
    forget()
    http.shutdown()
    thread.join()
    http.server_close()
