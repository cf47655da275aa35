"""Downloads over https and nothing else: bounded retries, whole bodies, a token for one host only.

Standard library only. `ebbtide.sources.fetch` uses it and checks the content.
"""

import http.client
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from time import sleep
from typing import IO, Never, TypeVar
from urllib.parse import urlsplit

from ebbtide.logs import log

T = TypeVar("T")

WAITS = (1.0, 3.0, 9.0)  # seconds before the second, third and fourth attempt
LONGEST_WAIT = 60.0  # seconds; a server may ask for more in Retry-After
TIMEOUT = 60.0  # seconds without a byte


class DownloadError(Exception):
    """A download failed. Its text is the reason, without URL and token."""

    def __init__(
        self, reason: str, *, again: bool = False, wait: float = 0.0, status: int | None = None
    ) -> None:
        """`again`: another attempt may succeed; `wait`: seconds the server asks for; `status`: of HTTP."""
        super().__init__(reason)
        self.again = again
        self.wait = wait
        self.status = status


def download(
    url: str,
    write: Callable[[Iterator[bytes]], T],
    token: str | None = None,
    opener: urllib.request.OpenerDirector | None = None,
) -> T:
    """Hand the body at `url` to `write`, in chunks, and return what it returns.

    Connection errors, bodies cut short and the statuses 429 and 5xx are tried again, `len(WAITS)` times;
    then `write` is called anew, with the new body from its start. `token` goes to the host of `url` only.
    Raises DownloadError; errors of `write` itself pass through.
    """
    opener = opener or build_opener()
    request = urllib.request.Request(url, headers={"User-Agent": "ebbtide"})
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    for pause in WAITS:
        try:
            return write(_body(request, opener))
        except DownloadError as error:
            if not error.again:
                raise
            seconds = min(max(pause, error.wait), LONGEST_WAIT)
            log.info("%s: %s; trying again in %.0f s", url, error, seconds)
            sleep(seconds)
    try:
        return write(_body(request, opener))
    except DownloadError as error:
        if error.again:
            raise DownloadError(f"{error}, {len(WAITS) + 1} attempts", status=error.status) from error
        raise


def build_opener(plain: urllib.request.BaseHandler | None = None) -> urllib.request.OpenerDirector:
    """An opener for https, through the environment's proxies, and for no other scheme.

    `plain` handles ``http://`` instead of the handler that refuses it: for tests with a loopback server.
    """
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirect(),
        plain or _RefusePlainHttp(),
    ):
        opener.add_handler(handler)
    return opener


class _RefusePlainHttp(urllib.request.BaseHandler):
    """Stands where the http handler would, so that neither a URL nor a redirect leaves https."""

    def http_open(self, request: urllib.request.Request) -> Never:
        raise DownloadError(f"it leads to http://{request.host}; only https is allowed")


class _Redirect(urllib.request.HTTPRedirectHandler):
    """Follows redirects; credentials stay with the host they are meant for."""

    def redirect_request(  # noqa: PLR0917  (the base class has this signature)
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        new = super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
        if new is not None and urlsplit(newurl)[:2] != urlsplit(req.full_url)[:2]:  # scheme, host and port
            new.remove_header("Authorization")
            new.remove_header("Proxy-authorization")  # a proxy on the way to the new host sets it again
        return new


def _body(request: urllib.request.Request, opener: urllib.request.OpenerDirector) -> Iterator[bytes]:
    """The body in chunks. What the consumer raises while it holds a chunk is not caught here."""
    received = 0
    try:
        with opener.open(request, timeout=TIMEOUT) as response:
            length = response.headers.get("Content-Length")
            while chunk := response.read(1 << 20):
                received += len(chunk)
                yield chunk
    except urllib.error.HTTPError as error:
        error.close()
        again = error.code == HTTPStatus.TOO_MANY_REQUESTS or error.code >= 500
        wait = _retry_after(error.headers)
        reason = f"HTTP status {error.code}"
        raise DownloadError(reason, again=again, wait=wait, status=error.code) from error
    except (OSError, http.client.HTTPException) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        raise DownloadError(str(cause) or type(cause).__name__, again=not _is_final(cause)) from error
    if length is not None and received != int(length):  # http.client ends a short body without an error
        raise DownloadError(f"the body ended after {received} of {length} bytes", again=True)


def _is_final(cause: object) -> bool:
    """A certificate that does not hold, or a host that does not exist: on a machine without network, all."""
    unknown = isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME
    return unknown or isinstance(cause, ssl.SSLCertVerificationError)


def _retry_after(headers: Message) -> float:
    """Seconds the server asks to wait, given as a number or a date; 0 when it does not say."""
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0
