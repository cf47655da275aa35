"""What a failed request means: worth another attempt, or a sentence for the user."""

import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from ebbtide.errors import CheckpointError

if TYPE_CHECKING:
    from httpx2 import Response


class Asked(NamedTuple):
    """What a request is about, as messages say it."""

    endpoint: str
    repo: str
    what: str
    commit: str | None

    def __str__(self) -> str:
        return f"{self.page}, {self.what}" + (f" of commit {self.commit[:12]}" if self.commit else "")

    @property
    def page(self) -> str:
        """Where the repository shows itself to people."""
        return f"{self.endpoint}/{self.repo}"


class TransientError(Exception):
    """Another attempt may succeed; the text is the reason, `wait` the seconds that the hub asks for."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason + (f" (asked to wait {wait:.0f} s)" if wait else ""))
        self.wait = wait


@contextmanager
def understood(asked: Asked) -> Iterator[None]:
    """What goes wrong within is an answer that no hub gives: a network's login page, a wrong HF_ENDPOINT."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{asked}: the answer is not that of a hub ({type(error).__name__}: {error}); check HF_ENDPOINT, "
            "proxies and the network."
        ) from None


def refusal(response: "Response", asked: Asked, *, authorized: bool) -> Exception:
    """What a status of 400 or above means, by the hub's own code for it where it gives one."""
    status, code = response.status_code, response.headers.get("X-Error-Code")
    if status in (408, 429) or status >= 500:
        return TransientError(f"HTTP {status}", _asked_to_wait(response.headers))
    whose = "the account of the token in use" if authorized else "an account and set HF_TOKEN to its token"
    if code == "GatedRepo":
        reason = f"the repository is gated (HTTP {status}); accept its licence at {asked.page} with {whose}"
    elif code == "RepoNotFound":
        reason = f"no such repository, or a private or gated one (HTTP {status}); check the name, or ask for "
        reason += f"access at {asked.page} with {whose}"
    elif code == "RevisionNotFound":
        reason = f"no such revision (HTTP {status}); it may have been removed: lock the study again"
    elif code == "EntryNotFound":
        reason = f"no such file in this revision (HTTP {status}); lock the study again"
    elif status == 401 and authorized:
        reason = "the token of HF_TOKEN or of the login file is refused (HTTP 401); set it anew"
    elif status in (401, 403):
        reason = f"access is refused (HTTP {status}); ask for it at {asked.page} with {whose}"
    else:
        reason = f"HTTP {status}; check HF_ENDPOINT, and the repository at {asked.page}"
    return CheckpointError(f"{asked}: {reason}.")


def _asked_to_wait(headers: Mapping[str, str]) -> float:
    """Seconds until the next request is welcome: of `RateLimit` (the rest of its window) or `Retry-After`."""
    window = re.search(r"\br=0\b.*?\bt=(\d+)", headers.get("RateLimit", ""))
    after = headers.get("Retry-After", "").strip()
    return float(window[1] if window else after if after.isdecimal() else 0)


def broken(error: Exception, asked: Asked) -> Exception:
    """What a failure of the connection means; an unknown host and a false certificate are final."""
    import httpx2

    causes = list(_causes(error))
    text = str(error).rstrip(".") or type(error).__name__
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.ProxyError):
        text = f"cannot connect to {asked.endpoint} ({text})"
    unknown = any(isinstance(c, socket.gaierror) and c.errno == socket.EAI_NONAME for c in causes)
    if unknown or any(isinstance(c, ssl.SSLCertVerificationError) for c in causes):
        return CheckpointError(f"{asked}: {text}; check the network, proxies and HF_ENDPOINT.")
    if isinstance(error, httpx2.TransportError) and not isinstance(error, httpx2.UnsupportedProtocol):
        return TransientError(text)
    return CheckpointError(f"{asked}: {text}; check HF_ENDPOINT and proxies.")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it was raised from or while handling, and so on: the client does not name each cause."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
