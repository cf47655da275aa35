"""The adapter to the Hugging Face Hub: what is there, and its bytes. No other module imports huggingface_hub.

The library gives the token, and the HTTP client with its proxies, certificates and offline mode. The
requests are made here, for three reasons (huggingface_hub 2.4): `list_repo_refs` neither retries nor times
out; a `Retry-After` holds the other methods for as long as the server likes; and `hf_hub_download` throws
away the part of a file that a killed run had fetched. For the last reason files of Xet storage come over
plain HTTP too, which the hub offers for each of them.
"""

import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import quote, urlsplit

from ebbtide.checkpoints.hub.digests import digest_of_bytes, kind_of
from ebbtide.checkpoints.hub.failures import Asked, TransientError, broken, refusal, understood
from ebbtide.checkpoints.hub.lock import is_plain
from ebbtide.errors import CheckpointError
from ebbtide.logs import log
from ebbtide.sources import hub_endpoint

if TYPE_CHECKING:
    from httpx2 import Response

T = TypeVar("T")

WAITS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # seconds before the second attempt, the third, …
PATIENCE = 120.0  # seconds that attempts and waits may take together without progress
WINDOW = 310.0  # seconds; a hub counts requests over five minutes, and says when the next window begins
WINDOWS = 10  # that one request waits for
TIMEOUT = 30.0  # seconds without a byte
PROGRESS = 1 << 20  # bytes; an attempt that brought as many starts the waits anew
SMALL = 32 << 20  # bytes; what `read` takes into memory
PAGES = 1000  # of a listing

AGAIN = "run the same command again: what was fetched is kept"
_ENDPOINT = re.compile(r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\])(:\d+)?(/[A-Za-z0-9._~/-]*)?")
_REPO = re.compile(r"(?!\.{1,2}(/|$))[A-Za-z0-9._-]+(/(?!\.{1,2}$)[A-Za-z0-9._-]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LEAVES = re.compile(r".*([/\\]|\.\.).*|-.*|\.?", re.DOTALL)  # could leave a directory, or be an option
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|git:[0-9a-f]{40}")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_RANGE = re.compile(r"bytes (?:(?P<start>\d+)-\d+|\*)/(?P<total>\d+)")


class Described(Protocol):
    """What a listing or a lock says of a file."""

    @property
    def digest(self) -> str: ...  # noqa: D102
    @property
    def size(self) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class HubFile:
    """A file of the top directory: digest (`sha256:…` or `git:…`), bytes, date of its last commit.

    The date is YYYY-MM-DD, or empty if the hub does not say.
    """

    name: str
    size: int
    digest: str
    date: str = ""


class Hub:
    """The hub at `HF_ENDPOINT`, or the public one.

    Every method raises CheckpointError with a sentence: what was asked, what happened, what to do. Broken
    connections and the statuses 408, 429 and 5xx are tried again, after `waits` (seconds) or what the hub
    asks for, within `PATIENCE`; any other refusal is final. `sleep` is for tests.
    """

    def __init__(self, waits: Sequence[float] = WAITS, sleep: Callable[[float], None] = time.sleep) -> None:
        self.endpoint = hub_endpoint()
        if not _ENDPOINT.fullmatch(self.endpoint):
            raise CheckpointError(
                f"HF_ENDPOINT: found {self.endpoint!r}, allowed is https://host or http://host."
            )
        self._waits = tuple(waits)
        self._sleep = sleep

    def refs(self, repo: str) -> dict[str, str]:
        """Branches and tags with their commits (40 hex digits); a branch hides a tag of its name."""
        asked = self._asked(repo, "branches and tags")
        document = next(self._pages(f"{self.endpoint}/api/models/{repo}/refs", asked))
        with understood(asked):
            refs = {
                ref["name"]: ref["targetCommit"] for kind in ("tags", "branches") for ref in document[kind]
            }
            if wrong := [name for name, commit in refs.items() if not _COMMIT.fullmatch(commit)]:
                raise ValueError(f"{wrong[0]!r} points to no commit")
        return refs

    def files(self, repo: str, commit: str) -> list[HubFile]:
        """Files of the top directory, by name; folders and names that no checkpoint has are skipped.

        A name that could leave the directory is a CheckpointError.
        """
        asked = self._asked(repo, "list of files", commit)
        url = f"{self.endpoint}/api/models/{repo}/tree/{commit}?recursive=false&expand=true"
        with understood(asked):
            entries = [entry for page in self._pages(url, asked) for entry in page if entry["type"] == "file"]
            for name in (entry["path"] for entry in entries):
                if not is_plain(name) and _LEAVES.fullmatch(name):
                    raise CheckpointError(
                        f"{asked}: the listing holds a file named {name!r}, which could be written outside "
                        "its directory; report it to the hub and use another repository."
                    )
            files = [_file(entry) for entry in entries if is_plain(entry["path"])]
        return sorted(files, key=lambda file: file.name)

    def read(self, repo: str, commit: str, name: str, file: Described) -> bytes:
        """The bytes of a small file (32 MiB at most), checked against its digest."""
        asked = self._asked_file(repo, name, commit)
        if file.size > SMALL:
            raise CheckpointError(
                f"{asked}: found {file.size} bytes, allowed are {SMALL}; this is no text of a model."
            )

        def attempt() -> bytes:
            data = bytearray()
            with self._open(self._url(asked), asked, {"Accept-Encoding": "identity"}) as response:
                for piece in response.iter_bytes():
                    data += piece
                    if len(data) > file.size:
                        break
            return bytes(data)

        data = self._retry(asked, attempt)
        found = digest_of_bytes(data, kind_of(file.digest))
        if found != file.digest:
            raise CheckpointError(
                f"{asked}: found {found} ({'more than ' if len(data) > file.size else ''}{len(data)} bytes), "
                f"expected {file.digest} ({file.size} bytes); run the same command again, and if that does "
                "not help, lock the study again."
            )
        return data

    def download(
        self,
        repo: str,
        commit: str,
        name: str,
        directory: Path,
        received: Callable[[int], None] = lambda size: None,
    ) -> Path:
        """Fetch a file to `directory/name` and return that path; the caller checks the digest.

        The file appears when it is whole. Until then it is `.{name}.{commit}.part`, which the next call goes
        on with, in this process or a later one; two at once on one directory are not allowed. `received` is
        told the bytes on disk, again and again. Errors of the disk (OSError) pass through.
        """
        asked = self._asked_file(repo, name, commit)
        directory.mkdir(parents=True, exist_ok=True)
        part = directory / f".{name}.{commit[:12]}.part"
        for other in directory.glob(f".{name}.{'[0-9a-f]' * 12}.part"):
            if other != part or other.is_symlink():  # of another commit; a link is never followed
                other.unlink()

        def attempt() -> None:
            offset = _size(part)
            headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
            with self._open(self._url(asked), asked, headers) as response:
                _append(response, part, offset, received)

        self._retry(asked, attempt, progress=lambda: _size(part))
        return part.replace(directory / name)

    def _asked(self, repo: str, what: str, commit: str | None = None) -> Asked:
        if not _REPO.fullmatch(repo):
            raise CheckpointError(f"{repo!r} is not the name of a repository; allowed is owner/name.")
        if commit is not None and not _COMMIT.fullmatch(commit):
            raise CheckpointError(
                f"{repo}: {commit!r} is not a commit of 40 hex digits; lock the study again."
            )
        return Asked(self.endpoint, repo, what, commit)

    def _asked_file(self, repo: str, name: str, commit: str) -> Asked:
        if not is_plain(name):
            raise CheckpointError(f"{repo}: {name!r} is not the name of a file of the top directory.")
        return self._asked(repo, name, commit)

    def _url(self, asked: Asked) -> str:
        return f"{self.endpoint}/{asked.repo}/resolve/{asked.commit}/{quote(asked.what)}"

    def _pages(self, url: str, asked: Asked) -> Iterator[Any]:
        """The JSON documents at `url` and at the pages that follow it.

        Each is asked from this endpoint, whatever host a link names: a mirror may pass links on unchanged,
        and the token goes to no other host.
        """
        here = urlsplit(self.endpoint)
        for _ in range(PAGES):

            def attempt(url: str = url) -> tuple[bytes, str | None]:
                with self._open(url, asked, {}) as response:
                    return response.read(), response.links.get("next", {}).get("url")

            body, link = self._retry(asked, attempt)
            with understood(asked):
                document = json.loads(body)
            yield document
            if link is None:
                return
            url = urlsplit(link)._replace(scheme=here.scheme, netloc=here.netloc).geturl()
        raise CheckpointError(f"{asked}: it has more than {PAGES} pages; use another repository.")

    def _retry(self, asked: Asked, attempt: Callable[[], T], progress: Callable[[], int] = lambda: 0) -> T:
        """Call `attempt` until it returns, or until waits or patience are at an end.

        Both start anew when `progress` (bytes) has gone on.
        """
        tries, spent, reached, windows = 0, 0.0, progress(), 0
        while True:
            started = time.monotonic()
            try:
                return attempt()
            except TransientError as error:
                failure = error
            if self._waits and PATIENCE / 4 < failure.wait <= WINDOW and windows < WINDOWS:
                windows += 1
                log.info("%s: %s; waiting for it", asked, failure)
                self._sleep(failure.wait)
                continue
            tries, spent = tries + 1, spent + time.monotonic() - started
            if progress() - reached >= PROGRESS:
                tries, spent, reached = 1, 0.0, progress()
            wait = max(self._waits[tries - 1], failure.wait) if tries <= len(self._waits) else math.inf
            if spent + wait > PATIENCE:
                raise CheckpointError(f"{asked}: {failure}{_after(tries)}; {AGAIN}.")
            log.info("%s: %s; trying again in %.0f s", asked, failure, wait)
            self._sleep(wait)
            spent += wait

    @contextmanager
    def _open(self, url: str, asked: Asked, headers: Mapping[str, str]) -> Iterator["Response"]:
        """The answer to a request, of a status below 400 (or 416 to a request for a range); body not read.

        Raises `TransientError` where another attempt may help, also for what happens while the body is read.
        """
        import httpx2
        from huggingface_hub import get_session
        from huggingface_hub.errors import OfflineModeIsEnabled

        token = _token(asked)
        headers = {"User-Agent": "ebbtide", **headers}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        try:
            with get_session().stream(
                "GET", url, headers=headers, timeout=TIMEOUT, follow_redirects=True
            ) as response:
                if response.status_code >= 400 and not (response.status_code == 416 and "Range" in headers):
                    raise refusal(response, asked, authorized=bool(token))
                yield response
        except OfflineModeIsEnabled:
            raise CheckpointError(
                f"{asked}: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set, so the hub is not asked; unset it."
            ) from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise broken(error, asked) from None


def _token(asked: Asked) -> str | None:
    """The token of HF_TOKEN or of the login file, if there is one and it may be sent unasked."""
    from huggingface_hub import constants, get_token

    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    if token and not re.fullmatch(r"[!-~]+", token):  # the HTTP client would show it in its error
        raise CheckpointError(
            f"{asked}: the token of HF_TOKEN or of the login file holds a character that no token has, "
            "such as a space; set it anew."
        )
    return token


def _file(entry: Mapping[str, Any]) -> HubFile:
    """A file from its entry in a listing; ValueError, KeyError or TypeError if digest or size is missing."""
    lfs = entry.get("lfs")
    digest, size = (f"sha256:{lfs['oid']}", lfs["size"]) if lfs else (f"git:{entry['oid']}", entry["size"])
    if not _DIGEST.fullmatch(digest) or type(size) is not int or size < 0:
        raise ValueError(f"found digest {digest!r} and size {size!r} of {entry['path']!r}")
    date = str((entry.get("lastCommit") or {}).get("date", ""))[:10]
    return HubFile(entry["path"], size, digest, date if _DATE.fullmatch(date) else "")


def _append(response: "Response", part: Path, offset: int, received: Callable[[int], None]) -> None:
    """Write the body behind the `offset` bytes that the request left out, or as a new file."""
    match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    total = int(match["total"]) if match else None
    if response.status_code == 416 and total == offset:  # a killed run had it all
        return
    if offset and response.status_code == 206 and match and match["start"] == str(offset):
        mode = "ab"
    elif response.status_code == 200:  # without regard to the range
        mode = "wb"
    else:
        part.unlink(missing_ok=True)
        raise TransientError(f"found no range from byte {offset} on (HTTP {response.status_code})")
    with part.open(mode) as file:
        for piece in response.iter_bytes():
            file.write(piece)
            received(file.tell())
        found = file.tell()
    if total is not None and found != total:
        raise TransientError(f"the body ended after {found} of {total} bytes")


def _after(tries: int) -> str:
    return f" after {tries} tries" if tries > 1 else ""


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
