"""Listings of several pages: all of them are read, from this hub only, and never for ever."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ebbtide.checkpoints.hub import client
from ebbtide.checkpoints.hub.client import Hub
from ebbtide.errors import CheckpointError
from hub import FakeHub, Repo

STEPS = (0, 1, 8, 16, 32, 64)
TOKEN = "hf_ThisTokenMustNotLeak"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub(tmp_path) as running:
        running.use(monkeypatch, HF_TOKEN=TOKEN)
        yield running


@pytest.fixture
def repo(hub: FakeHub) -> Repo:
    """Six steps, then `main` and a tag, which the last pages list."""
    repo = hub.repo("lab/tiny")
    for step in STEPS:
        repo.commit(f"step{step}", {"config.json": b"{}", "model.safetensors": f"weights {step}".encode()})
    repo.commit("main", {}, parent="step64")
    repo.tag("v1", "step8")
    return repo


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize(
    "links", ["{root}{path}?{query}", "{path}?{query}", "?{query}", "http://elsewhere.invalid/other?{query}"]
)
def test_branches_and_tags_of_all_pages(hub: FakeHub, repo: Repo, size: int, links: str) -> None:
    hub.refs_page_size, hub.links = size, links
    assert Hub(waits=()).refs("lab/tiny") == {**repo.branches, **repo.tags}
    assert hub.count("/refs") == -(-8 // size)
    assert all(request.had_token and request.path.endswith("/refs") for request in hub.requests)


def test_a_branch_hides_a_tag_of_the_same_name_on_another_page(hub: FakeHub, repo: Repo) -> None:
    hub.refs_page_size = 1
    repo.tag("step8", "step1")
    assert Hub().refs("lab/tiny")["step8"] == repo.branches["step8"]


@pytest.mark.parametrize("call", ["refs", "files"])
def test_a_link_that_leads_back_is_an_error(hub: FakeHub, repo: Repo, call: str) -> None:
    hub.refs_page_size, hub.page_size, hub.links_loop = 3, 1, True
    with pytest.raises(
        CheckpointError,
        match=r"lab/tiny, .*: the link to the next page leads to a page that was already read, so the "
        r"listing is incomplete; check HF_ENDPOINT, or report it to http://127",
    ):
        Hub().refs("lab/tiny") if call == "refs" else Hub().files("lab/tiny", repo.branches["main"])
    assert len(hub.requests) <= 3


def test_pages_without_end_are_an_error(hub: FakeHub, repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.refs_page_size = 1
    monkeypatch.setattr(client, "MAX_PAGES", 3)
    with pytest.raises(CheckpointError, match="the listing has more than 3 pages; use another repository"):
        Hub().refs("lab/tiny")
    assert hub.count("/refs") == 3


def test_pages_without_end_of_bytes_are_an_error(
    hub: FakeHub, repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.refs_page_size = 1
    monkeypatch.setattr(client, "MAX_LISTING_BYTES", 300)
    with pytest.raises(CheckpointError, match="found more than 0 MiB; use another repository"):
        Hub().refs("lab/tiny")
    monkeypatch.setattr("ebbtide.transport.MAX_READ_BYTES", 10)
    with pytest.raises(CheckpointError, match="branches and tags: the answer has more than 10 bytes"):
        Hub().refs("lab/tiny")


def test_a_branch_that_two_pages_disagree_on_is_an_error(hub: FakeHub) -> None:
    branches = [{"name": "a", "targetCommit": digit * 40} for digit in "01"]
    hub.reply("/refs", json.dumps({"tags": [], "branches": branches}).encode())
    with pytest.raises(CheckpointError, match="found 'a' twice, with different content"):
        Hub().refs("lab/tiny")


def test_a_renamed_repository_answers_under_its_old_name(hub: FakeHub, repo: Repo, tmp_path: Path) -> None:
    hub.repos["lab/new"] = hub.repos.pop("lab/tiny")
    hub.renamed["lab/tiny"] = "lab/new"
    asked = Hub()
    assert asked.refs("lab/tiny") == {**repo.branches, **repo.tags}
    assert (asked.renamed("lab/tiny"), asked.renamed("lab/new")) == ("lab/new", None)
    hub.refs_page_size = 3
    assert asked.refs("lab/tiny") == {**repo.branches, **repo.tags}
    path = asked.download("lab/tiny", repo.branches["step8"], "model.safetensors", tmp_path / "to", size=9)
    assert path.read_bytes() == b"weights 8"


def test_a_commit_that_the_hub_no_longer_has(hub: FakeHub, repo: Repo) -> None:
    commit = repo.branches["step8"]
    assert Hub().has("lab/tiny", commit)
    repo.forget(commit)
    assert not Hub().has("lab/tiny", commit)
    repo.hide("hf_other")
    with pytest.raises(CheckpointError, match="the repository does not exist, or is private or gated"):
        Hub().has("lab/tiny", commit)
