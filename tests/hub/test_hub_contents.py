"""Pointers, indices and shards of a revision are checked when it is locked, before weights are fetched."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import locks
from ebbtide.checkpoints.findings import CLASSES, STOP, WARN, Finding
from ebbtide.checkpoints.hub.audit import audit
from ebbtide.checkpoints.hub.catalogue import PRETRAINING, HubModel, Stage
from ebbtide.checkpoints.hub.client import Hub
from ebbtide.checkpoints.hub.contents import is_pointer, parse_config, parse_index
from ebbtide.checkpoints.hub.fetch import fetch
from ebbtide.checkpoints.hub.lock import Index, Lock, read_lock, write_lock
from ebbtide.checkpoints.hub.notices import hub_notices
from ebbtide.checkpoints.hub.resolve import lock_study
from ebbtide.errors import CheckpointError
from hub import FakeHub

ACTIONS = {name: STOP for name in CLASSES} | {"index_disagrees": WARN}
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 5678912345\n"
CONFIG = json.dumps(locks.CONFIG).encode()
INDEX = "model.safetensors.index.json"
ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
Files = Mapping[str, bytes | None]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub(tmp_path) as running:
        running.use(monkeypatch)
        yield running


def index(*names: str, **metadata: Any) -> bytes:
    weight_map = {f"tensor{number}": name for number, name in enumerate(names)}
    return json.dumps({"metadata": metadata, "weight_map": weight_map}).encode()


def sharded(step: int, **changes: bytes | None) -> Files:
    """A revision of two shards; `changes` by `one`, `two`, `index`, `config`, `tokenizer`."""
    names = {"one": ONE, "two": TWO, "index": INDEX, "config": "config.json", "tokenizer": "tokenizer.json"}
    files: dict[str, bytes | None] = {
        "one": f"shard 1 of step {step}".encode(),
        "two": f"shard 2 of step {step}".encode(),
        "index": index(ONE, TWO),
        "config": CONFIG,
        "tokenizer": b"{}",
    }
    return {names[key]: content for key, content in {**files, **changes}.items() if content is not None}


def published(hub: FakeHub, files: Files, tmp_path: Path) -> tuple[HubModel, Lock]:
    """The lock of steps 1, 8 and 16, of which step 8 has these files."""
    repo = hub.repo("lab/tiny")
    for step in (1, 8, 16):
        repo.commit(f"step{step}", files if step == 8 else sharded(step))
    repo.commit("main", sharded(16))
    stage = Stage(PRETRAINING, ("step{step}",), None, tokens_per_step=100)
    model = locks.model((), stages=(stage,))
    lock_study([model], Hub(), tmp_path / "s.lock.json")
    return model, read_lock(tmp_path / "s.lock.json")


def audited(hub: FakeHub, files: Files, tmp_path: Path) -> list[Finding]:
    model, lock = published(hub, files, tmp_path)
    assert not any(name.endswith(".safetensors") for name in hub.served if len(files.get(name) or b"") > 1024)
    return audit([model], lock, ACTIONS)


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"one": POINTER}, f"{ONE} is a pointer of Git LFS (135 bytes) instead of the file"),
        ({"tokenizer": POINTER}, "tokenizer.json is a pointer of Git LFS (135 bytes) instead of the file"),
        ({"index": POINTER}, f"{INDEX} is a pointer of Git LFS (135 bytes) instead of the file"),
        ({"config": POINTER}, "config.json is a pointer of Git LFS (135 bytes) instead of the file"),
        ({"one": b""}, f"{ONE} is empty"),
        ({"config": b"<html>" * 50}, "config.json is not the configuration of a model"),
        ({"config": b"[]"}, "config.json is not the configuration of a model"),
        ({"index": b"{}"}, f"{INDEX} is not an index of weights"),
        ({"index": b'{"weight_map": {"a": 1}}'}, f"{INDEX} is not an index of weights"),
        (
            {"index": index(ONE, TWO, "model-00003-of-00003.safetensors")},
            f"{INDEX} names model-00003-of-00003.safetensors, which the revision lacks",
        ),
        (
            {"index": index(ONE, TWO, "../../etc/passwd\n")},
            f"{INDEX} names '../../etc/passwd\\n', which the revision lacks",
        ),
        ({"two": None}, "the revision lacks shard 2 of 2"),
        (
            {"two": b"shard 1 of step 8"},
            f"{ONE} and {TWO} have the same bytes, so the tensors of one of them are missing",
        ),
    ],
)
def test_what_cannot_be_loaded_is_found_from_the_lock(
    hub: FakeHub, tmp_path: Path, changes: dict[str, bytes | None], detail: str
) -> None:
    found = [f for f in audited(hub, sharded(8, **changes), tmp_path) if not f.finding.endswith("_changed")]
    assert [(f.finding, f.steps, f.detail, f.action) for f in found] == [("incomplete", (8,), detail, STOP)]


def test_a_clean_suite_has_no_findings_and_its_index_is_read_once(hub: FakeHub, tmp_path: Path) -> None:
    model, lock = published(hub, sharded(8), tmp_path)
    assert audit([model], lock, ACTIONS) == []
    assert hub.count(f"/resolve/.*/{INDEX}") == 1
    before = len(hub.requests)
    lock_study([model], Hub(), tmp_path / "s.lock.json")
    assert len(hub.requests) == before + 1  # refs only
    assert hub_notices([model], lock) == []


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"index": index(ONE)}, f"{INDEX} does not name {TWO}, so loading ignores it"),
        (
            {"index": index(ONE, TWO, total_size=5_000_000)},
            f"{INDEX} states 5,000,000 bytes of tensors, but its files have 34 bytes",
        ),
    ],
)
def test_an_index_that_does_not_fit_its_files_is_a_warning(
    hub: FakeHub, tmp_path: Path, changes: dict[str, bytes], detail: str
) -> None:
    found = audited(hub, sharded(8, **changes), tmp_path)
    assert [(f.finding, f.steps, f.detail) for f in found] == [("index_disagrees", (8,), detail)]
    assert (found[0].severity, found[0].action) == ("warning", WARN)


def test_files_may_have_headers_beside_the_tensors(hub: FakeHub, tmp_path: Path) -> None:
    assert audited(hub, sharded(8, index=index(ONE, TWO, total_size=30.0)), tmp_path) == []


def test_a_lock_of_an_earlier_version_is_completed_by_locking_again(hub: FakeHub, tmp_path: Path) -> None:
    path = tmp_path / "s.lock.json"
    model, lock = published(hub, sharded(8, one=POINTER, index=index(ONE, TWO, "gone.safetensors")), tmp_path)
    whole = path.read_bytes()
    old = Lock(lock.models, lock.configs)
    write_lock(old, path)
    assert "indices" not in path.read_text() and read_lock(path) == old
    assert audit([model], old, ACTIONS) == []
    [notice] = hub_notices([model], old)
    assert (notice.severity, notice.kind, notice.count) == ("warning", "not_audited", 3)
    assert notice.detail.startswith(
        "The lock does not contain the indices of weights of 3 checkpoints of tiny (step1, "
    )
    assert notice.remedy == "Run `snakemake lock --cores 1` with the same --configfile."
    lock_study([model], Hub(), path)
    assert path.read_bytes() == whole
    assert {f.finding for f in audit([model], read_lock(path), ACTIONS)} == {"incomplete"}


def test_fetching_by_an_old_lock_finds_the_pointer_before_the_large_files(
    hub: FakeHub, tmp_path: Path
) -> None:
    _, lock = published(hub, sharded(8, two=POINTER), tmp_path)
    locked = lock.models["tiny"].checkpoints["step8"]
    with pytest.raises(
        CheckpointError,
        match=rf"lab/tiny at commit {locked.commit[:12]}: {TWO} is a pointer of Git LFS \(135 bytes\) "
        "instead of the file; leave this step out, and inform the authors",
    ):
        fetch(Hub(), locked, tmp_path / "hub-1", format="safetensors")
    assert ONE not in hub.served and not (tmp_path / "hub-1").exists()


def test_fetching_by_an_old_lock_finds_the_missing_shard_before_the_large_files(
    hub: FakeHub, tmp_path: Path
) -> None:
    _, lock = published(hub, sharded(8, index=index(ONE, TWO, "other.safetensors")), tmp_path)
    with pytest.raises(CheckpointError, match=r"weight_map: found 'other\.safetensors', which the lock does"):
        fetch(Hub(), lock.models["tiny"].checkpoints["step8"], tmp_path / "hub-1", format="safetensors")
    assert not {ONE, TWO} & hub.served.keys()


def test_pointers_are_told_from_files_by_their_first_bytes() -> None:
    assert is_pointer(POINTER)
    assert is_pointer(b"# xet version 0\nfilesize = 17112\nhash = '" + b"a" * 64 + b"'\n")
    assert not is_pointer(POINTER[1:]) and not is_pointer(POINTER * 20) and not is_pointer(b"")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"weight_map": {"a": {}}}',
        b'{"weight_map": ["a"]}',
        b"null",
        json.dumps({"weight_map": {"a": "x" * 1000}}).encode(),
    ],
    ids=range(7),
)
def test_what_is_no_index_names_no_files(data: bytes) -> None:
    assert parse_index(data) == Index()


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"[" * 100_000, b"[]", b"9" * 5000], ids=range(5))
def test_what_is_no_configuration_is_empty(data: bytes) -> None:
    assert parse_config(data) == {}


@pytest.mark.parametrize("stated", ["1e999", "NaN", "-5", '"7"', "null", "9" * 400])
def test_an_odd_size_is_none(stated: str) -> None:
    found = parse_index(b'{"metadata": {"total_size": %s}, "weight_map": {"a": "b"}}' % stated.encode())
    assert found == Index(("b",), 0)


def test_numbers_that_json_has_not_are_kept_as_text(tmp_path: Path) -> None:
    config = parse_config(b'{"time_step_limit": [0.0, Infinity], "scale": 1e999, "n": 0.5}')
    assert config == {"time_step_limit": [0.0, "Infinity"], "scale": "1e999", "n": 0.5}
    write_lock(
        locks.lock({8: locks.files("a")}, configs={locks.git("config"): config}), tmp_path / "s.lock.json"
    )


def test_weights_in_both_formats_and_whole_beside_shards_are_said(hub: FakeHub, tmp_path: Path) -> None:
    files = {**sharded(8), "model.safetensors": b"whole", "pytorch_model.bin": b"pickled"}
    model, lock = published(hub, files, tmp_path)
    notices = hub_notices([model], lock)
    assert [(n.severity, n.kind, n.model, n.count) for n in notices] == [("note", "defaulted", "tiny", 1)] * 2
    assert notices[0].detail == (
        "1 checkpoint of tiny (step8) has weights in both formats; safetensors is used, and the tensors of "
        "the two are not compared."
    )
    assert notices[0].remedy == "To use the others, set format: bin in the row of tiny."
    assert notices[1].detail == (
        "1 checkpoint of tiny (step8) has model.safetensors and shards with an index; model.safetensors is "
        "used."
    )
