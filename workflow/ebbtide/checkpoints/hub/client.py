"""Client of the Hugging Face Hub: lists revisions and files, and downloads files.

The library huggingface_hub provides the token and the offline mode. The requests are made here, for three
reasons (huggingface_hub 2.4):

* `list_repo_refs` neither retries nor times out.
* The other methods wait as long as a `Retry-After` header says, without a limit.
* `hf_hub_download` discards the partial file of a killed run. For the same reason, files in Xet storage are
  downloaded over plain HTTP, which the hub offers for each of them.
"""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urlsplit

from ebbtide.checkpoints.hub.digests import digest_of_bytes, kind_of
from ebbtide.checkpoints.hub.failures import HubRequest, bad_answer_explained, refusal
from ebbtide.checkpoints.hub.lock import day_of, is_plain
from ebbtide.errors import CheckpointError
from ebbtide.sources import hub_endpoint, hub_token
from ebbtide.transport import MAX_READ_BYTES, WAITS, Transport, TransportError

T = TypeVar("T")

MAX_PAGES = 1000  # per listing
MAX_LISTING_BYTES = 256 << 20  # bytes of all pages of a listing, which are kept in memory
MAX_FILE_BYTES = 1 << 50  # bytes; a larger size is not that of a file

_ENDPOINT = re.compile(r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\])(:\d+)?(/[A-Za-z0-9._~/-]*)?")
_REPO = re.compile(r"(?!\.{1,2}(/|$))[A-Za-z0-9._-]+(/(?!\.{1,2}$)[A-Za-z0-9._-]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LEAVES = re.compile(
    r".*([/\\]|\.\.).*|-.*|\.?", re.DOTALL
)  # could escape its directory, or be read as an option
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|git:[0-9a-f]{40}")
_REF = re.compile(r"[^\x00-\x20\x7f~^:?*\[\\]{1,255}")  # git allows no other names


class Described(Protocol):
    """A file of a listing or a lock."""

    @property
    def digest(self) -> str: ...  # noqa: D102
    @property
    def size(self) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class HubFile:
    """A file of the top directory: size in bytes, digest (`sha256:…` or `git:…`), date of its last commit.

    The date is YYYY-MM-DD, or empty if unknown.
    """

    name: str
    size: int
    digest: str
    date: str = ""


class Hub:
    """The hub at `HF_ENDPOINT`, by default the public one.

    Every method raises `CheckpointError` with the request, the failure and the remedy. Broken connections and
    the statuses 408, 429 and 5xx are retried after `waits` (seconds) or the time that the hub requests,
    within `STALL_LIMIT`. All other failures are final. `sleep` is for tests.
    """

    def __init__(self, waits: Sequence[float] = WAITS, sleep: Callable[[float], None] = time.sleep) -> None:
        self.endpoint = hub_endpoint()
        if not _ENDPOINT.fullmatch(self.endpoint):
            raise CheckpointError(
                f"HF_ENDPOINT: found {self.endpoint!r}; allowed: https://host or http://host."
            )
        plain_http = self.endpoint.startswith("http:")
        self._transport = Transport(plain_http=plain_http, waits=waits, sleep=sleep)
        self._names: dict[str, str] = {}  # of repositories that were renamed

    def refs(self, repo: str) -> dict[str, str]:
        """Branches and tags with their commits (40 hex digits). A branch hides a tag of the same name."""
        request = self._request(repo, "branches and tags")
        found: dict[str, dict[str, str]] = {"tags": {}, "branches": {}}
        with bad_answer_explained(request):
            for number, page in enumerate(self._pages(f"api/models/{repo}/refs", request)):
                for kind, refs in found.items():
                    for ref in page[kind] if number == 0 else page.get(kind, ()):
                        _put(refs, _ref_name(ref["name"]), _commit(ref["targetCommit"], ref["name"]))
        return found["tags"] | found["branches"]

    def files(self, repo: str, commit: str) -> list[HubFile]:
        """Files of the top directory, sorted by name. Folders and unusual file names are skipped.

        Raises `CheckpointError` for a name that could escape the directory.
        """
        request = self._request(repo, "list of files", commit)
        found: dict[str, HubFile] = {}
        with bad_answer_explained(request):
            path = f"api/models/{repo}/tree/{commit}"
            for page in self._pages(path, request, "recursive=false&expand=true"):
                for entry in page:
                    if entry["type"] != "file":
                        continue
                    name = entry["path"]
                    if is_plain(name):
                        _put(found, name, _file(entry))
                    elif _LEAVES.fullmatch(name):
                        raise CheckpointError(
                            f"{request}: the listing contains the file name {name[:80]!r}, which could be "
                            "written outside its directory; report it to the hub and use another repository."
                        )
        return sorted(found.values(), key=lambda file: file.name)

    def has(self, repo: str, commit: str) -> bool:
        """Whether the hub still has a commit; some remain when their branch is moved or deleted."""
        request = self._request(repo, "list of files", commit)
        token = _token_for(request)
        try:
            self._transport.page(f"{self.endpoint}/api/models/{repo}/tree/{commit}", token, request)
        except TransportError as error:
            if error.status == 404 and error.code != "RepoNotFound":
                return False
            raise refusal(error, request, authorized=bool(token)) from None
        return True

    def renamed(self, repo: str) -> str | None:
        """The present name of a repository, if one of its listings was answered under another name."""
        return self._names.get(repo)

    def read(self, repo: str, commit: str, name: str, file: Described) -> bytes:
        """The bytes of a small file (at most 32 MiB), checked against its digest."""
        request = self._file_request(repo, name, commit)
        if file.size > MAX_READ_BYTES:
            raise CheckpointError(
                f"{request}: found {file.size} bytes, allowed: at most {MAX_READ_BYTES}; use another "
                "repository."
            )
        with _token(request) as token:
            data = self._transport.read(self._url(request), token, request, most=file.size)
        found = digest_of_bytes(data, kind_of(file.digest))
        if found != file.digest:
            more = "more than " if len(data) > file.size else ""
            raise CheckpointError(
                f"{request}: found {found} ({more}{len(data)} bytes), expected {file.digest} ({file.size} "
                "bytes); run the same command again. If that does not help, check proxies and HF_ENDPOINT."
            )
        return data

    def download(
        self,
        repo: str,
        commit: str,
        name: str,
        directory: Path,
        received: Callable[[int], None] = lambda size: None,
        *,
        size: int | None = None,
    ) -> Path:
        """Fetch a file to `directory/name` and return that path; the caller checks the digest.

        No byte beyond `size`, the size in the lock, is written. A hub that announces or sends another size is
        an error, and the file is deleted.

        The file appears when it is complete. Until then it is `.{name}.{commit}.part`, which the next call
        resumes, in this process or a later one. Only one process may download to a directory at a time.
        `received` is called repeatedly with the number of bytes on disk. Disk errors (`OSError`) are not
        caught.
        """
        request = self._file_request(repo, name, commit)
        directory.mkdir(parents=True, exist_ok=True)
        part = directory / f".{name}.{commit[:12]}.part"
        for other in directory.glob(f".{name}.{'[0-9a-f]' * 12}.part"):
            if other != part or other.is_symlink():  # of another commit; links are never followed
                other.unlink()
        with _token(request) as token:
            self._transport.save(self._url(request), part, token, request, received, size=size)
        return part.replace(directory / name)

    def _request(self, repo: str, what: str, commit: str | None = None) -> HubRequest:
        if not _REPO.fullmatch(repo):
            raise CheckpointError(f"{repo!r} is not the name of a repository; allowed: owner/name.")
        if commit is not None and not _COMMIT.fullmatch(commit):
            raise CheckpointError(
                f"{repo}: {commit!r} is not a commit of 40 hex digits; restore the lockfile."
            )
        return HubRequest(self.endpoint, repo, what, commit)

    def _file_request(self, repo: str, name: str, commit: str) -> HubRequest:
        if not is_plain(name):
            raise CheckpointError(f"{repo}: {name!r} is not the name of a file in the top directory.")
        return self._request(repo, name, commit)

    def _url(self, request: HubRequest) -> str:
        return f"{self.endpoint}/{request.repo}/resolve/{request.commit}/{quote(request.what)}"

    def _pages(self, path: str, request: HubRequest, query: str = "") -> Iterator[Any]:
        """Yield the JSON documents at `path` and on the pages that follow it.

        Only the query of a link to the next page is used: a mirror may return links to the public hub, and
        the token must not be sent to another host or listing.
        """
        queries, received = {query}, 0
        for _ in range(MAX_PAGES):
            with _token(request) as token:
                url = f"{self.endpoint}/{path}" + (f"?{query}" if query else "")
                page = self._transport.page(url, token, request)
            self._note_name(request.repo, page.path)
            received += len(page.body)
            if received > MAX_LISTING_BYTES:
                raise CheckpointError(
                    f"{request}: found more than {MAX_LISTING_BYTES >> 20} MiB; use another repository."
                )
            with bad_answer_explained(request):
                document = json.loads(page.body)
            yield document
            if page.following is None:
                return
            query = urlsplit(page.following).query
            if query in queries:
                raise CheckpointError(
                    f"{request}: the link to the next page leads to a page that was already read, so the "
                    f"listing is incomplete; check HF_ENDPOINT, or report it to {self.endpoint}."
                )
            queries.add(query)
        raise CheckpointError(
            f"{request}: the listing has more than {MAX_PAGES} pages; use another repository."
        )

    def _note_name(self, repo: str, path: str) -> None:
        """Remember the name under which a redirect answered for a repository."""
        match = re.search(r"/api/models/([^/]+/[^/]+)/(?:refs|tree/[^/]+)$", path)
        if match and match[1] != repo and _REPO.fullmatch(match[1]):
            self._names[repo] = match[1]


@contextmanager
def _token(request: HubRequest) -> Iterator[str | None]:
    """Yield the token for the hub; a failed request inside the block raises `CheckpointError`."""
    token = _token_for(request)
    try:
        yield token
    except TransportError as error:
        raise refusal(error, request, authorized=bool(token)) from None


def _token_for(request: HubRequest) -> str | None:
    """The token for the hub. Raises `CheckpointError` in offline mode, when no request may be sent."""
    from huggingface_hub import constants

    if constants.is_offline_mode():
        raise CheckpointError(
            f"{request}: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set, so no request is sent; unset it."
        )
    return hub_token()


def _file(entry: Mapping[str, Any]) -> HubFile:
    """Convert an entry of a listing. Raises ValueError, KeyError or TypeError without digest or size."""
    lfs = entry.get("lfs")
    digest, size = (f"sha256:{lfs['oid']}", lfs["size"]) if lfs else (f"git:{entry['oid']}", entry["size"])
    if not _DIGEST.fullmatch(digest) or type(size) is not int or not 0 <= size <= MAX_FILE_BYTES:
        raise ValueError(f"found digest {digest[:80]!r} and size {str(size)[:40]} of {entry['path']!r}")
    date = (entry.get("lastCommit") or {}).get("date", "")
    return HubFile(entry["path"], size, digest, day_of(date) if isinstance(date, str) else "")


def _ref_name(name: object) -> str:
    if not isinstance(name, str) or not _REF.fullmatch(name) or not name.isprintable():
        raise ValueError(f"found {str(name)[:80]!r}, which is not the name of a branch or tag")
    return name


def _commit(commit: object, name: str) -> str:
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise ValueError(f"{name!r} points to no commit")
    return commit


def _put(found: dict[str, T], name: str, value: T) -> None:
    """Add an entry of a listing. Raises ValueError if another page has the name with other content."""
    if found.setdefault(name, value) != value:
        raise ValueError(f"found {name!r} twice, with different content")
