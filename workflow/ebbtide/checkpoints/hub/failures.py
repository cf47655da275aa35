"""What a failed request to a hub means, as a sentence for the user."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ebbtide.errors import CheckpointError
from ebbtide.transport import TransportError

AGAIN = "run the same command again: what was fetched is kept"


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


def refusal(error: TransportError, asked: Asked, *, authorized: bool) -> CheckpointError:
    """What a failed request means, by the hub's own code for it where it gives one."""
    status, code = error.status, error.code
    whose = "the account of the token in use" if authorized else "an account and set HF_TOKEN to its token"
    if error.again:
        reason = f"{error}; {AGAIN}"
    elif not status:
        reason = f"{error}; check the network, proxies and HF_ENDPOINT"
    elif code == "GatedRepo":
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
