"""A hub on the loopback: what huggingface_hub and Ebbtide ask of one, with faults on demand.

    with FakeHub(tmp_path) as hub:
        repo = hub.repo("lab/tiny")
        commit = repo.commit("step1", {"config.json": b"{}", "model.safetensors": path}, date="2023-01-02")
        hub.fail("config.json", [429, 429], retry_after=0)

Files whose name ends in .safetensors or .bin, and all above 10 kB, are kept apart (LFS): their digest is the
sha256, and they come by a redirect to another port with a signed address, as from a content network. The
others are git blobs. A fault is for the requests whose path matches a regular expression.
"""

import hashlib
import json
import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit
from urllib.request import getproxies

import pytest
from huggingface_hub import constants

from ebbtide.transport import client

SMALL = 10_000  # bytes; what is larger is LFS
SIGNATURE = "signed-by-the-content-network"


class Request(NamedTuple):
    """What a client asked: no query, no token."""

    method: str
    path: str
    range: str | None
    had_token: bool


@dataclass(frozen=True)
class Blob:
    """A file of a commit: where its bytes lie, its digests, the date of the commit that brought it."""

    path: Path
    size: int
    sha1: str
    sha256: str
    lfs: bool
    date: str

    @property
    def digest(self) -> str:
        """As Ebbtide writes it."""
        return f"sha256:{self.sha256}" if self.lfs else f"git:{self.sha1}"


@dataclass
class Repo:
    """A repository of the hub; made by `FakeHub.repo`."""

    name: str
    blobs: Path
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    dates: dict[str, str] = field(default_factory=dict)  # of the commits
    planted: list[str] = field(default_factory=list)  # names that every listing holds too
    gated: set[str] | None = None  # tokens that may read files; None: not gated
    hidden: set[str] | None = None  # tokens that may see anything; None: public

    def commit(
        self,
        branch: str,
        files: Mapping[str, bytes | Path | None],
        *,
        date: str = "2023-01-01",
        parent: str | None = None,
    ) -> str:
        """Put files on top of a branch (None takes one away) and return the commit.

        A new branch begins with the files of `parent`, a branch or commit, or with none. A file that does not
        change keeps its date.
        """
        before = self.branches.get(branch) or (self.resolve(parent) if parent else None)
        tree = dict(self.commits[before]) if before else {}
        for name, content in files.items():
            if content is None:
                del tree[name]
                continue
            blob = self._keep(name, content, date)
            if name not in tree or tree[name].sha256 != blob.sha256:
                tree[name] = blob
        text = json.dumps([before, branch, date, {name: blob.sha256 for name, blob in sorted(tree.items())}])
        commit = hashlib.sha1(f"{self.name} {text}".encode()).hexdigest()
        self.commits[commit], self.dates[commit], self.branches[branch] = tree, date, commit
        return commit

    def tag(self, name: str, revision: str) -> str:
        """Give a revision a tag; returns the commit."""
        self.tags[name] = self.resolve(revision)
        return self.tags[name]

    def forget(self, commit: str) -> None:
        """Take a commit away, as the hub does some time after its branch was moved or deleted."""
        del self.commits[commit]

    def remove_branch(self, name: str) -> None:
        """Take a branch away; its commits stay."""
        del self.branches[name]

    def gate(self, *accepted: str) -> None:
        """Let only these tokens read files; everybody may still list them."""
        self.gated = set(accepted)

    def hide(self, *allowed: str) -> None:
        """Make the repository private to these tokens."""
        self.hidden = set(allowed)

    def resolve(self, revision: str) -> str:
        """The commit of a branch, tag or commit; KeyError if there is none."""
        commit = self.branches.get(revision) or self.tags.get(revision) or revision
        return commit if commit in self.commits else self.commits[commit] and commit

    def file(self, revision: str, name: str) -> Blob:
        """A file as a revision has it."""
        return self.commits[self.resolve(revision)][name]

    def _keep(self, name: str, content: bytes | Path, date: str) -> Blob:
        data = content.read_bytes() if isinstance(content, Path) else content
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.blobs / sha256
        if not path.exists():
            path.write_bytes(data)
        sha1 = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        lfs = name.endswith((".safetensors", ".bin")) or len(data) > SMALL
        return Blob(path, len(data), sha1, sha256, lfs, date)


@dataclass
class _Fault:
    """What goes wrong with the next `times` requests whose path matches."""

    pattern: re.Pattern[str]
    kind: str  # status, hang up, truncate, stall, corrupt
    values: Iterator[Any]
    header: Mapping[str, str] = field(default_factory=dict)


class _Reply(NamedTuple):
    """A whole answer, as `FakeHub.reply` describes it."""

    body: bytes
    status: int
    header: Mapping[str, str]
    length: int | None
    repeat: int


class FakeHub:
    """The hub. `requests` are those that came, `served` the bytes of files that went out, by file name."""

    def __init__(self, directory: Path) -> None:
        self.repos: dict[str, Repo] = {}
        self.requests: list[Request] = []
        self.served: Counter[str] = Counter()
        self.page_size = 50  # entries of a listing with dates, as of the public hub
        self.link_to: str | None = None  # root URL in the links between pages, as behind a mirror
        self.refs_page_size: int | None = None  # branches and tags of a page; None: all on one page
        self.links_loop = False  # every link between pages leads to the first one
        self.links = "{root}{path}?{query}"  # form of the links between pages
        self.renamed: dict[str, str] = {}  # old name → new name, to which the hub redirects
        self.ignore_ranges = False
        self.directory = directory / "hub"
        self._blobs = self.directory / "blobs"
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._faults: list[_Fault] = []
        self._replies: list[tuple[re.Pattern[str], _Reply]] = []
        self._lock = threading.Lock()
        self._front, self._content = _serve(self), _serve(self)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._front.server_address[1]}"

    @property
    def content(self) -> str:
        """Root URL of the content network."""
        return f"http://127.0.0.1:{self._content.server_address[1]}"

    @property
    def bytes_served(self) -> int:
        return sum(self.served.values())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving; connections that clients keep open are closed too."""
        for server in (self._front, self._content):
            server.stop()

    def environment(self, **more: str) -> dict[str, str]:
        """Variables for a process that uses this hub, its own home, no token and no proxy."""
        proxies = {f"{scheme}_proxy": "" for scheme in ("http", "https", "all")}
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(self.directory / "home"),
            "HF_TOKEN": "",
            "HF_TOKEN_PATH": str(self.directory / "home/token"),
            "HF_HUB_OFFLINE": "",
            "TRANSFORMERS_OFFLINE": "",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            **proxies,
            **{name.upper(): value for name, value in proxies.items()},
            "no_proxy": "127.0.0.1",
            "NO_PROXY": "127.0.0.1",
            **more,
        }

    def use(self, monkeypatch: pytest.MonkeyPatch, **more: str) -> None:
        """Let this process use the hub; what the library read at its import is set too."""
        if {"http", "https", "all"} & getproxies().keys():
            client.cache_clear()  # it was made with them
        for name, value in self.environment(**more).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(self.directory / "home/token"))

    def repo(self, name: str) -> Repo:
        """A repository, made if it is not there."""
        return self.repos.setdefault(name, Repo(name, self._blobs))

    def fail(self, pattern: str, statuses: Sequence[int], retry_after: int | None = None) -> None:
        """Answer the next requests with these statuses."""
        header = {} if retry_after is None else {"Retry-After": str(retry_after)}
        self._add(pattern, "status", statuses, header)

    def hang_up(self, pattern: str, times: int = 1) -> None:
        """Close the connection instead of an answer."""
        self._add(pattern, "hang up", [True] * times)

    def truncate(self, pattern: str, times: int = 1) -> None:
        """Close the connection in the middle of the body of a file."""
        self._add(pattern, "truncate", [True] * times)

    def stall(self, pattern: str, times: int = 1) -> None:
        """Send half of the body of a file and then nothing, until the client gives up."""
        self._add(pattern, "stall", [True] * times)

    def corrupt(self, pattern: str, times: int = 1_000_000) -> None:
        """Serve a file with other bytes than its digest says."""
        self._add(pattern, "corrupt", (True for _ in range(times)))

    def reply(
        self,
        pattern: str,
        body: bytes,
        *,
        status: int = 200,
        header: Mapping[str, str] | None = None,
        length: int | None = -1,
        repeat: int = 1,
    ) -> None:
        """Answer all requests whose path matches with this, and nothing else.

        The body is sent `repeat` times. `length` is the announced one: -1 the true one, None no header.
        """
        self._replies.insert(0, (re.compile(pattern), _Reply(body, status, header or {}, length, repeat)))

    def malicious(self, repo: str, name: str) -> None:
        """Let every listing of a repository hold a file of this name."""
        self.repo(repo).planted.append(name)

    def count(self, pattern: str, method: str = "GET") -> int:
        """How many requests came whose path matches."""
        return sum(r.method == method and bool(re.search(pattern, r.path)) for r in self.requests)

    def _add(self, pattern: str, kind: str, values: Any, header: Mapping[str, str] | None = None) -> None:
        self._faults.append(_Fault(re.compile(pattern), kind, iter(values), header or {}))

    def _fault(self, path: str, kind: str) -> tuple[Any, Mapping[str, str]]:
        """The next fault of a kind for a path, if there is one."""
        with self._lock:
            for fault in self._faults:
                if fault.kind == kind and fault.pattern.search(path):
                    value = next(fault.values, None)
                    if value is not None:
                        return value, fault.header
        return None, {}


class _Server(ThreadingHTTPServer):
    """A server on a free port that can also close the connections that clients hold."""

    daemon_threads = True
    hub: FakeHub

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.connections: set[socket.socket] = set()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        for connection in list(self.connections):
            with suppress(OSError):  # it is closed already
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that go away are what tests are about."""


def _serve(hub: FakeHub) -> _Server:
    server = _Server()
    server.hub = hub
    return server


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub, path = self.server.hub, unquote(urlsplit(self.path).path)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        hub.requests.append(Request(self.command, path, self.headers.get("Range"), bool(token)))
        if hub._fault(path, "hang up")[0]:
            self.close_connection = True
            return
        if not self._prepared(path):
            self._route(_as_of_a_model(path), token)

    def _prepared(self, path: str) -> bool:
        """Whether an answer was prepared for this path, or its repository was renamed; if so, send it."""
        for pattern, reply in self.server.hub._replies:
            if pattern.search(path):
                self._send(path, reply)
                return True
        match = re.match(r"/(api/models/)?([^/]+/[^/]+)(?=/)", path)
        new = self.server.hub.renamed.get(match[2]) if match else None
        if match and new:
            self._answer(307, b"", {"Location": self.path.replace(match[2], new, 1)})
        return new is not None

    def _route(self, path: str, token: str) -> None:
        hub = self.server.hub
        status, header = hub._fault(path, "status")
        if status:
            self._answer(status, b'{"error": "out of order"}', header)
        elif match := re.fullmatch(r"/content/(?P<sha256>[0-9a-f]{64})/(?P<name>.+)", path):
            self._signed(match["sha256"], match["name"])
        elif match := re.fullmatch(r"/api/models/(?P<repo>[^/]+/[^/]+)/refs", path):
            if repo := self._repo(match["repo"], token):
                self._refs(repo)
        elif match := re.fullmatch(
            r"/api/models/(?P<repo>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)(?P<folder>/.+)?", path
        ):
            if found := self._revision(match["repo"], match["revision"], token):
                self._tree(*found, (match["folder"] or "/")[1:])
        elif match := re.fullmatch(
            r"/api/models/(?P<repo>[^/]+/[^/]+)(/revision/(?P<revision>[^/]+))?", path
        ):
            if found := self._revision(match["repo"], match["revision"] or "main", token):
                self._json(_info(*found))
        elif match := re.fullmatch(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)", path):
            if found := self._revision(match["repo"], match["revision"], token):
                self._file(*found, match["name"], token)
        else:
            self._refuse(404, None, "Not Found")

    def _repo(self, name: str, token: str) -> Repo | None:
        repo = self.server.hub.repos.get(name)
        if repo is None or (repo.hidden is not None and token not in repo.hidden):
            self._refuse(404 if token else 401, "RepoNotFound", "Repository not found")
            return None
        return repo

    def _revision(self, name: str, revision: str, token: str) -> tuple[Repo, str] | None:
        repo = self._repo(name, token)
        if repo is None:
            return None
        try:
            return repo, repo.resolve(revision)
        except KeyError:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None

    def _refs(self, repo: Repo) -> None:
        whole = _refs(repo)
        size, start = self.server.hub.refs_page_size or 1 << 30, self._cursor()
        listed = [(kind, ref) for kind in ("branches", "tags") for ref in whole[kind]]
        page = {
            kind: [ref for of, ref in listed[start : start + size] if of == kind]
            for kind in ("branches", "tags")
        }
        self._json({**page, "converts": []}, self._link(f"cursor={start + size}", start + size < len(listed)))

    def _cursor(self) -> int:
        return int(parse_qs(urlsplit(self.path).query).get("cursor", ["0"])[0])

    def _link(self, query: str, more: bool) -> dict[str, str]:
        """The header with the link to the next page."""
        hub, path = self.server.hub, urlsplit(self.path).path
        if hub.links_loop:
            more, query = True, re.sub("cursor=.*", "cursor=0", query)
        root = hub.link_to or hub.endpoint
        return (
            {"Link": f'<{hub.links.format(root=root, path=path, query=query)}>; rel="next"'} if more else {}
        )

    def _send(self, path: str, reply: _Reply) -> None:
        """Send a prepared answer, or as much of it as the client takes."""
        self.send_response(reply.status)
        for name, value in reply.header.items():
            self.send_header(name, value)
        if reply.length is not None:
            length = len(reply.body) * reply.repeat if reply.length == -1 else reply.length
            self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")
        self.end_headers()
        with suppress(OSError):  # the client went away
            for _ in range(reply.repeat if self.command == "GET" else 0):
                self.wfile.write(reply.body)
                with self.server.hub._lock:
                    self.server.hub.served[path.rpartition("/")[2]] += len(reply.body)

    def _tree(self, repo: Repo, commit: str, folder: str) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        expand = query.get("expand", "").lower() in ("true", "1")
        recursive = query.get("recursive", "").lower() in ("true", "1")
        entries = list(_entries(repo, commit, folder, expand=expand, recursive=recursive))
        size = self.server.hub.page_size if expand else 1000
        start = self._cursor()
        rest = f"recursive={recursive}&expand={expand}&cursor={start + size}"
        header = self._link(rest, start + size < len(entries))
        self._json(entries[start : start + size], header)

    def _file(self, repo: Repo, commit: str, name: str, token: str) -> None:
        if repo.gated is not None and token not in repo.gated:
            message = f"Access to model {repo.name} is restricted."
            self._refuse(403 if token else 401, "GatedRepo", message)
            return
        blob = repo.commits[commit].get(name)
        if blob is None:
            self._refuse(404, "EntryNotFound", "Entry not found")
            return
        header = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if blob.lfs:
            content = f"{self.server.hub.content}/content/{blob.sha256}/{quote(name)}?Signature={SIGNATURE}"
            header |= {"X-Linked-ETag": f'"{blob.sha256}"', "X-Linked-Size": str(blob.size)}
            self._answer(302, b"", {**header, "Location": content})
        else:
            self._bytes(blob.path, name, {**header, "ETag": f'"{blob.sha1}"'})

    def _signed(self, sha256: str, name: str) -> None:
        if SIGNATURE not in self.path:
            self._answer(403, b"no signature", {})
            return
        path = self.server.hub._blobs / sha256
        self._bytes(path, name, {"ETag": f'"{sha256}"', "Accept-Ranges": "bytes"})

    def _bytes(self, path: Path, name: str, header: Mapping[str, str]) -> None:
        """A file, whole or from a byte on."""
        data, status, header = path.read_bytes(), 200, dict(header)
        size = len(data)
        asked = "" if self.server.hub.ignore_ranges else self.headers.get("Range", "")
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", asked):
            start, end = int(match[1]), min(int(match[2] or size), size - 1)
            if start >= size:
                self._answer(416, b"", {"Content-Range": f"bytes */{size}"})
                return
            data, status = data[start : end + 1], 206
            header["Content-Range"] = f"bytes {start}-{end}/{size}"
        address = urlsplit(self.path).path
        if self.command == "GET" and self.server.hub._fault(address, "corrupt")[0]:
            data = bytes(byte ^ 1 for byte in data)
        cut = self.command == "GET" and self.server.hub._fault(address, "truncate")[0]
        stall = self.command == "GET" and self.server.hub._fault(address, "stall")[0]
        sent = data[: len(data) // 2] if cut or stall else data
        if self.command == "GET":
            with self.server.hub._lock:  # before the client can have the last byte and look
                self.server.hub.served[name] += len(sent)
        self._answer(status, sent, header, length=len(data))
        if stall:
            self.connection.recv(1)  # returns when the client closes

    def _json(self, document: object, header: Mapping[str, str] | None = None) -> None:
        self._answer(
            200, json.dumps(document).encode(), {"Content-Type": "application/json", **(header or {})}
        )

    def _refuse(self, status: int, code: str | None, message: str) -> None:
        header = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self._answer(status, json.dumps({"error": message}).encode(), header)

    def _answer(
        self, status: int, body: bytes, header: Mapping[str, str], *, length: int | None = None
    ) -> None:
        """Send an answer; a body shorter than `length` is one that breaks off."""
        self.send_response(status)
        for name, value in header.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command == "HEAD":
            return
        if length not in (None, len(body)):
            self.close_connection = True
        try:
            self.wfile.write(body)
        except OSError:  # the client went away
            self.close_connection = True


def _as_of_a_model(path: str) -> str:
    """The path of a data set's file or listing, as that of a model: both are repositories here."""
    for of_data_set, of_model in (("/api/datasets/", "/api/models/"), ("/datasets/", "/")):
        if path.startswith(of_data_set):
            return of_model + path.removeprefix(of_data_set)
    return path


def _refs(repo: Repo) -> dict[str, Any]:
    def listed(refs: Mapping[str, str], kind: str) -> list[dict[str, str]]:
        return [{"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": c} for n, c in refs.items()]

    return {"branches": listed(repo.branches, "heads"), "tags": listed(repo.tags, "tags"), "converts": []}


def _info(repo: Repo, commit: str) -> dict[str, Any]:
    return {
        "id": repo.name,
        "sha": commit,
        "private": repo.hidden is not None,
        "gated": "manual" if repo.gated is not None else False,
        "siblings": [{"rfilename": name} for name in sorted(repo.commits[commit])],
        "tags": [],
    }


def _entries(
    repo: Repo, commit: str, folder: str, *, expand: bool, recursive: bool
) -> Iterator[dict[str, Any]]:
    """Entries of a listing: folders first, as the hub does, then files."""
    inside = f"{folder}/" if folder else ""
    files = {name: blob for name, blob in sorted(repo.commits[commit].items()) if name.startswith(inside)}
    deeper = {name for name in files if "/" in name[len(inside) :]}
    for name in sorted({inside + name[len(inside) :].partition("/")[0] for name in deeper}):
        yield {"type": "directory", "oid": hashlib.sha1(name.encode()).hexdigest(), "size": 0, "path": name}
    for name, blob in files.items():
        if name in deeper and not recursive:
            continue
        entry: dict[str, Any] = {"type": "file", "oid": blob.sha1, "size": blob.size, "path": name}
        if blob.lfs:
            entry["oid"] = hashlib.sha1(blob.sha256.encode()).hexdigest()  # of the pointer
            entry["lfs"] = {"oid": blob.sha256, "size": blob.size, "pointerSize": 135}
        if expand:
            entry["lastCommit"] = {"id": commit, "title": "a commit", "date": f"{blob.date}T12:00:00.000Z"}
        yield entry
    for name in repo.planted:
        yield {"type": "file", "oid": "0" * 40, "size": 4, "path": name}
