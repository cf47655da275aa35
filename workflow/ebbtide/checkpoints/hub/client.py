"""The adapter to the Hugging Face Hub: what is there, and its bytes.

The library gives the token and the offline mode. The requests are made here, for three reasons
(huggingface_hub 2.4): `list_repo_refs` neither retries nor times out; a `Retry-After` holds the other methods
for as long as the server likes; and `hf_hub_download` throws away the part of a file that a killed run had
fetched. For the last reason files of Xet storage come over plain HTTP too, which the hub offers for each of
them.
"""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

from ebbtide.checkpoints.hub.digests import digest_of_bytes, kind_of
from ebbtide.checkpoints.hub.failures import Asked, refusal, understood
from ebbtide.checkpoints.hub.lock import is_plain
from ebbtide.errors import CheckpointError
from ebbtide.sources import hub_endpoint, hub_token
from ebbtide.transport import SMALL, WAITS, Transport, TransportError

PAGES = 1000  # of a listing

_ENDPOINT = re.compile(r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\])(:\d+)?(/[A-Za-z0-9._~/-]*)?")
_REPO = re.compile(r"(?!\.{1,2}(/|$))[A-Za-z0-9._-]+(/(?!\.{1,2}$)[A-Za-z0-9._-]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LEAVES = re.compile(r".*([/\\]|\.\.).*|-.*|\.?", re.DOTALL)  # could leave a directory, or be an option
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|git:[0-9a-f]{40}")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


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
        plain_http = self.endpoint.startswith("http:")
        self._transport = Transport(plain_http=plain_http, waits=waits, sleep=sleep)

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
        with _token(asked) as token:
            data = self._transport.read(self._url(asked), token, asked, most=file.size)
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
        with _token(asked) as token:
            self._transport.save(self._url(asked), part, token, asked, received)
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
            body, link = self._page(url, asked)
            with understood(asked):
                document = json.loads(body)
            yield document
            if link is None:
                return
            url = urlsplit(link)._replace(scheme=here.scheme, netloc=here.netloc).geturl()
        raise CheckpointError(f"{asked}: it has more than {PAGES} pages; use another repository.")

    def _page(self, url: str, asked: Asked) -> tuple[bytes, str | None]:
        """The body at `url`, and the URL of the page that follows."""
        with _token(asked) as token:

            def attempt() -> tuple[bytes, str | None]:
                with self._transport.open(url, token) as response:
                    return response.read(), response.links.get("next", {}).get("url")

            return self._transport.retry(asked, attempt)


@contextmanager
def _token(asked: Asked) -> Iterator[str | None]:
    """Yield the token for the hub, and raise CheckpointError for a request within that fails."""
    from huggingface_hub import constants

    if constants.is_offline_mode():
        raise CheckpointError(
            f"{asked}: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set, so the hub is not asked; unset it."
        )
    token = hub_token()
    try:
        yield token
    except TransportError as error:
        raise refusal(error, asked, authorized=bool(token)) from None


def _file(entry: Mapping[str, Any]) -> HubFile:
    """A file from its entry in a listing; ValueError, KeyError or TypeError if digest or size is missing."""
    lfs = entry.get("lfs")
    digest, size = (f"sha256:{lfs['oid']}", lfs["size"]) if lfs else (f"git:{entry['oid']}", entry["size"])
    if not _DIGEST.fullmatch(digest) or type(size) is not int or size < 0:
        raise ValueError(f"found digest {digest!r} and size {size!r} of {entry['path']!r}")
    date = str((entry.get("lastCommit") or {}).get("date", ""))[:10]
    return HubFile(entry["path"], size, digest, date if _DATE.fullmatch(date) else "")
