"""Error messages for failed requests to a hub."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ebbtide.errors import CheckpointError, type_and_reason
from ebbtide.sources import hub_token
from ebbtide.transport import SizeError, TransportError

RUN_AGAIN = "run the same command again; it resumes"


class HubRequest(NamedTuple):
    """The subject of a request, for messages."""

    endpoint: str
    repo: str
    what: str
    commit: str | None

    def __str__(self) -> str:
        return f"{self.page}, {self.what}" + (f" of commit {self.commit[:12]}" if self.commit else "")

    @property
    def page(self) -> str:
        """Web page of the repository."""
        return f"{self.endpoint}/{self.repo}"


@contextmanager
def bad_answer_explained(request: HubRequest) -> Iterator[None]:
    """Report errors in parsing an answer, such as a login page or that of a wrong HF_ENDPOINT."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = type_and_reason(error)
        token = hub_token()
        raise CheckpointError(
            f"{request}: the answer is not from a hub ({reason.replace(token, '…') if token else reason}); "
            "check HF_ENDPOINT, proxies and the network."
        ) from None


def refusal(error: TransportError, request: HubRequest, *, authorized: bool) -> CheckpointError:
    """The error for a failed request, by the hub's error code if there is one, else by the HTTP status."""
    status, code = error.status, error.code
    whose = "the account of the token in use" if authorized else "an account and set HF_TOKEN to its token"
    if isinstance(error, SizeError):
        reason = f"{error}, so the download was stopped and deleted; check proxies and HF_ENDPOINT, "
        reason += "and restore the lockfile if it was edited"
    elif error.retryable:
        reason = f"{error}; {RUN_AGAIN}"
    elif not status:
        reason = f"{error}; check the network, proxies and HF_ENDPOINT"
    elif code == "GatedRepo":
        reason = f"the repository is gated (HTTP {status}); accept its licence at {request.page} with {whose}"
    elif code == "RepoNotFound":
        reason = f"the repository does not exist, or is private or gated (HTTP {status}); "
        reason += f"check the name, or ask for access at {request.page} with {whose}"
    elif code == "RevisionNotFound":
        reason = f"the hub has no such revision, or no longer (HTTP {status}); "
        reason += "leave this step out, or take the present commit of its branch: "
        reason += "ebbtide lock --study FILE --follow MODEL/CHECKPOINT"
    elif code == "EntryNotFound":
        reason = f"no such file in this revision (HTTP {status}); check HF_ENDPOINT, or take the present "
        reason += "commit of its branch: ebbtide lock --study FILE --follow MODEL/CHECKPOINT"
    elif status == 401 and authorized:
        reason = "the token from HF_TOKEN or the login file is invalid (HTTP 401); replace it"
    elif status in (401, 403):
        reason = f"access is denied (HTTP {status}); ask for it at {request.page} with {whose}"
    else:
        reason = f"HTTP {status}; check HF_ENDPOINT, and the repository at {request.page}"
    return CheckpointError(f"{request}: {reason}.")
