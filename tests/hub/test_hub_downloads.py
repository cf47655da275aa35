"""Downloads are bounded by the size in the lock, whatever the hub announces and sends."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ebbtide.checkpoints.hub.client import Hub
from ebbtide.errors import CheckpointError
from hub import SIGNATURE, FakeHub, Repo

WEIGHTS = bytes(range(256)) * 220  # 56,320 bytes
NAME = "model.safetensors"
TOKEN = "hf_ThisTokenMustNotLeak"
AT_ONCE = (0.0, 0.0, 0.0)
BODY = "/content/"  # path of the bytes of large files


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub(tmp_path) as running:
        running.use(monkeypatch, HF_TOKEN=TOKEN)
        yield running


@pytest.fixture
def repo(hub: FakeHub) -> Repo:
    repo = hub.repo("lab/tiny")
    repo.commit("step1", {NAME: WEIGHTS})
    return repo


def part(repo: Repo, to: Path) -> Path:
    """Where a download lies until it is whole."""
    to.mkdir(exist_ok=True)
    return to / f".{NAME}.{repo.branches['step1'][:12]}.part"


def fetch(repo: Repo, to: Path) -> Path:
    return Hub(waits=AT_ONCE).download(repo.name, repo.branches["step1"], NAME, to, size=len(WEIGHTS))


def refused(repo: Repo, to: Path) -> str:
    """The sentence of a failed download, which leaves nothing and does not leak."""
    with pytest.raises(CheckpointError) as caught:
        fetch(repo, to)
    text = str(caught.value)
    assert text.startswith("CheckpointError: http://127.0.0.1:") and text.endswith(".") and "\n" not in text
    assert f"lab/tiny, {NAME} of commit {repo.branches['step1'][:12]}: " in text
    assert TOKEN not in text and SIGNATURE not in text
    return text


@pytest.mark.parametrize("length", [-1, None])
def test_300_megabytes_for_55_kilobytes_stop_at_the_first_byte_beyond(
    hub: FakeHub, repo: Repo, tmp_path: Path, length: int | None
) -> None:
    hub.reply(BODY, bytes(1 << 20), repeat=300, length=length)
    text = refused(repo, tmp_path / "to")
    found = "found 314572800 bytes, expected 56320" if length else "found more than the expected 56320 bytes"
    assert f"{found}, so the download was stopped and deleted; check proxies and HF_ENDPOINT" in text
    assert list((tmp_path / "to").iterdir()) == []
    assert hub.count(BODY) == 1  # no second attempt
    assert hub.bytes_served < 30 << 20  # what lies in the buffers of two sockets


def test_more_than_announced_is_not_written(hub: FakeHub, repo: Repo, tmp_path: Path) -> None:
    """The true size is announced; the bytes after it belong to no answer and end the connection."""
    hub.reply(BODY, WEIGHTS, repeat=3, length=len(WEIGHTS))
    assert fetch(repo, tmp_path).read_bytes() == WEIGHTS


def test_a_smaller_file_is_an_error(hub: FakeHub, repo: Repo, tmp_path: Path) -> None:
    hub.reply(BODY, WEIGHTS[:1000])
    assert "found 1000 bytes, expected 56320, so the" in refused(repo, tmp_path / "to")
    assert list((tmp_path / "to").iterdir()) == []


def test_a_body_without_a_length_that_ends_early_is_resumed(hub: FakeHub, repo: Repo, tmp_path: Path) -> None:
    hub.reply(BODY, WEIGHTS[:1000], length=None)
    text = refused(repo, tmp_path / "to")
    assert "found no range from byte 1000 (HTTP 200)" in text or "ended after 1000 of 56320 bytes" in text
    hub._replies.clear()
    assert fetch(repo, tmp_path / "to").read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("status", "content_range"),
    [
        (206, "bytes 1000-56319/999999"),
        (206, "bytes 1001-56319/56320"),
        (206, "bytes 5-4/3"),
        (206, "bytes 1000-56319/" + "9" * 5000),
        (206, "lines 1-2"),
        (416, "bytes */7"),
        (416, ""),
    ],
)
def test_a_range_that_lies_begins_the_file_again(
    hub: FakeHub, repo: Repo, tmp_path: Path, status: int, content_range: str
) -> None:
    part(repo, tmp_path / "to").write_bytes(WEIGHTS[:1000])
    hub.reply(BODY, WEIGHTS[1000:], status=status, header={"Content-Range": content_range})
    assert f"HTTP {status}" in refused(repo, tmp_path / "to")
    assert list((tmp_path / "to").iterdir()) == []
    hub._replies.clear()
    assert fetch(repo, tmp_path / "to").read_bytes() == WEIGHTS


def test_the_whole_file_as_a_range_is_taken(hub: FakeHub, repo: Repo, tmp_path: Path) -> None:
    part(repo, tmp_path / "to").write_bytes(WEIGHTS[:1000])
    hub.reply(BODY, WEIGHTS, status=206, header={"Content-Range": "bytes 0-56319/56320"})
    assert fetch(repo, tmp_path / "to").read_bytes() == WEIGHTS


def test_a_range_longer_than_the_rest_is_stopped(hub: FakeHub, repo: Repo, tmp_path: Path) -> None:
    part(repo, tmp_path / "to").write_bytes(WEIGHTS[:1000])
    header = {"Content-Range": f"bytes 1000-56319/{len(WEIGHTS)}"}
    hub.reply(BODY, bytes(1 << 20), status=206, header=header, repeat=50, length=None)
    assert "found more than the expected 56320 bytes" in refused(repo, tmp_path / "to")
    assert list((tmp_path / "to").iterdir()) == []


def test_a_range_of_unknown_total_is_taken(hub: FakeHub, repo: Repo, tmp_path: Path) -> None:
    part(repo, tmp_path / "to").write_bytes(WEIGHTS[:1000])
    hub.reply(BODY, WEIGHTS[1000:], status=206, header={"Content-Range": "bytes 1000-56319/*"})
    assert fetch(repo, tmp_path / "to").read_bytes() == WEIGHTS


def test_a_part_longer_than_the_file_is_not_resumed(hub: FakeHub, repo: Repo, tmp_path: Path) -> None:
    part(repo, tmp_path / "to").write_bytes(WEIGHTS + b"x")
    assert fetch(repo, tmp_path / "to").read_bytes() == WEIGHTS
    assert [request.range for request in hub.requests if BODY in request.path] == [None]


def test_the_token_goes_to_no_other_host_on_the_way(hub: FakeHub, repo: Repo, tmp_path: Path) -> None:
    """Two redirects: to another host, and from there back to the hub."""
    commit = repo.branches["step1"]
    sha256 = repo.file("step1", NAME).sha256
    back = {"Location": f"{hub.endpoint}/content/{sha256}/back?Signature={SIGNATURE}"}
    hub.reply("/away", b"", status=302, header=back)
    hub.reply(f"/resolve/{commit}/", b"", status=302, header={"Location": f"{hub.content}/away"})
    assert fetch(repo, tmp_path).read_bytes() == WEIGHTS
    assert [(r.path.split("/")[1], r.had_token) for r in hub.requests] == [
        ("lab", True),
        ("away", False),
        ("content", False),
    ]


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://host/x", "https://[", "http://hub.invalid:99999/", "\t", "//"]
)
def test_a_redirect_to_nowhere_is_a_sentence(hub: FakeHub, repo: Repo, tmp_path: Path, location: str) -> None:
    hub.reply("/resolve/", b"", status=302, header={"Location": location})
    refused(repo, tmp_path / "to")


def test_redirects_without_end_are_a_sentence(hub: FakeHub, repo: Repo, tmp_path: Path) -> None:
    hub.reply("/resolve/|/away", b"", status=302, header={"Location": "/away"})
    assert "more than 10 redirects" in refused(repo, tmp_path / "to")


def test_a_compressed_body_is_bounded_by_what_it_becomes(hub: FakeHub, repo: Repo, tmp_path: Path) -> None:
    import gzip

    header: dict[str, Any] = {"Content-Encoding": "gzip"}
    hub.reply(BODY, gzip.compress(bytes(50 << 20)), header=header)
    assert "found more than the expected 56320 bytes" in refused(repo, tmp_path / "to")
    hub.reply(BODY, gzip.compress(WEIGHTS), header=header)
    assert fetch(repo, tmp_path / "to").read_bytes() == WEIGHTS
