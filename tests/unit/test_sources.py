"""Pinned sources: their grammar, their mirrors, and the ways a download can go wrong (loopback server)."""

import hashlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbtide import transport as transports
from ebbtide.errors import ConfigError, SourceError
from ebbtide.sources import CHECKOUT, Source, fetch, mirrors
from ebbtide.transport import Transport
from loopback import serving

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONTENT = b"one line\n" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
WRONG = "0" * 64
WHERE = "workflow/tasks/x.yaml: source.file"
GITHUB = f"github:owner/repo@{COMMIT}:data/file.jsonl"
HUB = f"hf:owner/name@{COMMIT}:file.jsonl"
HUB_PATH = f"/owner/name/resolve/{COMMIT}/file.jsonl"

Answer = Callable[[BaseHTTPRequestHandler], None]


def answer(status: int = 200, body: bytes = b"", length: int | None = None, **headers: str) -> Answer:
    """An HTTP answer; a `length` beyond the body's makes it a body cut short."""

    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return send


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection without an answer."""


@dataclass
class Server:
    """Answers each path with its list, the last one for ever, and remembers what it was asked."""

    port: int = 0
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def reply(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append((handler.path, {name.lower(): value for name, value in handler.headers.items()}))
        left = self.answers[handler.path]
        (left.pop(0) if len(left) > 1 else left[0])(handler)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A loopback server that stands for the hub."""
    scripted = Server()
    with serving(monkeypatch, scripted.reply) as scripted.port:
        yield scripted


class Loopback(Transport):
    """A transport that may use http, and notes the seconds that it would have waited."""

    def __init__(self) -> None:
        self.pauses: list[float] = []
        super().__init__(plain_http=True, sleep=self.pauses.append)


@pytest.fixture
def loopback() -> Loopback:
    return Loopback()


def hub(sha256: str = SHA256) -> Source:
    return Source.parse(HUB, sha256, WHERE)


def put(mirror: Path, source: Source, content: bytes) -> Path:
    place = mirror / source.mirror_path
    place.parent.mkdir(parents=True)
    place.write_bytes(content)
    return mirror


# --- grammar ---


@pytest.mark.parametrize(
    ("text", "mirror_path", "url"),
    [
        (
            GITHUB,
            f"github/owner/repo/{COMMIT}/data/file.jsonl",
            f"https://raw.githubusercontent.com/owner/repo/{COMMIT}/data/file.jsonl",
        ),
        (
            f"github:o.w/r_e-p@{COMMIT}:exp data/d=96:h=4%.json",
            f"github/o.w/r_e-p/{COMMIT}/exp data/d=96:h=4%.json",
            f"https://raw.githubusercontent.com/o.w/r_e-p/{COMMIT}/exp%20data/d%3D96%3Ah%3D4%25.json",
        ),
        (HUB, f"hf/owner/name/{COMMIT}/file.jsonl", f"https://huggingface.co{HUB_PATH}"),
        (
            f"hf:datasets/owner/name@{COMMIT}:a/b.parquet",
            f"hf/datasets/owner/name/{COMMIT}/a/b.parquet",
            f"https://huggingface.co/datasets/owner/name/resolve/{COMMIT}/a/b.parquet",
        ),
        (
            "https://data.example.org:8443/a/b.csv",
            "https/data.example.org:8443/a/b.csv",
            "https://data.example.org:8443/a/b.csv",
        ),
    ],
)
def test_places_of_a_source(text: str, mirror_path: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    source = Source.parse(text, SHA256.upper(), WHERE)
    assert source.mirror_path == Path(mirror_path)
    assert source.url == url
    assert source.sha256 == SHA256


@pytest.mark.parametrize(
    ("text", "sha256", "complaint"),
    [
        (GITHUB, None, "has no sha256"),
        (GITHUB, "abc", "64 hex digits"),
        ("data.csv", SHA256 + "0", "64 hex digits"),
        ("", SHA256, "is not a source"),
        ("a\nb", SHA256, "is not a source"),
        ("github:owner/repo@main:file", SHA256, "'main' .*40 lower-case hex digits"),
        (f"github:owner/repo@{COMMIT[:12]}:file", SHA256, "not a full commit"),
        (f"github:owner/repo@{COMMIT.upper()}:file", SHA256, "not a full commit"),
        ("hf:owner/name@refs/pr/1:file", SHA256, "not a full commit"),
        ("hf:owner/name:file", SHA256, "form hf:owner/name@commit:file or hf:datasets/"),
        (f"hf:datasets/name@{COMMIT}:file", SHA256, "form hf:"),
        (f"hf:datasets/datasets/name@{COMMIT}:file", SHA256, "form hf:"),
        (f"github:owner@{COMMIT}:file", SHA256, "form github:"),
        (f"github:../repo@{COMMIT}:file", SHA256, "form github:"),
        (f"github:owner/..@{COMMIT}:file", SHA256, "form github:"),
        (f"github:owner/repo@{COMMIT}:", SHA256, "form github:"),
        (f"github:owner/repo@{COMMIT}:/etc/passwd", SHA256, "must be relative"),
        (f"github:owner/repo@{COMMIT}:a/../../b", SHA256, "must be relative"),
        (f"hf:owner/name@{COMMIT}:a//b", SHA256, "must be relative"),
        (f"hf:owner/name@{COMMIT}:folder/", SHA256, "must be relative"),
        ("https://host/../b", SHA256, "must be relative"),
        ("https://../b", SHA256, "form https:"),
        ("https://host", SHA256, "form https:"),
        ("https://user:word@host/file", SHA256, "without user"),
        ("https://host/file?download=1", SHA256, "without user, query"),
        ("https://host/a file", SHA256, "form https:"),
        ("http://host/file", SHA256, "only https://"),
        ("file:///etc/passwd", SHA256, "unknown 'file:'"),
        (f"gihub:owner/repo@{COMMIT}:file", SHA256, "did you mean 'github'"),
    ],
)
def test_what_a_source_may_not_be(text: str, sha256: str | None, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        Source.parse(text, sha256, WHERE)
    assert f"ConfigError: {WHERE}: " in str(caught.value)


@given(st.text(st.sampled_from("ab./:@%-_~ "), max_size=12), st.sampled_from(["", "h/"]))
def test_no_source_leaves_its_mirror(path: str, host: str) -> None:
    for prefix in (f"github:o/r@{COMMIT}:", f"hf:o/n@{COMMIT}:", f"https://{host}", "github:", "hf:"):
        try:
            place = Source.parse(prefix + path, SHA256, WHERE).mirror_path
        except ConfigError:
            continue
        assert not place.is_absolute()
        assert ".." not in place.parts


def test_hub_endpoint_with_credentials_is_refused_unshown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://me:secret@hub.example.org")
    with pytest.raises(ConfigError, match="HF_ENDPOINT") as caught:
        _ = hub().url
    assert "secret" not in str(caught.value)


# --- local paths ---


def test_local_path_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_bytes(CONTENT)
    monkeypatch.chdir(tmp_path)
    for text in ("a.csv", str(tmp_path / "a.csv"), f"../{tmp_path.name}/a.csv"):
        target = tmp_path / "out" / "b.csv"
        fetch(Source.parse(text, None, WHERE), target, [])
        assert target.read_bytes() == CONTENT
        target.unlink()


def test_local_path_may_be_relative_to_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fetch(Source.parse("pyproject.toml", None, WHERE), tmp_path / "copy", [])
    assert (tmp_path / "copy").read_bytes() == (CHECKOUT / "pyproject.toml").read_bytes()


def test_hash_of_a_local_path_is_checked(tmp_path: Path) -> None:
    original = tmp_path / "a.csv"
    original.write_bytes(CONTENT)
    fetch(Source.parse(str(original), SHA256, WHERE), tmp_path / "right", [])
    with pytest.raises(SourceError, match=f"{SHA256}, expected {WRONG}"):
        fetch(Source.parse(str(original), WRONG, WHERE), tmp_path / "wrong", [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "right"]


def test_missing_local_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match="no such file") as caught:
        fetch(Source.parse("nowhere.csv", None, WHERE), tmp_path / "out", [])
    assert str(tmp_path / "nowhere.csv") in str(caught.value)
    assert str(CHECKOUT / "nowhere.csv") in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs /proc/self/mem")
def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    unreadable = "/proc/self/mem"  # address 0 is an input/output error, even for root
    with pytest.raises(SourceError, match=f"{unreadable} cannot be copied: Input/output error"):
        fetch(Source.parse(unreadable, None, WHERE), tmp_path / "out", [])
    assert not list(tmp_path.iterdir())


# --- mirrors ---


def test_mirrors_of_the_environment_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    monkeypatch.setattr("ebbtide.sources.SHARED_MIRROR", tmp_path / "none")
    monkeypatch.setenv("EBBTIDE_MIRRORS", f"{folders[2]}:{folders[0]}")
    assert mirrors([str(folders[1])]) == [folders[2], folders[0], folders[1]]
    monkeypatch.delenv("EBBTIDE_MIRRORS")
    assert mirrors([]) == []


def test_a_mirror_beside_the_checkout_is_looked_in_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, mine = tmp_path / "shared/mirror", tmp_path / "mine"
    monkeypatch.delenv("EBBTIDE_MIRRORS", raising=False)
    monkeypatch.setattr("ebbtide.sources.SHARED_MIRROR", shared)
    assert mirrors([]) == []
    shared.mkdir(parents=True)
    mine.mkdir()
    assert mirrors([]) == [shared]
    assert mirrors([str(mine)]) == [mine, shared]
    assert mirrors([str(shared), str(mine)]) == [shared, mine]  # looked in once, at its first place


def test_mirror_must_be_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EBBTIDE_MIRRORS", raising=False)
    with pytest.raises(ConfigError, match=r"mirrors: .*gone' is not a directory"):
        mirrors([str(tmp_path / "gone")])
    monkeypatch.setenv("EBBTIDE_MIRRORS", str(tmp_path / "gone"))
    with pytest.raises(ConfigError, match=r"EBBTIDE_MIRRORS: .*gone' is not a directory"):
        mirrors([])


def test_first_mirror_that_has_the_file_is_used_and_nothing_is_asked(
    server: Server, tmp_path: Path, loopback: Loopback
) -> None:
    (tmp_path / "empty").mkdir()
    full = put(tmp_path / "full", hub(), CONTENT)
    damaged = put(tmp_path / "damaged", hub(), b"damaged")
    fetch(hub(), tmp_path / "out", [tmp_path / "empty", full, damaged], loopback)
    assert (tmp_path / "out").read_bytes() == CONTENT
    assert server.asked == []


def test_damaged_mirror_is_named(tmp_path: Path) -> None:
    source = Source.parse(GITHUB, SHA256, WHERE)
    mirror = put(tmp_path / "mirror", source, CONTENT[:-1])
    with pytest.raises(SourceError, match=f"expected {SHA256}") as caught:
        fetch(source, tmp_path / "new" / "out", [mirror])
    assert str(mirror / source.mirror_path) in str(caught.value)
    assert hashlib.sha256(CONTENT[:-1]).hexdigest() in str(caught.value)
    assert not list((tmp_path / "new").iterdir())


# --- downloads ---


def test_download(server: Server, tmp_path: Path, loopback: Loopback) -> None:
    server.answers[HUB_PATH] = [answer(body=CONTENT)]
    (tmp_path / "mirror").mkdir()
    fetch(hub(), tmp_path / "out", [tmp_path / "mirror"], loopback)
    assert (tmp_path / "out").read_bytes() == CONTENT
    assert [path for path, _ in server.asked] == [HUB_PATH]


def test_wrong_hash_leaves_the_old_file(server: Server, tmp_path: Path, loopback: Loopback) -> None:
    server.answers[HUB_PATH] = [answer(body=CONTENT)]
    (tmp_path / "out").write_text("old")
    with pytest.raises(SourceError, match=f"sha256 {SHA256}, expected {WRONG}") as caught:
        fetch(hub(WRONG), tmp_path / "out", [], loopback)
    assert f"http://127.0.0.1:{server.port}{HUB_PATH}" in str(caught.value)
    assert len(server.asked) == 1
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("out", "old")]


def test_passing_trouble_is_tried_again(server: Server, tmp_path: Path, loopback: Loopback) -> None:
    server.answers[HUB_PATH] = [answer(500), answer(503), answer(body=CONTENT)]
    fetch(hub(), tmp_path / "out", [], loopback)
    assert (tmp_path / "out").read_bytes() == CONTENT
    assert loopback.pauses == [1, 2]


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (answer(500), "HTTP 500 after 7 tries"),
        (answer(429), "HTTP 429 after 7 tries"),
        (
            answer(body=CONTENT[:100], length=len(CONTENT)),
            rf"received 100 bytes, expected {len(CONTENT)}\) after 7 tries",
        ),
        (hang_up, "after 7 tries"),
    ],
)
def test_lasting_trouble_ends(
    server: Server, tmp_path: Path, trouble: Answer, reason: str, loopback: Loopback
) -> None:
    server.answers[HUB_PATH] = [trouble]
    (tmp_path / "out").mkdir()
    with pytest.raises(SourceError, match=reason):
        fetch(hub(), tmp_path / "out" / "file", [], loopback)
    assert loopback.pauses == list(transports.WAITS)
    assert len(server.asked) == 7
    assert not list((tmp_path / "out").iterdir())


def test_body_cut_short_once_is_begun_anew(server: Server, tmp_path: Path, loopback: Loopback) -> None:
    server.answers[HUB_PATH] = [
        answer(body=b"x" * 100, length=len(CONTENT)),
        answer(body=CONTENT),
    ]
    fetch(hub(), tmp_path / "out", [], loopback)
    assert (tmp_path / "out").read_bytes() == CONTENT


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_is_not_taken_for_trouble_of_the_network(server: Server, loopback: Loopback) -> None:
    server.answers["/file"] = [answer(body=CONTENT)]
    with pytest.raises(OSError, match="No space left"):
        loopback.save(f"http://127.0.0.1:{server.port}/file", Path("/dev/full"))
    assert loopback.pauses == []


def test_server_may_ask_for_patience_within_reason(
    server: Server, tmp_path: Path, loopback: Loopback
) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=25), usegmt=True)
    server.answers[HUB_PATH] = [
        answer(429, Retry_After="20"),
        answer(503, Retry_After=soon),
        answer(503, Retry_After="nonsense"),
        answer(body=CONTENT),
    ]
    fetch(hub(), tmp_path / "out", [], loopback)
    assert loopback.pauses == [20, pytest.approx(24, abs=1.1), 4]
    server.answers[HUB_PATH] = [answer(429, Retry_After="3000")]
    with pytest.raises(SourceError, match=r"HTTP 429 \(asked to wait 3000 s\); mirrors"):
        fetch(hub(), tmp_path / "late", [], loopback)
    assert len(loopback.pauses) == 3


@pytest.mark.parametrize(("status", "hint"), [(404, False), (401, True), (403, True)])
def test_definite_answers_are_final(
    server: Server, tmp_path: Path, status: int, hint: bool, loopback: Loopback
) -> None:
    server.answers[HUB_PATH] = [answer(status)]
    with pytest.raises(SourceError, match=f"HTTP {status};") as caught:
        fetch(hub(), tmp_path / "out", [], loopback)
    assert len(server.asked) == 1
    assert loopback.pauses == []
    assert ("needs HF_TOKEN" in str(caught.value)) == hint


def test_without_network_the_message_leads_to_a_mirror(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, loopback: Loopback
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
        port = closed.server_port
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("no_proxy", "*")
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    with pytest.raises(SourceError, match=r"refused\) after 7 tries") as caught:
        fetch(hub(), tmp_path / "out", [mirror], loopback)
    sentence = str(caught.value)
    for part in (
        f"http://127.0.0.1:{port}{HUB_PATH}",
        f"mirrors searched: {mirror}",
        "EBBTIDE_MIRRORS",
        "`mirrors:`",
        "github/owner/repo/commit/path",
        str(hub().mirror_path),
    ):
        assert part in sentence


def test_unknown_host_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loopback: Loopback
) -> None:
    def resolve(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(SourceError, match=r"Name or service not known\); mirrors"):
        fetch(Source.parse(GITHUB, SHA256, WHERE), tmp_path / "out", [], loopback)
    assert loopback.pauses == []


# --- https only, and tokens ---


def test_plain_http_is_refused(server: Server, tmp_path: Path) -> None:
    server.answers[HUB_PATH] = [answer(body=CONTENT)]
    pauses: list[float] = []
    with pytest.raises(SourceError, match="only https is allowed"):
        fetch(hub(), tmp_path / "out", [], Transport(sleep=pauses.append))
    with pytest.raises(SourceError, match="only https is allowed"):
        fetch(hub(), tmp_path / "out", [])
    assert server.asked == []
    assert pauses == []


def test_redirect_to_plain_http_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def redirect(request: httpx2.Request) -> httpx2.Response:
        asked.append(str(request.url))
        return httpx2.Response(302, headers={"Location": "http://elsewhere.example.org/file?signature=1"})

    answering = httpx2.Client(transport=httpx2.MockTransport(redirect))
    monkeypatch.setattr(transports, "client", lambda: answering)
    source = Source.parse("https://data.example.org/file", SHA256, WHERE)
    with pytest.raises(
        SourceError, match=r"it leads to http://elsewhere\.example\.org; only https is allowed"
    ):
        fetch(source, tmp_path / "out", [])
    assert asked == ["https://data.example.org/file"]


def test_redirects_without_end(server: Server, tmp_path: Path, loopback: Loopback) -> None:
    server.answers[HUB_PATH] = [answer(302, Location=HUB_PATH)]
    with pytest.raises(SourceError, match="more than 10 redirects"):
        fetch(hub(), tmp_path / "out", [], loopback)
    assert len(server.asked) == 10 and loopback.pauses == []


def test_token_goes_to_the_hub(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loopback: Loopback
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret\n")
    server.answers[HUB_PATH] = [answer(307, Location="/moved")]
    server.answers["/moved"] = [answer(body=CONTENT)]
    fetch(hub(), tmp_path / "out", [], loopback)
    assert [headers.get("authorization") for _, headers in server.asked] == ["Bearer hf_secret"] * 2


def test_token_does_not_follow_a_redirect_to_another_host(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loopback: Loopback
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    server.answers[HUB_PATH] = [answer(302, Location=f"http://localhost:{server.port}/blob")]
    server.answers["/blob"] = [answer(body=CONTENT)]
    fetch(hub(), tmp_path / "out", [], loopback)
    assert (tmp_path / "out").read_bytes() == CONTENT
    assert [(path, headers.get("authorization")) for path, headers in server.asked] == [
        (HUB_PATH, "Bearer hf_secret"),
        ("/blob", None),
    ]


def test_token_is_not_for_other_sources_nor_for_messages(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loopback: Loopback
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    address = f"http://127.0.0.1:{server.port}"
    server.answers["/file"] = [answer(403)]
    server.answers[HUB_PATH] = [answer(403)]
    elsewhere = Source(f"{address}/file", SHA256, "https", f"127.0.0.1:{server.port}", "", "file")
    for source in (elsewhere, hub()):
        with pytest.raises(SourceError) as caught:
            fetch(source, tmp_path / "out", [], loopback)
        assert "hf_secret" not in str(caught.value)
    assert "authorization" not in server.asked[0][1]
    assert server.asked[1][1]["authorization"] == "Bearer hf_secret"


def test_token_that_cannot_be_sent_is_not_quoted(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loopback: Loopback
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_sec ret")
    with pytest.raises(ConfigError, match="HF_TOKEN") as caught:
        fetch(hub(), tmp_path / "out", [], loopback)
    assert "sec" not in str(caught.value)
    assert server.asked == []
