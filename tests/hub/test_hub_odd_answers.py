"""Whatever a hub answers: a result or one sentence, no traceback, no token, no write outside."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import locks
from ebbtide import transport
from ebbtide.checkpoints.findings import CLASSES, WARN
from ebbtide.checkpoints.hub.audit import audit
from ebbtide.checkpoints.hub.catalogue import PRETRAINING, HubModel, Stage, checkpoint_of
from ebbtide.checkpoints.hub.client import Hub
from ebbtide.checkpoints.hub.digests import digest_of_bytes
from ebbtide.checkpoints.hub.fetch import fetch
from ebbtide.checkpoints.hub.lock import Index, Locked, LockedFile, read_lock, write_lock
from ebbtide.checkpoints.hub.notices import hub_notices
from ebbtide.checkpoints.hub.resolve import lock_study
from ebbtide.errors import EbbtideError
from hub import FakeHub

TOKEN = "hf_ThisTokenMustNotLeak"
AT_ONCE = (0.0,)
COMMIT = "0123456789" * 4
ACTIONS = dict.fromkeys(CLASSES, WARN)
BOUNDED = settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

names = st.sampled_from(
    [
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "model.safetensors.index.json",
        "model-00001-of-00002.safetensors",
        "../../evil.py",
        "/etc/passwd",
        "a\\b.py",
        "c:\\x.py",
        "sub/config.json",
        "..",
        "",
        "\x00",
        "a\nb",
        "\ud83d",
        "step1\x1b[31m",
        "x" * 5000,
        "-rf",
        TOKEN,
    ]
) | st.text(max_size=8)
numbers = st.sampled_from(
    [None, 0, -1, 1, 5, True, 1.5, "5", 10**20, 10**400, 1 << 50, float("nan"), float("inf")]
)
scalars = st.none() | st.booleans() | numbers | names
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
commits = st.sampled_from([COMMIT, "main", "", COMMIT.upper(), COMMIT + "0", None, 7])
refs = st.fixed_dictionaries(
    {}, optional={"name": st.sampled_from(["step1", "step8", "main"]) | scalars, "targetCommit": commits}
)
ref_pages = st.fixed_dictionaries(
    {}, optional={"branches": st.lists(refs | values, max_size=3), "tags": values}
)
lfs = st.fixed_dictionaries(
    {}, optional={"oid": st.sampled_from(["a" * 64, "A" * 64, "", 5]), "size": numbers}
)
entries = st.fixed_dictionaries(
    {"type": st.sampled_from(["file", "file", "directory"]) | scalars},
    optional={
        "path": names,
        "oid": st.sampled_from(["b" * 40, "", None]),
        "size": numbers,
        "lfs": lfs | values,
        "lastCommit": st.fixed_dictionaries({}, optional={"date": st.sampled_from(["2023-99-99", "now", 5])})
        | values,
    },
)
tree_pages = st.lists(entries | values, max_size=4)
header_names = st.sampled_from(
    ["Location", "Link", "Retry-After", "RateLimit", "Content-Range", "Content-Encoding", "X-Error-Code"]
)
header_values = st.sampled_from(
    [
        "",
        "/",
        "//x",
        "file:///etc/passwd",
        "http://[",
        "<>; rel=next",
        '<?a=1>; rel="next"',
        "<http://elsewhere.invalid/>; rel=next",
        "9" * 5000,
        "Wed, 99 Foo 99999999999 07:28:00 GMT",
        "bytes 0-4/5",
        "bytes */" + "9" * 5000,
        "gzip",
        "br",
        "GatedRepo",
        "RevisionNotFound",
        "EntryNotFound",
    ]
)


def as_json(document: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """The bytes of a document, or of something that is no JSON."""
    broken = st.sampled_from(
        [
            b"",
            b"<html><title>Log in</title></html>",
            b"\xff\xfe\x00",
            b"[" * 100_000,
            b"9" * 5000,
            b'{"branches": [], "tags": []',
            b'"' + TOKEN.encode() + b'"',
            b"\x1f\x8b\x08\x00",
        ]
    )
    return document.map(lambda value: json.dumps(value).encode()) | broken


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    with pytest.MonkeyPatch.context() as patch, FakeHub(tmp_path_factory.mktemp("odd")) as running:
        running.use(patch, HF_TOKEN=TOKEN)
        patch.setattr(transport, "TIMEOUT", 2.0)
        repo = running.repo("lab/tiny")
        config = json.dumps(locks.CONFIG).encode()
        for branch in ("step1", "step8", "main"):
            files = {"config.json": config, "tokenizer.json": b"{}", "model.safetensors": branch.encode()}
            repo.commit(branch, files)
        yield running


def outcome(call: Callable[[], object]) -> str:
    """What a user reads: nothing, or one sentence without the token."""
    try:
        call()
    except EbbtideError as error:
        text = str(error)
        assert text.endswith((".", "?")) and text.isprintable() and TOKEN not in text and len(text) < 1000
        return text
    return ""


def suite(**changes: Any) -> HubModel:
    stage = Stage(PRETRAINING, ("step{step}",), (1, 8), tokens_per_step=100)
    return locks.model((), stages=(stage,), architecture=locks.CONFIG, **changes)


def everything(tmp_path: Path) -> None:
    """Lock, audit and notices, and what planning makes of them; then all of it by the lock on disk."""
    path = tmp_path / "work/s.lock.json"
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    try:
        for message in lock_study([suite()], Hub(waits=AT_ONCE), path):
            assert message.isprintable() and TOKEN not in message
    finally:
        lock = read_lock(path)
        if suite().is_listed(lock):
            findings = audit([suite()], lock, ACTIONS)
            assert all("".join(f.row().values()).isprintable() for f in findings)
            hub_notices([suite()], lock)
            for wanted in suite().wanted(lock):
                if wanted.locked:
                    checkpoint_of(suite(), wanted, wanted.locked, lock)


def unchanged(tmp_path: Path) -> None:
    """Nothing was written but below the directory of work."""
    assert {path.name for path in tmp_path.iterdir()} <= {"work"}
    assert not Path("/tmp/evil.py").exists() and not (tmp_path.parent / "evil.py").exists()


@BOUNDED
@given(body=as_json(ref_pages))
def test_odd_lists_of_branches(hub: FakeHub, tmp_path: Path, body: bytes) -> None:
    hub._replies.clear()
    hub.reply("/refs$", body)
    outcome(lambda: everything(tmp_path))
    unchanged(tmp_path)


@BOUNDED
@given(body=as_json(tree_pages))
def test_odd_lists_of_files(hub: FakeHub, tmp_path: Path, body: bytes) -> None:
    hub._replies.clear()
    hub.reply("/tree/", body)
    outcome(lambda: everything(tmp_path))
    unchanged(tmp_path)


@BOUNDED
@given(body=as_json(values), name=st.sampled_from(["config.json", "model.safetensors.index.json"]))
def test_odd_small_files(hub: FakeHub, tmp_path: Path, body: bytes, name: str) -> None:
    """Files that are what the listing says, and whose content is odd."""
    hub._replies.clear()
    entries = [
        {"type": "file", "path": name, "oid": digest_of_bytes(body, "git")[4:], "size": len(body)},
        {"type": "file", "path": "model-00001-of-00001.safetensors", "oid": "b" * 40, "size": 5},
    ]
    hub.reply("/tree/", json.dumps(entries).encode())
    hub.reply(f"/resolve/.*{name}", body)
    outcome(lambda: everything(tmp_path))
    unchanged(tmp_path)


@BOUNDED
@given(
    reply=st.fixed_dictionaries(
        {
            "status": st.sampled_from(
                [100, 200, 204, 206, 301, 302, 307, 400, 401, 403, 404, 410, 416, 429, 500, 503]
            ),
            "body": st.binary(max_size=30),
            "length": st.sampled_from([-1, None, 0, 3, 10**17]),
            "header": st.dictionaries(header_names, header_values, max_size=3),
        }
    )
)
def test_odd_answers_to_any_request(hub: FakeHub, tmp_path: Path, reply: dict[str, Any]) -> None:
    hub._replies.clear()
    hub.reply("/lab/tiny/", **reply)
    commit = hub.repo("lab/tiny").branches["step1"]
    asked = Hub(waits=AT_ONCE, sleep=lambda seconds: None)
    work = tmp_path / "work"
    for call in (
        lambda: asked.refs("lab/tiny"),
        lambda: asked.files("lab/tiny", commit),
        lambda: asked.has("lab/tiny", commit),
        lambda: asked.read("lab/tiny", commit, "config.json", LockedFile("git:" + "b" * 40, 5)),
        lambda: asked.download("lab/tiny", commit, "model.safetensors", work, size=5),
    ):
        outcome(call)
    unchanged(tmp_path)
    assert all(path.stat().st_size <= 5 for path in work.rglob("*") if path.is_file())


@BOUNDED
@given(
    named=st.tuples(st.just("config.json"), as_json(values))
    | st.tuples(st.just("model.safetensors"), st.binary(max_size=40))
)
def test_odd_files_are_fetched_or_refused(hub: FakeHub, tmp_path: Path, named: tuple[str, bytes]) -> None:
    """Files that are what the lock says, and whose content is odd."""
    hub._replies.clear()
    repo = hub.repo("lab/tiny")
    contents = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": b"5", **dict([named])}
    files = {n: LockedFile(digest_of_bytes(content, "git"), len(content)) for n, content in contents.items()}
    for n, content in contents.items():
        hub.reply(f"/resolve/.*{n}$", content)
    locked = Locked("lab/tiny", "step1", repo.branches["step1"], 1, files)
    outcome(lambda: fetch(Hub(waits=AT_ONCE), locked, tmp_path / "work/hub-1", format="safetensors"))
    unchanged(tmp_path)


@BOUNDED
@given(document=values, keys=st.lists(st.integers(0, 6), min_size=1, max_size=6))
def test_odd_locks(tmp_path: Path, document: Any, keys: list[int]) -> None:
    """A lock in which one value, at any depth, is another."""
    assume(TOKEN not in json.dumps(document))
    path = tmp_path / "work/s.lock.json"
    path.parent.mkdir(exist_ok=True)
    whole = locks.lock({1: locks.files("a", "b"), 8: locks.files("c")})
    indices = {locks.git("index"): Index(("model-00001-of-00002.safetensors",), 9)}
    write_lock(replace(whole, indices=indices, pointers={locks.git("words"): False}), path)
    content: Any = json.loads(path.read_text())
    place: Any = content
    for key in keys:
        inner = list(place)[key % len(place)]
        if not isinstance(place[inner], dict) or not place[inner] or key == keys[-1]:
            break
        place = place[inner]
    place[inner] = document
    path.write_text(json.dumps(content))

    def use() -> None:
        lock = read_lock(path)
        model = suite(name="tiny")
        if model.is_listed(lock):
            audit([model], lock, ACTIONS)
            hub_notices([model], lock)
            for wanted in model.wanted(lock):
                if wanted.locked:
                    checkpoint_of(model, wanted, wanted.locked, lock)

    outcome(use)
    unchanged(tmp_path)


def test_names_with_the_token_or_control_characters_are_not_printed(hub: FakeHub, tmp_path: Path) -> None:
    hub._replies.clear()
    for name in (TOKEN, f"step1\n{TOKEN}", "step1\x1b[31m"):
        ref = {"name": name, "targetCommit": "nowhere"}
        hub.reply("/refs$", json.dumps({"branches": [ref], "tags": []}).encode())
        text = outcome(lambda: Hub(waits=AT_ONCE).refs("lab/tiny"))
        assert "the answer is not from a hub (ValueError: " in text
    assert os.environ["HF_TOKEN"] == TOKEN
