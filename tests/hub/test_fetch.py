"""Fetching a locked checkpoint from a hub on the loopback: verified, resumable, loaded as it was fetched."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import tiny
from ebbtide import cli, transport
from ebbtide.checkpoints.directory import directory_of
from ebbtide.checkpoints.disk import Budget, partial_of
from ebbtide.checkpoints.hub.client import Hub
from ebbtide.checkpoints.hub.digests import digest_of
from ebbtide.checkpoints.hub.fetch import fetch, locked_checkpoint
from ebbtide.checkpoints.hub.fetched import read_fetched, write_fetched
from ebbtide.checkpoints.hub.lock import Lock, Locked, LockedFile, LockedModel, write_lock
from ebbtide.checkpoints.load import load_model
from ebbtide.checkpoints.verification import check_before_loading, check_weights
from ebbtide.errors import CheckpointError
from ebbtide.files import file_sha256
from ebbtide.logs import log
from ebbtide.scoring.engine import load_scorer, score_requests
from ebbtide.tables import CELL, read_frame
from hub import FakeHub
from reading import flip

REPO = "lab/tiny"
WORDS = ("config.json", "tokenizer.json", "tokenizer_config.json")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("checkpoint") / "whole")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch) -> Iterator[FakeHub]:
    with FakeHub(tmp_path) as hub:
        for name, value in hub.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        transport.client.cache_clear()
        yield hub
        transport.client.cache_clear()


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    handlers, propagate = log.handlers, log.propagate
    yield
    log.handlers, log.propagate = handlers, propagate


def client() -> Hub:
    return Hub(waits=(0.0,) * 3)


def publish(hub: FakeHub, files: dict[str, bytes | Path]) -> Locked:
    """Put files on the hub and lock them."""
    commit = hub.repo(REPO).commit("step1", {"README.md": b"Read me.", "optimizer.bin": b"0", **files})
    listed = {f.name: LockedFile(f.digest, f.size, f.date) for f in client().files(REPO, commit)}
    return Locked(REPO, "step1", commit, 1, listed)


def content(directory: Path) -> dict[str, bytes | Path]:
    return {path.name: path for path in directory.iterdir()}


@pytest.fixture
def locked(hub: FakeHub, checkpoint: Path) -> Locked:
    return publish(hub, content(checkpoint))


def sharded(checkpoint: Path, ending: str) -> dict[str, bytes | Path]:
    """The files of a checkpoint with its weights in two shards of a format."""
    from safetensors.torch import save

    tensors = list(load_file(checkpoint / "model.safetensors").items())
    stem = "model" if ending == "safetensors" else "pytorch_model"
    files = {name: path for name, path in content(checkpoint).items() if name != "model.safetensors"}
    weight_map = {}
    for number, part in enumerate((dict(tensors[::2]), dict(tensors[1::2])), start=1):
        name = f"{stem}-{number:05}-of-00002.{ending}"
        weight_map |= dict.fromkeys(part, name)
        if ending == "safetensors":
            files[name] = save(part, {"format": "pt"})
        else:
            path = checkpoint.parent / name
            torch.save(part, path)
            files[name] = path.read_bytes()
    files[f"{stem}.{ending}.index.json"] = json.dumps({"weight_map": weight_map}).encode()
    return files


def asked(hub: FakeHub, name: str) -> int:
    """How often a file was asked for."""
    return hub.count(f"/resolve/[0-9a-f]+/{re.escape(name)}$")


def served(hub: FakeHub, name: str, size: int) -> bool:
    """Whether this many bytes of a file have gone out; the server counts them after they are sent."""
    deadline = time.monotonic() + 5
    while hub.served[name] != size and time.monotonic() < deadline:
        time.sleep(0.01)
    return hub.served[name] == size


def get(locked: Locked, to: Path, format: str = "safetensors", **options: Any) -> Path:
    fetch(client(), locked, to, format=format, **options)
    return to


def verified(checkpoint: Path, locked: Locked, format: str = "safetensors", **options: Any) -> dict[str, str]:
    """Check a fetched checkpoint as a scoring job does; return the digests of its weights."""
    planned = locked.weights_identity(format, **options), locked.tokenizer_identity()
    check_before_loading(checkpoint, *planned)
    return check_weights(checkpoint, *planned, "cells")


def scores(directory: Path, tmp_path: Path) -> Any:
    return score_requests(load_scorer(directory), tiny.requests(tmp_path / "task.parquet")).rows


# What arrives.


def test_what_loading_takes_is_fetched_and_nothing_else(
    locked: Locked, checkpoint: Path, tmp_path: Path
) -> None:
    to = get(locked, tmp_path / "to/hub-1")
    assert sorted(p.name for p in to.iterdir()) == sorted([*locked.needed("safetensors"), "fetched.json"])
    for name in locked.needed("safetensors"):
        assert (to / name).read_bytes() == (checkpoint / name).read_bytes()
        assert not (to / name).is_symlink()
    assert [p.name for p in to.parent.iterdir()] == ["hub-1"]
    assert scores(to, tmp_path) == scores(checkpoint, tmp_path)

    record = read_fetched(to)
    assert (record.repo, record.revision, record.commit) == (REPO, "step1", locked.commit)
    assert record.weights == locked.weights_identity("safetensors")
    assert record.tokenizer == locked.tokenizer_identity()
    assert record.dtype == "float32"
    assert record.size_bytes == locked.size("safetensors")
    assert {name: file.digest for name, file in record.files.items()} == {
        name: locked.files[name].digest for name in locked.needed("safetensors")
    }
    verified(to, locked)
    assert directory_of(to / "fetched.json") == to


@pytest.mark.parametrize("format", ["safetensors", "bin"])
def test_shards_of_both_formats_score_the_same(
    format: str, hub: FakeHub, checkpoint: Path, tmp_path: Path
) -> None:
    locked = publish(hub, sharded(checkpoint, format))
    to = get(locked, tmp_path / "hub-1", format)
    assert sorted(p.name for p in to.glob("*model*")) == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ]
    assert load_scorer(to).implementation == "ebbtide"
    assert scores(to, tmp_path) == scores(checkpoint, tmp_path)
    record = read_fetched(to)
    assert record.weights == locked.weights_identity(format)
    shard = record.files["model-00001-of-00002.safetensors"]
    if format == "bin":
        assert shard.of == locked.files["pytorch_model-00001-of-00002.bin"].digest
    assert verified(to, locked, format) == {path.name: file_sha256(path) for path in to.glob("*.safetensors")}


def test_a_second_fetch_asks_for_nothing(hub: FakeHub, locked: Locked, tmp_path: Path) -> None:
    to = get(locked, tmp_path / "hub-1")
    before = len(hub.requests)
    get(locked, to)
    assert len(hub.requests) == before


def test_a_directory_that_has_changed_is_fetched_again(locked: Locked, tmp_path: Path) -> None:
    to = get(locked, tmp_path / "hub-1")
    (to / "config.json").write_text("{}")
    get(locked, to)
    verified(to, locked)


def test_another_tokenizer_is_fetched_although_the_weights_are_there(
    hub: FakeHub, locked: Locked, checkpoint: Path, tmp_path: Path
) -> None:
    to = get(locked, tmp_path / "hub-1")
    other = publish(hub, {**content(checkpoint), "special_tokens_map.json": b"{}"})
    assert other.weights_identity("safetensors") == locked.weights_identity("safetensors")
    get(other, to)
    assert (to / "special_tokens_map.json").exists()


def test_a_directory_of_the_users_is_not_touched(locked: Locked, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("all")
    (tmp_path / "link").symlink_to(mine)
    for to in (mine, tmp_path / "link"):
        with pytest.raises(CheckpointError, match=f"{to.name} was not fetched by Ebbtide; remove it"):
            get(locked, to)
    assert [p.name for p in mine.iterdir()] == ["thesis.tex"]


def test_digests_of_the_footer_are_those_of_the_lock_and_weights_in_git_are_hashed(
    locked: Locked, tmp_path: Path
) -> None:
    to = get(locked, tmp_path / "hub-1")
    name = "model.safetensors"
    sha256 = locked.files[name].digest.removeprefix("sha256:")
    assert verified(to, locked) == {name: sha256}
    assert verified(to / "fetched.json", locked) == {name: sha256}
    record = read_fetched(to)
    blob = f"git:{'0' * 40}", digest_of(to / name, "git")
    for digest in blob:
        in_git = replace(record.files[name], digest=digest)
        write_fetched(replace(record, files={**record.files, name: in_git}), to)
        if digest == blob[0]:
            with pytest.raises(CheckpointError, match=f"{name} has the digest {blob[1]}, but {blob[0]} in"):
                verified(to, locked)
    assert verified(to, locked) == {name: sha256}


@pytest.mark.parametrize(
    ("without", "format", "what"),
    [
        ("model.safetensors", "safetensors", "has no weights as safetensors; found: none"),
        ("x", "bin", "has no weights as bin; found: safetensors"),
        ("config.json", "safetensors", r"lab/tiny at step1 has no config\.json"),
        ("tokenizer.json", "safetensors", r"has no tokenizer\.json"),
    ],
)
def test_what_the_lock_lacks_is_an_error(
    without: str, format: str, what: str, locked: Locked, tmp_path: Path
) -> None:
    files = {name: file for name, file in locked.files.items() if name != without}
    with pytest.raises(CheckpointError, match=what):
        get(replace(locked, files=files), tmp_path / "hub-1", format)
    assert not partial_of(tmp_path / "hub-1").exists()  # before anything is fetched


def test_an_index_that_leads_elsewhere_is_refused(hub: FakeHub, checkpoint: Path, tmp_path: Path) -> None:
    files = sharded(checkpoint, "safetensors")
    files["model.safetensors.index.json"] = b'{"weight_map": {"a": "../../other.safetensors"}}'
    locked = publish(hub, files)
    with pytest.raises(CheckpointError, match=r"weight_map: found '\.\./\.\./other\.safetensors', which the"):
        get(locked, tmp_path / "hub-1")
    assert not (tmp_path / "hub-1").exists()


# What goes wrong on the way.


def test_a_truncated_download_goes_on_where_it_ended(hub: FakeHub, locked: Locked, tmp_path: Path) -> None:
    hub.truncate("model.safetensors")
    to = get(locked, tmp_path / "hub-1")
    verified(to, locked)
    assert any(r.range for r in hub.requests)
    assert served(hub, "model.safetensors", locked.files["model.safetensors"].size)


def test_other_bytes_than_the_lock_has_are_fetched_once_more(
    hub: FakeHub, locked: Locked, tmp_path: Path
) -> None:
    hub.corrupt("model.safetensors", times=1)
    to = get(locked, tmp_path / "hub-1")
    verified(to, locked)
    assert asked(hub, "model.safetensors") == 2


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_other_bytes_twice_are_an_error(name: str, hub: FakeHub, locked: Locked, tmp_path: Path) -> None:
    hub.corrupt(name)
    to, digest = tmp_path / "hub-1", locked.files[name].digest
    with pytest.raises(
        CheckpointError,
        match=rf"lab/tiny at commit \w{{12}}: {name}: found \w+:\w+, expected {digest}",
    ):
        get(locked, to)
    assert asked(hub, name) == 2
    assert not to.exists()
    assert not (partial_of(to) / name).exists()


def test_another_size_is_an_error(locked: Locked, tmp_path: Path) -> None:
    file = locked.files["config.json"]
    wrong = {**locked.files, "config.json": replace(file, size=file.size + 1)}
    with pytest.raises(
        CheckpointError, match=f"config.json of commit .*: found {file.size} bytes, expected "
    ):
        get(replace(locked, files=wrong), tmp_path / "hub-1")


def test_a_hub_that_fails_keeps_what_is_there(hub: FakeHub, locked: Locked, tmp_path: Path) -> None:
    hub.fail("model.safetensors", [500] * 4)
    to = tmp_path / "hub-1"
    with pytest.raises(CheckpointError, match="500"):
        get(locked, to)
    get(locked, to)
    assert [asked(hub, name) for name in WORDS] == [1, 1, 1]


def test_what_a_killed_fetch_left_is_verified_before_it_is_used(
    hub: FakeHub, locked: Locked, checkpoint: Path, tmp_path: Path
) -> None:
    to = tmp_path / "hub-1"
    partial = partial_of(to)
    shutil.copytree(checkpoint, partial)
    config = bytearray((partial / "config.json").read_bytes())
    config[-2] ^= 1
    (partial / "config.json").write_bytes(config)
    (partial / "leftover.py").write_text("import os")
    (partial / "folder").mkdir()
    get(locked, to)
    needed = locked.needed("safetensors")
    assert {name: asked(hub, name) for name in needed} == {**dict.fromkeys(needed, 0), "config.json": 1}
    assert sorted(p.name for p in to.iterdir()) == sorted([*locked.needed("safetensors"), "fetched.json"])


@pytest.mark.parametrize("name", ["model.safetensors", ".room", "tokenizer.json", "folder"])
def test_links_in_what_a_killed_fetch_left_are_not_followed(
    name: str, locked: Locked, checkpoint: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes((checkpoint / name).read_bytes() if (checkpoint / name).exists() else b"mine")
    before = outside.read_bytes()
    to = tmp_path / "hub-1"
    partial_of(to).mkdir()
    (partial_of(to) / name).symlink_to(outside)
    get(locked, to)
    assert outside.read_bytes() == before
    assert not any(path.is_symlink() for path in to.iterdir())
    verified(to, locked)


def command(lock: Path, to: Path, *more: str) -> list[str]:
    verb = [sys.executable, "-m", "ebbtide", "fetch-checkpoint", "--lock", str(lock), "--model", "tiny"]
    return [*verb, "--checkpoint", "step1", "--to", str(to), *more]


def lock_file(locked: Locked, path: Path) -> Path:
    configs: dict[str, dict[str, str]] = {locked.files["config.json"].digest: {}}
    write_lock(Lock({"tiny": LockedModel({"pretraining": (1,)}, {"step1": locked})}, configs), path)
    return path


@pytest.mark.parametrize("format", ["safetensors", "bin"])
def test_a_killed_fetch_is_resumed(format: str, hub: FakeHub, checkpoint: Path, tmp_path: Path) -> None:
    locked = publish(hub, sharded(checkpoint, format))
    first, second = locked.weights(format)
    to, lock = tmp_path / "hub-1", lock_file(locked, tmp_path / "study.lock.json")
    hub.truncate(second)
    hub.fail(f"content/.*{second}", [0] + 1000 * [503])  # half of it comes, then nothing
    call = command(lock, to, "--format", format)
    environment = {**os.environ, **hub.environment()}
    with subprocess.Popen(call, env=environment, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while hub.count(second) < 3 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
    assert not to.exists()
    assert hub.served[second] < locked.files[second].size

    hub._faults.clear()
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"fetched {REPO} step1" in done.stderr
    assert served(hub, second, locked.files[second].size)
    assert [asked(hub, name) for name in (first, *WORDS)] == [1, 1, 1, 1]
    assert scores(to, tmp_path) == scores(checkpoint, tmp_path)


def test_a_shard_never_lies_twice_beside_the_next_one(hub: FakeHub, checkpoint: Path, tmp_path: Path) -> None:
    """A kill may come between writing the safetensors and removing the pickle they were made from."""
    files = sharded(checkpoint, "bin")
    locked = publish(hub, files)
    first, second = locked.weights("bin")
    to = tmp_path / "hub-1"

    class Looking:
        def download(
            self,
            repo: str,
            commit: str,
            name: str,
            directory: Path,
            received: Callable[[int], None],
            *,
            size: int,
        ) -> Path:
            if name == second:
                assert (directory / "model-00001-of-00002.safetensors").exists()
                assert not (directory / first).exists()
            return client().download(repo, commit, name, directory, received, size=size)

    hub.fail(second, [500] * 4)
    with pytest.raises(CheckpointError, match="500"):
        get(locked, to, "bin")
    (partial_of(to) / first).write_bytes(files[first])  # type: ignore[arg-type]
    fetch(Looking(), locked, to, format="bin")
    assert asked(hub, first) == 1


def test_the_verb_needs_no_setting_and_uses_the_network(hub: FakeHub, locked: Locked, tmp_path: Path) -> None:
    lock, to = lock_file(locked, tmp_path / "study.lock.json"), tmp_path / "root/tiny/step1/hub-1"
    call = command(lock, to, "--format", "safetensors")
    environment = {k: v for k, v in {**os.environ, **hub.environment()}.items() if "OFFLINE" not in k}
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    verified(to, locked)


PLAN = {"host": "h", "pid": 1, "started": 0.0, "budget_bytes": 10**9, "stay": [], "wanted": {}}
PLAN |= {"averages": {}, "order": []}


@pytest.mark.parametrize(
    ("more", "what"),
    [
        (["--plan", "{plan}"], r"needs \d+\.\d kB, but 0 bytes are in use .*weights\.disk_gb is 7 bytes"),
        (["--plan", "missing"], "ConfigError: missing does not exist; run snakemake again"),
        (["--model", "tini"], r"study\.lock\.json: models: found no 'tini'; did you mean 'tiny'\?"),
        (
            ["--checkpoint", "step2"],
            r"study\.lock\.json: models\.tiny: found no 'step2'; did you mean 'step1'",
        ),
        (
            ["--to", "{tmp}/to", "--plan", "{plan}"],
            "--to: found .*/to; allowed with a budget: ROOT/MODEL",
        ),
    ],
)
def test_a_users_errors_are_sentences(
    more: list[str], what: str, locked: Locked, tmp_path: Path, capsys
) -> None:
    lock, to = lock_file(locked, tmp_path / "study.lock.json"), tmp_path / "root/tiny/step1/hub-1"
    (tmp_path / "plan").write_text(json.dumps({**PLAN, "budget_bytes": 7}))
    more = [word.format(plan=tmp_path / "plan", tmp=tmp_path) for word in more]
    assert cli.main([*command(lock, to)[3:], "--format", "safetensors", *more]) == 2
    assert re.search(what, capsys.readouterr().err)
    assert not to.exists()


def test_the_offline_default_is_for_other_verbs_only(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    cli.main([*command(tmp_path / "no.lock.json", tmp_path / "to")[3:], "--format", "bin"])
    assert "HF_HUB_OFFLINE" not in os.environ
    cli.main(["train", "--spec", "{", "--markers", str(tmp_path / "step0/trained-0.json")])
    assert os.environ["HF_HUB_OFFLINE"] == "1"


# Disks.


class FullDisk:
    """A client whose disk is full when the weights come."""

    def download(
        self,
        repo: str,
        commit: str,
        name: str,
        directory: Path,
        received: Callable[[int], None],
        *,
        size: int,
    ) -> Path:
        if name.endswith(".safetensors"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return client().download(repo, commit, name, directory, received, size=size)


def test_a_full_disk_is_a_sentence_and_loses_nothing(hub: FakeHub, locked: Locked, tmp_path: Path) -> None:
    to = tmp_path / "hub-1"
    with pytest.raises(
        CheckpointError, match=r"the disk of .* is full: [\d.]+ kB of [\d.]+ kB are fetched and kept"
    ):
        fetch(FullDisk(), locked, to, format="safetensors")
    get(locked, to)
    assert [asked(hub, name) for name in WORDS] == [1, 1, 1]


def test_a_full_disk_while_converting_is_a_sentence(
    hub: FakeHub, checkpoint: Path, tmp_path: Path, monkeypatch
) -> None:
    def save_file(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")

    locked = publish(hub, sharded(checkpoint, "bin"))
    monkeypatch.setattr("safetensors.torch.save_file", save_file)
    with pytest.raises(CheckpointError, match=r"the disk of .* is full"):
        get(locked, tmp_path / "hub-1", "bin")
    assert (partial_of(tmp_path / "hub-1") / locked.weights("bin")[0]).exists()


def test_too_little_space_is_said_before_anything_is_fetched(
    hub: FakeHub, locked: Locked, tmp_path: Path, monkeypatch
) -> None:
    need = locked.peak_disk_bytes("safetensors")
    monkeypatch.setattr("ebbtide.checkpoints.hub.fetch.free_bytes", lambda directory: need - 100)
    with pytest.raises(CheckpointError, match=r"has [\d.]+ kB free, but [\d.]+ kB are still needed"):
        get(locked, tmp_path / "hub-1")
    assert not asked(hub, "config.json")
    monkeypatch.setattr("ebbtide.checkpoints.hub.fetch.free_bytes", lambda directory: need)
    get(locked, tmp_path / "hub-1")


def test_pickled_weights_need_room_for_one_shard_twice(
    hub: FakeHub, checkpoint: Path, tmp_path: Path
) -> None:
    locked = publish(hub, sharded(checkpoint, "bin"))
    need = sum(locked.files[name].size for name in locked.needed("bin"))
    largest = max(locked.files[name].size for name in locked.weights("bin"))
    to = tmp_path / "root/tiny/step1/hub-1"
    with pytest.raises(CheckpointError, match=r"weights\.disk_gb"):
        get(locked, to, "bin", budget=Budget(tmp_path / "root", need + largest - 1, waits=()))
    get(locked, to, "bin", budget=Budget(tmp_path / "root", locked.peak_disk_bytes("bin"), waits=()))


def test_old_weights_go_for_new_ones_unless_they_are_kept(locked: Locked, tmp_path: Path) -> None:
    root, room = tmp_path / "root", locked.peak_disk_bytes("safetensors")
    old, new = (root / f"tiny/{name}/hub-1" for name in ("step0", "step1"))
    get(locked, old)
    with pytest.raises(CheckpointError, match=r"weights\.disk_gb"):
        get(locked, new, budget=Budget(root, room + 10, {old}.__contains__, waits=(0.0,)))
    assert old.exists()
    get(locked, new, budget=Budget(root, room + 10, waits=()))
    assert not old.exists()
    verified(new, locked)


# What was fetched, later.


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_one_bit_of_any_file_is_noticed_although_size_and_time_are_the_same(
    name: str, locked: Locked, tmp_path: Path
) -> None:
    to = get(locked, tmp_path / "hub-1")
    flip(to / name, 100)
    planned = locked.weights_identity("safetensors"), locked.tokenizer_identity()
    with pytest.raises(CheckpointError) as refused:
        verified(to, locked)
    kind = locked.files[name].digest.partition(":")[0]
    assert str(refused.value) == (
        f"CheckpointError: {to / name} has the digest {digest_of(to / name, kind)}, but "
        f"{locked.files[name].digest} in {to / 'fetched.json'}; delete {to}: it is fetched again."
    )
    if name != "model.safetensors":  # before it is loaded
        with pytest.raises(CheckpointError, match=f"{name} has the digest"):
            check_before_loading(to, *planned)
    shutil.rmtree(to)
    get(locked, to)
    verified(to, locked)


def link_elsewhere(path: Path) -> None:
    path.symlink_to(path.rename(path.parent.parent / path.name))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda d: (d / "config.json").write_text("{}"), r"config\.json has 2 bytes, but \d+ were fetched"),
        (
            lambda d: (d / "tokenizer.json").unlink(),
            r"tokenizer\.json is missing or no longer a regular file",
        ),
        (
            lambda d: link_elsewhere(d / "model.safetensors"),
            r"model\.safetensors is missing or no longer a regular file",
        ),
        (lambda d: (d / "modeling.py").write_text(""), r"modeling\.py was not fetched; remove it"),
        (lambda d: (d / "fetched.json").write_text("[]"), "fetched.json: found JSON of type list, expected"),
        (lambda d: (d / "fetched.json").write_text("{"), r"fetched.json is not readable JSON \(.*\); delete"),
        (lambda d: (d / ".snakemake_timestamp").touch(), None),
    ],
)
def test_a_directory_that_has_changed_is_not_loaded(
    change: Any, what: str | None, locked: Locked, tmp_path: Path
) -> None:
    to = get(locked, tmp_path / "hub-1")
    change(to)
    if what is None:
        verified(to, locked)
        return
    with pytest.raises(CheckpointError, match=what):
        verified(to, locked)


def test_other_weights_than_planned_are_not_loaded(locked: Locked, tmp_path: Path) -> None:
    to = get(locked, tmp_path / "hub-1")
    with pytest.raises(CheckpointError, match=r"has hub:\w+, but the run was planned with hub:0"):
        check_before_loading(to, "hub:0", locked.tokenizer_identity())
    with pytest.raises(CheckpointError, match=r"has hub:\w+, but the run was planned with hub:1"):
        check_before_loading(to, locked.weights_identity("safetensors"), "hub:1")


# Code of the repository's own.

CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
Path({trap!r}).touch()

class OwnConfig(LlamaConfig):
    model_type = "own"

class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""
AUTO_MAP = {"AutoConfig": "own_code.OwnConfig", "AutoModelForCausalLM": "own_code.OwnModel"}


@pytest.fixture
def with_code(hub: FakeHub, tmp_path: Path) -> Callable[..., Locked]:
    """Publishes a model that needs its own code; the code leaves a file `ran` when it is run."""
    plain = tiny.checkpoint(tmp_path / "llama", "llama")

    def make(auto_map: Any = AUTO_MAP) -> Locked:
        config = json.loads((plain / "config.json").read_text())
        config |= {"model_type": "own", "architectures": ["OwnModel"], "auto_map": auto_map}
        code = CODE.format(trap=str(tmp_path / "ran")).encode()
        files = {"own_code.py": code, "config.json": json.dumps(config).encode()}
        return publish(hub, {**content(plain), **files})

    return make


def score(directory: Path, tmp_path: Path, hub: FakeHub) -> subprocess.CompletedProcess[str]:
    """Score in a process of its own, with a cache for imported code of its own."""
    verb = [sys.executable, "-m", "ebbtide", "score", "--model", str(directory)]
    files = ["--requests", str(tiny.requests(tmp_path / "t.parquet")), "--to", str(tmp_path / "cell.parquet")]
    environment = {**os.environ, **hub.environment(), "HF_HUB_OFFLINE": "1"}
    return subprocess.run([*verb, *files], env=environment, capture_output=True, text=True, check=False)


def test_code_is_neither_fetched_nor_run_without_permission(
    with_code: Callable[..., Locked], hub: FakeHub, tmp_path: Path
) -> None:
    to = get(with_code(), tmp_path / "hub-1")
    assert not list(to.glob("*.py"))
    assert not asked(hub, "own_code.py")
    done = score(to, tmp_path, hub)
    assert done.returncode == 2
    assert "needs its own Python code (auto_map in its config.json)" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_code_in_a_directory_without_a_record_is_not_run(
    with_code: Callable[..., Locked], tmp_path: Path
) -> None:
    to = get(with_code(), tmp_path / "hub-1", remote_code=True)
    (to / "fetched.json").unlink()
    with pytest.raises(CheckpointError, match="needs its own Python code"):
        load_model(to, "float32")
    assert not (tmp_path / "ran").exists()


def test_code_runs_with_permission(with_code: Callable[..., Locked], hub: FakeHub, tmp_path: Path) -> None:
    locked = with_code()
    to = get(locked, tmp_path / "hub-1", remote_code=True)
    verified(to, locked, remote_code=True)
    done = score(to, tmp_path, hub)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "ran").exists()
    own = read_frame(tmp_path / "cell.parquet", CELL)["loglikelihood"]
    plain = scores(tmp_path / "llama", tmp_path).column("loglikelihood").to_pylist()
    assert own.tolist() == pytest.approx(plain, abs=1e-4)
    get(locked, to)  # without permission it is another directory, although the weights are the same
    assert not (to / "own_code.py").exists()


@pytest.mark.parametrize(
    "auto_map",
    [
        {**AUTO_MAP, "AutoModelForCausalLM": "evil/repo--own_code.OwnModel"},
        {**AUTO_MAP, "AutoTokenizer": [None, "evil/repo--own_code.Tokenizer"]},
        {**AUTO_MAP, "AutoConfig": "../own_code.OwnConfig"},
    ],
)
def test_code_of_another_repository_is_refused(
    auto_map: Any, with_code: Callable[..., Locked], tmp_path: Path
) -> None:
    to = get(with_code(auto_map), tmp_path / "hub-1", remote_code=True)
    with pytest.raises(CheckpointError, match=r"config\.json: auto_map: found .*; allowed: module\.Class of"):
        load_model(to, "float32")
    assert not (tmp_path / "ran").exists()


# Vocabulary.


@pytest.mark.parametrize("implementation", ["ebbtide", "transformers"])
def test_a_vocabulary_smaller_than_the_tokenizers_is_an_error(implementation: str, tmp_path: Path) -> None:
    words = len(tiny.VOCABULARY)
    for rows in (words - 1, words):
        directory = tiny.checkpoint(tmp_path / str(rows), vocabulary=rows)
        if implementation == "transformers":
            config = json.loads((directory / "config.json").read_text())
            (directory / "config.json").write_text(json.dumps({**config, "strange": 1}))
        if rows == words:
            assert load_scorer(directory).implementation == implementation
            continue
        with pytest.raises(
            CheckpointError,
            match=f"tokenizer has ids up to {words - 1}, the model's vocabulary has {words - 1} rows",
        ):
            load_scorer(directory)


def test_an_added_token_beyond_the_vocabulary_is_no_error(tmp_path: Path) -> None:
    directory = tiny.checkpoint(tmp_path / "a")
    document = json.loads((directory / "tokenizer.json").read_text())
    token = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    place = len(tiny.VOCABULARY)
    document["added_tokens"].append({"id": place, "content": "<image>", **token})
    document["model"]["vocab"]["<image>"] = place
    (directory / "tokenizer.json").write_text(json.dumps(document))
    scorer = load_scorer(directory)
    assert scorer.tokenizer.backend.token_to_id("<image>") == place == scorer.vocabulary


def test_a_checkpoint_that_is_not_locked_is_an_error(locked: Locked, tmp_path: Path) -> None:
    path = lock_file(locked, tmp_path / "study.lock.json")
    assert locked_checkpoint(path, "tiny", "step1") == locked
    with pytest.raises(CheckpointError, match=r"models: found no 'other'; lock the study"):
        locked_checkpoint(path, "other", "step1")
