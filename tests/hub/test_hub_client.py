"""The adapter to the hub, through the real library, against a hub on the loopback with faults."""

import logging
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, constants, hf_hub_download

from ebbtide import transport
from ebbtide.checkpoints.hub.client import Hub, HubFile
from ebbtide.checkpoints.hub.digests import digest_of, digest_of_bytes
from ebbtide.checkpoints.hub.lock import LockedFile
from ebbtide.errors import CheckpointError, ConfigError
from ebbtide.transport import MAX_RATE_WINDOWS
from hub import SIGNATURE, FakeHub, Repo

TOKEN = "hf_ThisTokenMustNotLeak"
CONFIG = b'{"model_type": "gpt_neox"}'
WEIGHTS = bytes(range(256)) * 1000  # 256 kB
FILES: dict[str, bytes | Path | None] = {
    ".gitattributes": b"*.bin lfs",
    "config.json": CONFIG,
    "model.safetensors": WEIGHTS,
    "onnx/model.onnx": b"0",
}
NOWHERE = "0" * 40
AT_ONCE = (0.0, 0.0, 0.0)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub(tmp_path) as hub:
        hub.use(monkeypatch)
        yield hub


@pytest.fixture
def repo(hub: FakeHub) -> Repo:
    repo = hub.repo("lab/tiny")
    repo.commit("step1", FILES, date="2023-01-02")
    return repo


# Every call, as (what its requests' last path holds, the call).
Call = Callable[[Hub, Repo, Path], object]
CALLS: dict[str, tuple[str, Call]] = {
    "refs": ("/refs", lambda hub, repo, to: hub.refs(repo.name)),
    "files": ("/tree/", lambda hub, repo, to: hub.files(repo.name, repo.branches["step1"])),
    "read": ("config.json", lambda hub, repo, to: hub.read(repo.name, *small(repo))),
    "download": (
        "/resolve/.*model.safetensors",
        lambda hub, repo, to: hub.download(repo.name, repo.branches["step1"], "model.safetensors", to),
    ),
    "download, content network": (
        "/content/",
        lambda hub, repo, to: hub.download(repo.name, repo.branches["step1"], "model.safetensors", to),
    ),
}
every_call = pytest.mark.parametrize("which", CALLS)


def small(repo: Repo) -> tuple[str, str, LockedFile]:
    """Commit, name and description of the configuration."""
    return repo.branches["step1"], "config.json", LockedFile(digest_of_bytes(CONFIG, "git"), len(CONFIG))


def fetch(repo: Repo, to: Path, **options: Any) -> Path:
    """Download the weights."""
    return Hub(waits=AT_ONCE).download(repo.name, repo.branches["step1"], "model.safetensors", to, **options)


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def sentence(call: Callable[[], object]) -> str:
    """What a user reads; it is one sentence on one line."""
    with pytest.raises(CheckpointError) as caught:
        call()
    text = str(caught.value)
    assert text.endswith(".") and "\n" not in text
    return text


# What is there


def test_refs_are_branches_and_tags(repo: Repo) -> None:
    first = repo.branches["step1"]
    repo.tag("v1", "step1")
    repo.tag("step2", "step1")
    second = repo.commit("step2", {"config.json": b"{}"})
    assert Hub().refs("lab/tiny") == {"step1": first, "v1": first, "step2": second}


def test_files_are_those_of_the_top_directory_that_a_checkpoint_may_have(repo: Repo) -> None:
    commit = repo.branches["step1"]
    assert Hub().files("lab/tiny", commit) == [
        HubFile("config.json", len(CONFIG), digest_of_bytes(CONFIG, "git"), "2023-01-02"),
        HubFile("model.safetensors", len(WEIGHTS), digest_of_bytes(WEIGHTS, "sha256"), "2023-01-02"),
    ]


def test_a_file_has_the_date_of_the_commit_that_last_changed_it(repo: Repo) -> None:
    commit = repo.commit("step1", {"config.json": b"{}", "model.safetensors": WEIGHTS}, date="2024-05-06")
    dates = {file.name: file.date for file in Hub().files("lab/tiny", commit)}
    assert dates == {"config.json": "2024-05-06", "model.safetensors": "2023-01-02"}


@pytest.mark.parametrize("link_to", [None, "http://mirrored.invalid"])
def test_a_list_of_several_pages(hub: FakeHub, repo: Repo, link_to: str | None) -> None:
    hub.page_size, hub.link_to = 2, link_to
    names = [f"model-{i:05d}-of-00007.safetensors" for i in range(1, 8)]
    commit = repo.commit("many", {name: name.encode() for name in names})
    assert [file.name for file in Hub(waits=()).files("lab/tiny", commit)] == names
    assert hub.count("/tree/") == 4


def test_the_library_sees_the_same(hub: FakeHub, repo: Repo, tmp_path: Path) -> None:
    api, commit = HfApi(endpoint=hub.endpoint), repo.tag("v1", "step1")
    refs = api.list_repo_refs("lab/tiny")
    assert {ref.name: ref.target_commit for ref in refs.branches + refs.tags} == Hub().refs("lab/tiny")
    tree = {entry.path: entry for entry in api.list_repo_tree("lab/tiny", revision=commit, expand=True)}
    for file in Hub().files("lab/tiny", commit):
        entry = tree[file.name]
        digest = f"sha256:{entry.lfs.sha256}" if entry.lfs else f"git:{entry.blob_id}"
        date = entry.last_commit.date.date().isoformat()
        assert (entry.size, digest, date) == (file.size, file.digest, file.date)
    for name in ("config.json", "model.safetensors"):
        theirs = hf_hub_download(
            "lab/tiny", name, revision="v1", local_dir=tmp_path / "theirs", endpoint=hub.endpoint
        )
        ours = Hub().download("lab/tiny", commit, name, tmp_path / "ours")
        assert Path(theirs).read_bytes() == ours.read_bytes()


# Bytes


def test_read_gives_the_bytes(repo: Repo) -> None:
    assert Hub().read("lab/tiny", *small(repo)) == CONFIG


def test_read_refuses_other_bytes_than_were_listed(hub: FakeHub, repo: Repo) -> None:
    hub.corrupt("config.json")
    text = sentence(lambda: Hub().read("lab/tiny", *small(repo)))
    assert "config.json" in text and digest_of_bytes(CONFIG, "git") in text


def test_read_takes_no_more_than_was_listed(hub: FakeHub, repo: Repo) -> None:
    commit = repo.commit("long", {"config.json": b"1" * (1 << 20)})
    described = LockedFile("sha256:" + "0" * 64, 10)
    text = sentence(lambda: Hub().read("lab/tiny", commit, "config.json", described))
    taken = re.search(r"more than (\d+) bytes", text)
    assert taken and int(taken[1]) < 1 << 20
    described = LockedFile("sha256:" + "0" * 64, transport.MAX_READ_BYTES + 1)
    requests = len(hub.requests)
    assert "allowed" in sentence(lambda: Hub().read("lab/tiny", commit, "config.json", described))
    assert len(hub.requests) == requests


def test_download_leaves_the_file_and_nothing_else(hub: FakeHub, repo: Repo, tmp_path: Path) -> None:
    sizes: list[int] = []
    path = fetch(repo, tmp_path / "to", received=sizes.append)
    assert path == tmp_path / "to/model.safetensors" and path.read_bytes() == WEIGHTS
    assert names_in(tmp_path / "to") == ["model.safetensors"] and not path.is_symlink()
    assert sizes == sorted(sizes) and sizes[-1] == len(WEIGHTS)
    assert not Path(hub.environment()["HF_HOME"]).exists()


@pytest.mark.parametrize("fault", [FakeHub.truncate, FakeHub.stall])
def test_a_broken_download_goes_on_where_it_broke(
    hub: FakeHub, repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Any
) -> None:
    monkeypatch.setattr(transport, "TIMEOUT", 0.5)
    fault(hub, "model.safetensors")
    assert fetch(repo, tmp_path).read_bytes() == WEIGHTS
    assert [r.range for r in hub.requests if "/content/" in r.path] == [None, f"bytes={len(WEIGHTS) // 2}-"]
    assert hub.served["model.safetensors"] == len(WEIGHTS)


def test_a_killed_download_goes_on_in_the_next_run(hub: FakeHub, repo: Repo, tmp_path: Path) -> None:
    hub.stall("model.safetensors")
    program = (
        "import pathlib, sys; from ebbtide.checkpoints.hub.client import Hub; "
        "Hub().download('lab/tiny', sys.argv[1], 'model.safetensors', pathlib.Path(sys.argv[2]), "
        "lambda size: print(size, flush=True))"
    )
    command = [sys.executable, "-c", program, repo.branches["step1"], str(tmp_path / "to")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            if int(line) == len(WEIGHTS) // 2:
                break
        process.kill()
    assert not (tmp_path / "to/model.safetensors").exists()
    assert fetch(repo, tmp_path / "to").read_bytes() == WEIGHTS
    again = hub.served["model.safetensors"] - len(WEIGHTS)
    assert again < 10_000  # what the killed process had not yet handed to the disk
    assert names_in(tmp_path / "to") == ["model.safetensors"]


@pytest.mark.parametrize(
    "before", [WEIGHTS, WEIGHTS + b"more", WEIGHTS[:1000]], ids=["whole", "longer", "part"]
)
@pytest.mark.parametrize("ignore_ranges", [False, True])
def test_any_part_becomes_the_file(
    hub: FakeHub, repo: Repo, tmp_path: Path, before: bytes, ignore_ranges: bool
) -> None:
    hub.ignore_ranges = ignore_ranges
    part(repo, tmp_path).write_bytes(before)
    assert fetch(repo, tmp_path).read_bytes() == WEIGHTS
    if before == WEIGHTS and not ignore_ranges:
        assert hub.bytes_served == 0


def test_the_part_of_another_commit_is_not_used(hub: FakeHub, repo: Repo, tmp_path: Path) -> None:
    old = part(repo, tmp_path)
    old.write_bytes(WEIGHTS[:1000])
    index = old.with_name(old.name.replace("safetensors", "safetensors.index.json"))
    index.touch()  # of another file: it stays
    repo.commit("step1", {"model.safetensors": WEIGHTS[::-1]})
    assert fetch(repo, tmp_path).read_bytes() == WEIGHTS[::-1]
    assert not old.exists() and index.exists()


def test_a_link_in_place_of_a_part_is_not_followed(repo: Repo, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_bytes(b"mine")
    part(repo, tmp_path).symlink_to(mine)
    assert fetch(repo, tmp_path).read_bytes() == WEIGHTS
    assert mine.read_bytes() == b"mine"


def part(repo: Repo, to: Path) -> Path:
    """Where the weights lie until they are whole."""
    return to / f".model.safetensors.{repo.branches['step1'][:12]}.part"


# Faults that pass


@every_call
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_fault_that_passes_is_not_seen(
    hub: FakeHub, repo: Repo, tmp_path: Path, which: str, status: int
) -> None:
    pattern, call = CALLS[which]
    hub.fail(pattern, [status, status])
    waits: list[float] = []
    call(Hub(sleep=waits.append), repo, tmp_path)
    assert hub.count(pattern) == 3 and waits == [1, 2]


@every_call
def test_a_connection_that_breaks_is_not_seen(hub: FakeHub, repo: Repo, tmp_path: Path, which: str) -> None:
    pattern, call = CALLS[which]
    hub.hang_up(pattern, 2)
    call(Hub(waits=AT_ONCE), repo, tmp_path)
    assert hub.count(pattern) == 3


@every_call
def test_the_hub_says_how_long_to_wait(hub: FakeHub, repo: Repo, tmp_path: Path, which: str) -> None:
    pattern, call = CALLS[which]
    hub.fail(pattern, [429, 429], retry_after=7)
    waits: list[float] = []
    call(Hub(sleep=waits.append), repo, tmp_path)
    assert waits == [7, 7]


def test_the_rest_of_a_rate_limits_window_is_waited_for() -> None:
    from ebbtide.transport import _retry_after

    assert _retry_after({"RateLimit": '"api";r=0;t=55', "Retry-After": "3"}) == 55
    assert _retry_after({"RateLimit": '"api";r=20;t=55', "Retry-After": "3"}) == 3
    assert _retry_after({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0


def test_progress_earns_new_tries(
    hub: FakeHub, repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.truncate("model.safetensors", 10)
    text = sentence(lambda: fetch(repo, tmp_path))
    assert "after 4 tries" in text and "it resumes" in text
    monkeypatch.setattr(transport, "PROGRESS_BYTES", 100)
    assert fetch(repo, tmp_path).read_bytes() == WEIGHTS
    assert hub.served["model.safetensors"] == len(WEIGHTS)


# Faults that stay


@every_call
@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_fault_that_stays_ends_soon(
    hub: FakeHub, repo: Repo, tmp_path: Path, which: str, status: int
) -> None:
    pattern, call = CALLS[which]
    hub.fail(pattern, [status] * 10_000)
    waits: list[float] = []
    text = sentence(lambda: call(Hub(sleep=waits.append), repo, tmp_path))
    assert hub.count(pattern) == len(transport.WAITS) + 1 == len(waits) + 1
    assert 30 < sum(waits) <= transport.STALL_LIMIT
    assert f"{hub.endpoint}/lab/tiny" in text and f"HTTP {status} after 7 tries" in text
    assert "run the same command again" in text


def test_a_hub_that_asks_for_patience_gets_no_more_than_there_is(hub: FakeHub, repo: Repo) -> None:
    hub.fail("refs", [429] * 100, retry_after=50)
    waits: list[float] = []
    assert "after 3 tries" in sentence(lambda: Hub(sleep=waits.append).refs("lab/tiny"))
    assert waits == [50] * (MAX_RATE_WINDOWS + 2)  # the windows it names, and then what patience is left


def test_the_window_of_a_rate_limit_is_waited_for(hub: FakeHub, repo: Repo) -> None:
    hub.fail("refs", [429], retry_after=280)
    waits: list[float] = []
    assert Hub(sleep=waits.append).refs("lab/tiny")
    assert waits == [280]


def test_nobody_waits_for_an_hour(hub: FakeHub, repo: Repo) -> None:
    hub.fail("refs", [429], retry_after=3600)
    waits: list[float] = []
    assert "asked to wait 3600 s" in sentence(lambda: Hub(sleep=waits.append).refs("lab/tiny"))
    assert not waits and hub.count("refs") == 1


@every_call
def test_a_hub_that_is_down(hub: FakeHub, repo: Repo, tmp_path: Path, which: str) -> None:
    _, call = CALLS[which]
    hub.close()
    text = sentence(lambda: call(Hub(waits=AT_ONCE), repo, tmp_path))
    assert f"cannot connect to {hub.endpoint}" in text and "after 4 tries" in text


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), 1),
        (ssl.SSLCertVerificationError(1, "certificate verify failed"), 1),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), 4),
    ],
)
def test_a_host_that_is_unknown_or_false_is_final(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, error: OSError, tries: int
) -> None:
    asked = []

    def resolve(*host: object, **options: object) -> None:
        asked.append(host)
        raise error

    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    text = sentence(lambda: Hub(waits=AT_ONCE).refs("lab/tiny"))
    assert "cannot connect to http://hub.invalid" in text and error.strerror in text
    assert len(asked) == tries and ("run the same command again" in text) == (tries > 1)


@pytest.mark.parametrize("endpoint", ["ftp://hub", "hub", "http://[hub", "http://hub/?x", "http://hub x"])
def test_an_endpoint_that_is_none(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    text = sentence(Hub)
    assert "HF_ENDPOINT" in text and repr(endpoint) in text


@every_call
def test_what_is_not_there_is_asked_for_once(hub: FakeHub, repo: Repo, tmp_path: Path, which: str) -> None:
    pattern, call = CALLS[which]
    hub.fail(pattern, [404, 200])
    assert "HTTP 404" in sentence(lambda: call(Hub(waits=AT_ONCE), repo, tmp_path))
    assert hub.count(pattern) == 1


@pytest.mark.parametrize("token", ["", TOKEN])
def test_a_repository_that_is_not_there(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    text = sentence(lambda: Hub(waits=AT_ONCE).refs("lab/none"))
    assert "the repository does not exist" in text and f"{hub.endpoint}/lab/none" in text
    assert ("set HF_TOKEN" in text) == (not token) and len(hub.requests) == 1


def test_a_revision_or_file_that_is_not_there(hub: FakeHub, repo: Repo, tmp_path: Path) -> None:
    commit, asking = repo.branches["step1"], Hub(waits=AT_ONCE)
    described = LockedFile("git:" + NOWHERE, 1)
    for text in (
        sentence(lambda: asking.files("lab/tiny", NOWHERE)),
        sentence(lambda: asking.read("lab/tiny", NOWHERE, "config.json", described)),
        sentence(lambda: asking.download("lab/tiny", NOWHERE, "config.json", tmp_path)),
    ):
        assert "no such revision" in text and NOWHERE[:12] in text
    for text in (
        sentence(lambda: asking.read("lab/tiny", commit, "none.json", described)),
        sentence(lambda: asking.download("lab/tiny", commit, "none.json", tmp_path)),
    ):
        assert "no such file" in text and "none.json" in text
    assert len(hub.requests) == 5


def test_a_gated_repository(
    hub: FakeHub, repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo.gate(TOKEN)
    text = sentence(lambda: fetch(repo, tmp_path))
    assert "gated (HTTP 401)" in text and f"{hub.endpoint}/lab/tiny" in text and "HF_TOKEN" in text
    monkeypatch.setenv("HF_TOKEN", "hf_stranger")
    text = sentence(lambda: fetch(repo, tmp_path))
    assert "gated (HTTP 403)" in text and "token in use" in text
    assert hub.count("resolve") == 2
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert fetch(repo, tmp_path).read_bytes() == WEIGHTS


def test_the_token_of_the_login_file(hub: FakeHub, repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    repo.hide(TOKEN)
    assert "private" in sentence(lambda: Hub().refs("lab/tiny"))
    Path(constants.HF_TOKEN_PATH).parent.mkdir()
    Path(constants.HF_TOKEN_PATH).write_text(TOKEN)
    assert Hub().refs("lab/tiny") == repo.branches
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    assert "private" in sentence(lambda: Hub().refs("lab/tiny"))


@pytest.mark.parametrize("which", ["refs", "files"])
def test_a_network_that_answers_in_place_of_the_hub(
    hub: FakeHub, repo: Repo, tmp_path: Path, which: str
) -> None:
    pattern, call = CALLS[which]
    hub.fail(pattern, [200])  # {"error": …}, as good as a login page
    assert "not from a hub" in sentence(lambda: call(Hub(), repo, tmp_path))


def test_offline_mode_is_named(
    hub: FakeHub, repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for _, call in CALLS.values():
        assert "HF_HUB_OFFLINE" in sentence(lambda call=call: call(Hub(), repo, tmp_path))
    assert not hub.requests


# What a hub must not get us to do


@pytest.mark.parametrize(
    "name", ["../../evil.py", "a/../../x", "/etc/passwd", "sub/config.json", "a\\b", "..", "-rf", ""]
)
def test_a_hostile_listing_is_refused(hub: FakeHub, repo: Repo, name: str) -> None:
    hub.malicious("lab/tiny", name)
    assert repr(name) in sentence(lambda: Hub().files("lab/tiny", repo.branches["step1"]))


@pytest.mark.parametrize("name", [".gitattributes", "a b.txt", "é.json", "~", "x;y"])
def test_an_odd_name_is_skipped(hub: FakeHub, repo: Repo, name: str) -> None:
    hub.malicious("lab/tiny", name)
    assert len(Hub().files("lab/tiny", repo.branches["step1"])) == 2


@pytest.mark.parametrize(
    ("repo_name", "commit", "name"),
    [
        ("lab/../other", NOWHERE, "config.json"),
        ("https://x/y", NOWHERE, "config.json"),
        ("lab/tiny/refs", NOWHERE, "config.json"),
        ("lab/tiny", "main", "config.json"),
        ("lab/tiny", NOWHERE, "../config.json"),
        ("lab/tiny", NOWHERE, ".."),
    ],
)
def test_what_names_no_file_of_a_commit_is_not_asked_for(
    hub: FakeHub, tmp_path: Path, repo_name: str, commit: str, name: str
) -> None:
    sentence(lambda: Hub().download(repo_name, commit, name, tmp_path))
    sentence(lambda: Hub().read(repo_name, commit, name, LockedFile("git:" + NOWHERE, 1)))
    assert not hub.requests


def test_the_token_is_nowhere_but_in_requests_to_the_hub(
    hub: FakeHub,
    repo: Repo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(logging.getLogger("ebbtide"), "propagate", True)
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "ebbtide")
    told = []
    hub.page_size = 1
    for number, (pattern, call) in enumerate(CALLS.values()):
        call(Hub(), repo, tmp_path / f"to{number}")
        for status in (401, 403, 404, 418, 500):
            hub.fail(pattern, [status] * (2 if status == 500 else 1))
            told.append(sentence(lambda call=call: call(Hub(waits=[0]), repo, tmp_path / "failed")))
    repo.gate()
    told.append(sentence(lambda: fetch(repo, tmp_path)))
    assert hub.count("/content/") and all(r.had_token == ("/content/" not in r.path) for r in hub.requests)
    assert "retrying" in caplog.text
    for bad in (f"{TOKEN} x", f"{TOKEN}\x7f", f"{TOKEN}é"):
        monkeypatch.setenv("HF_TOKEN", bad)
        with pytest.raises(ConfigError, match="HF_TOKEN") as caught:
            Hub().refs("lab/tiny")
        told.append(str(caught.value))
    hub.close()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    told.append(sentence(lambda: Hub(waits=[0]).refs("lab/tiny")))
    assert TOKEN not in caplog.text + "".join(told) and SIGNATURE not in "".join(told)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files and not any(TOKEN.encode() in path.read_bytes() for path in files)


@pytest.mark.parametrize("module", ["ebbtide.checkpoints.hub.client", "ebbtide.sources"])
def test_importing_is_cheap(module: str) -> None:
    heavy = "{'huggingface_hub', 'httpx2', 'torch', 'pandas'}"
    program = f"import sys, {module}; print(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Digests


def test_digests_are_those_of_sha256sum_and_git(tmp_path: Path) -> None:
    path = tmp_path / "hello"
    path.write_bytes(b"hello\n")
    assert digest_of(path, "git") == "git:ce013625030ba8dba906f756967f9e9ca394464a"
    sha256 = "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    assert digest_of(path, "sha256") == digest_of_bytes(b"hello\n", "sha256") == sha256
    path.write_bytes(b"12345678" * (1 << 18))  # more than one piece
    for kind in ("git", "sha256"):
        assert digest_of(path, kind) == digest_of_bytes(path.read_bytes(), kind)
    with pytest.raises(ValueError, match=re.escape("'md5'")):
        digest_of(path, "md5")
