"""HTTP for all downloads: https only, bounded retries, resumed bodies, a token for one host.

The callers `sources` (pinned files) and `checkpoints.hub.client` (repositories) turn `TransportError` into
their own messages. httpx2 handles proxies and certificates. It is imported with the first request, because
parsing a workflow imports `sources`.
"""

import math
import os
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ebbtide.logs import log

if TYPE_CHECKING:
    from httpx2 import Client, Request, Response

T = TypeVar("T")

BACKOFF = float(os.environ.get("EBBTIDE_BACKOFF", "1"))  # factor of the waits; tests take a small one
# Seconds before the second attempt, the third attempt, …
WAITS = tuple(BACKOFF * seconds for seconds in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0))
STALL_LIMIT = 120.0  # seconds of attempts and waits without progress before giving up
RATE_WINDOW = 310.0  # seconds; a hub limits requests per five minutes and reports when the next window begins
MAX_RATE_WINDOWS = 10  # most rate-limit windows that one request waits for
TIMEOUT = 30.0  # seconds without a byte
PROGRESS_BYTES = 1 << 20  # bytes; an attempt that received this many resets the waits
MAX_READ_BYTES = 32 << 20  # bytes; limit of `read`, which keeps the body in memory
MAX_REDIRECTS = 10

_RANGE = re.compile(r"bytes (?:(?P<start>[0-9]{1,18})-[0-9]{1,18}|\*)/(?:(?P<total>[0-9]{1,18})|\*)")


class TransportError(Exception):
    """A request failed. The message is the reason, without the token and the query of the URL.

    Attributes
    ----------
    retryable
        Whether another attempt may succeed.
    wait
        Seconds to wait as requested by the server, or 0.
    status
        HTTP status, or 0.
    code
        The hub's error code, or empty.
    """

    def __init__(
        self, reason: str, *, retryable: bool = False, wait: float = 0.0, status: int = 0, code: str = ""
    ) -> None:
        super().__init__(reason + (f" (asked to wait {wait:.0f} s)" if wait else ""))
        self.retryable = retryable
        self.wait = wait
        self.status = status
        self.code = code


class SizeError(TransportError):
    """The server has a file of another size than expected. Another attempt would not help."""


class Page(NamedTuple):
    """One page of a listing: its body, the URL of the next page, and the path that answered in the end."""

    body: bytes
    following: str | None
    path: str


class Transport:
    """Requests with retries.

    Broken connections, incomplete bodies and the statuses 408, 429 and 5xx are retried after `waits`
    (seconds), or as long as the server requests, within `STALL_LIMIT`. Other failures are final. `plain_http`
    also allows http://. `sleep` is for tests.
    """

    def __init__(
        self,
        *,
        plain_http: bool = False,
        waits: Sequence[float] = WAITS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._schemes = ("https", "http") if plain_http else ("https",)
        self._waits = tuple(waits)
        self._sleep = sleep

    def save(
        self,
        url: str,
        part: Path,
        token: str | None = None,
        what: object = None,
        received: Callable[[int], None] = lambda size: None,
        *,
        size: int | None = None,
    ) -> None:
        """Download `url` to the file `part`, resuming after the bytes that it contains.

        `what` replaces the URL in the log. `received` is called repeatedly with the number of bytes on disk.
        `size` is the expected number of bytes: no byte beyond it is written, and a server that announces or
        sends another number raises `SizeError`, after `part` is deleted. Errors of the disk (`OSError`) are
        not caught.
        """

        def attempt() -> None:
            if size is not None and _size(part) > size:
                part.unlink()
            offset = _size(part)
            if offset and offset == size:
                return
            headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
            try:
                with self.open(url, token, headers) as response:
                    _append(response, part, offset, received, size)
            except SizeError:
                part.unlink(missing_ok=True)
                raise

        self.retry(what or url, attempt, progress=lambda: _size(part))

    def read(
        self, url: str, token: str | None = None, what: object = None, most: int = MAX_READ_BYTES
    ) -> bytes:
        """Return the body at `url`, cut off after little more than `most` bytes."""

        def attempt() -> bytes:
            data = bytearray()
            with self.open(url, token, {"Accept-Encoding": "identity"}) as response:
                for piece in response.iter_bytes():
                    data += piece
                    if len(data) > most:
                        break
            return bytes(data)

        return self.retry(what or url, attempt)

    def retry(self, what: object, attempt: Callable[[], T], progress: Callable[[], int] = lambda: 0) -> T:
        """Call `attempt` until it returns, or until the waits or `STALL_LIMIT` are used up.

        Both are reset when `progress` (bytes) has increased.
        """
        tries, spent, reached, windows = 0, 0.0, progress(), 0
        while True:
            started = time.monotonic()
            try:
                return attempt()
            except TransportError as error:
                if not error.retryable:
                    raise
                failure = error
            if self._waits and STALL_LIMIT / 4 < failure.wait <= RATE_WINDOW and windows < MAX_RATE_WINDOWS:
                windows += 1
                log.info("%s: %s; waiting for it", what, failure)
                self._sleep(failure.wait)
                continue
            tries, spent = tries + 1, spent + time.monotonic() - started
            if progress() - reached >= PROGRESS_BYTES:
                tries, spent, reached = 1, 0.0, progress()
            wait = max(self._waits[tries - 1], failure.wait) if tries <= len(self._waits) else math.inf
            if spent + wait > STALL_LIMIT:
                after = f" after {tries} tries" if tries > 1 else ""
                raise TransportError(f"{failure}{after}", retryable=True, status=failure.status)
            log.info("%s: %s; retrying in %.0f s", what, failure, wait)
            self._sleep(wait)
            spent += wait

    def page(self, url: str, token: str | None = None, what: object = None) -> "Page":
        """Return one page of a listing. Raises `TransportError` if it has more than `MAX_READ_BYTES`."""

        def attempt() -> Page:
            data = bytearray()
            with self.open(url, token) as response:
                for piece in response.iter_bytes():
                    data += piece
                    if len(data) > MAX_READ_BYTES:
                        raise TransportError(f"the answer has more than {MAX_READ_BYTES:,} bytes")
                following = [
                    link.get("url", "")
                    for link in response.links.values()
                    if "next" in link.get("rel", "").lower().split()
                ]
                return Page(bytes(data), following[0] if following else None, response.url.path)

        return self.retry(what or url, attempt)

    @contextmanager
    def open(
        self, url: str, token: str | None, headers: Mapping[str, str] | None = None
    ) -> Iterator["Response"]:
        """Yield the response to one request, with a status below 400 (or 416 for a range) and an unread body.

        `token` is sent only to the host of `url`. Raises `TransportError`, also for failures while the body
        is read.
        """
        import httpx2

        sent = {"User-Agent": "ebbtide", **(headers or {})}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        try:
            response = self._send(client().build_request("GET", url, headers=sent, timeout=TIMEOUT))
            try:
                if response.status_code >= 400 and not (response.status_code == 416 and "Range" in sent):
                    raise _status_error(response)
                yield response
            finally:
                response.close()
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise _connection_error(error) from None

    def _send(self, request: "Request") -> "Response":
        """Return the response after all redirects; the client drops the token for another host."""
        for _ in range(MAX_REDIRECTS):
            if request.url.scheme not in self._schemes:
                raise TransportError(f"it leads to {_origin(request)}; only https is allowed")
            response = client().send(request, stream=True)
            if response.next_request is None:
                return response
            response.close()
            request = response.next_request
        raise TransportError(f"more than {MAX_REDIRECTS} redirects")


@cache
def client() -> "Client":
    """Return the client of the process, which keeps connections open."""
    import httpx2

    return httpx2.Client()


def _append(
    response: "Response", part: Path, offset: int, received: Callable[[int], None], size: int | None
) -> None:
    """Append the body after `offset` bytes, or write a new file if the server ignores the range."""
    match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    total = int(match["total"]) if match and match["total"] else None
    if response.status_code == 416 and total == offset and size is None:  # the file was already complete
        return
    if response.status_code == 200:  # the whole file, even if a range was requested
        mode, total = "wb", _content_length(response)
        if size is not None and total not in (None, size):
            raise SizeError(f"found {total} bytes, expected {size}")
    elif (
        response.status_code == 206
        and match
        and match["start"] == str(offset)
        and (size is None or total in (None, size))
    ):
        mode = "ab"
    else:  # start again without a range
        part.unlink(missing_ok=True)
        raise TransportError(
            f"found no range from byte {offset} (HTTP {response.status_code})", retryable=True
        )
    with part.open(mode) as file:
        for piece in response.iter_bytes():
            if size is not None and file.tell() + len(piece) > size:
                raise SizeError(f"found more than the expected {size} bytes")
            file.write(piece)
            received(file.tell())
        found = file.tell()
    expected = size if size is not None else total
    if expected is not None and found != expected:
        raise TransportError(f"the body ended after {found} of {expected} bytes", retryable=True)


def _content_length(response: "Response") -> int | None:
    """Return the announced bytes of a body that is not encoded, or None."""
    length = response.headers.get("Content-Length", "")
    encoded = response.headers.get("Content-Encoding", "identity") != "identity"
    return int(length) if re.fullmatch(r"[0-9]{1,18}", length) and not encoded else None


def _status_error(response: "Response") -> TransportError:
    """Return the error for a status of 400 or above."""
    status, code = response.status_code, response.headers.get("X-Error-Code", "")
    if status in (408, 429) or status >= 500:
        return TransportError(
            f"HTTP {status}", retryable=True, wait=_retry_after(response.headers), status=status
        )
    return TransportError(f"HTTP {status}", status=status, code=code)


def _retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds to wait, from `RateLimit` (the rest of its window) or `Retry-After`."""
    window = re.search(r"\br=0\b.*?\bt=(\d+)", headers.get("RateLimit", ""))
    after = window[1] if window else headers.get("Retry-After", "").strip()
    if after.isdecimal():
        return float(after)
    try:
        return max(0.0, (parsedate_to_datetime(after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):  # not a date, or one without a time zone
        return 0.0


def _connection_error(error: Exception) -> TransportError:
    """Return the error for a failed connection. An unknown host or an invalid certificate is final."""
    import httpx2

    text = str(error).rstrip(".") or type(error).__name__
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.ProxyError):
        text = f"cannot connect to {_origin(error.request)} ({text})"
    passing = isinstance(error, httpx2.TransportError) and not isinstance(error, httpx2.UnsupportedProtocol)
    return TransportError(text, retryable=passing and not any(map(_is_final, _causes(error))))


def _is_final(cause: BaseException) -> bool:
    """Whether a host is unknown (without a network: any host), or a certificate is invalid."""
    unknown = isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME
    return unknown or isinstance(cause, ssl.SSLCertVerificationError)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its chain of causes and contexts, because the client does not name each cause."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _origin(request: "Request") -> str:
    return f"{request.url.scheme}://{request.url.netloc.decode()}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
