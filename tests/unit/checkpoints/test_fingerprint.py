"""Identities of directories: which changes are seen, how much is read, and what a record saves."""

import json
import os
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny
from ebbtide.checkpoints import fingerprint
from ebbtide.checkpoints.directory import identities, locate
from ebbtide.checkpoints.fingerprint import (
    BLOCK,
    SAMPLED_BYTES,
    WHOLE_BYTES,
    blocks_of_tensor,
    share_of_tensor,
)
from ebbtide.checkpoints.header import read_header
from ebbtide.checkpoints.on_disk import model_on_disk
from ebbtide.checkpoints.verification import check_before_loading, check_weights
from ebbtide.errors import CheckpointError, ConfigError
from planning_on_disk import LARGE, write_checkpoint
from reading import bytes_read, flip, needs_proc, old_record, opened

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def directory(checkpoint: Path, tmp_path: Path) -> Path:
    shutil.copytree(checkpoint, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sample even the tiny checkpoint: no tensor but the smallest is read as a whole."""
    for name, value in (("WHOLE_BYTES", 10_000), ("SAMPLED_BYTES", 5_000), ("BLOCK", 16)):
        monkeypatch.setattr(fingerprint, name, value)


def weights_of(directory: Path) -> str:
    """The identity without a record from before."""
    (directory.parent / "located.json").unlink(missing_ok=True)
    return locate(directory, directory.parent / "located.json").weights


def test_a_flipped_byte_anywhere_changes_the_identity_of_a_small_checkpoint(directory: Path) -> None:
    seen = {weights_of(directory)}
    assert seen == {identities(directory)[0]}
    tensors = read_header(directory / WEIGHTS).tensors
    for tensor in tensors:
        flip(directory / WEIGHTS, (tensor.begin + 2 * tensor.end) // 3)
        seen.add(weights_of(directory))
    assert len(seen) == 1 + len(tensors)


@pytest.mark.usefixtures("sampled")
def test_every_tensor_is_sampled_at_its_beginning_at_its_end_and_between(directory: Path) -> None:
    seen = {weights_of(directory)}
    tensors = read_header(directory / WEIGHTS).tensors
    share = share_of_tensor([t.end - t.begin for t in tensors], fingerprint.SAMPLED_BYTES)
    assert any(t.end - t.begin > 4 * share for t in tensors)
    flips = 0
    for tensor in tensors:
        blocks = list(blocks_of_tensor(tensor.begin, tensor.end, share))
        for place in {tensor.begin, tensor.end - 1, blocks[len(blocks) // 2][0]}:
            flip(directory / WEIGHTS, place)
            seen.add(weights_of(directory))
            flips += 1
    assert flips > 2 * len(tensors)
    assert len(seen) == 1 + flips
    assert all(identity.startswith("sampled:") for identity in seen)


@pytest.mark.usefixtures("sampled")
def test_config_header_names_and_sizes_are_part_of_a_sampled_identity(directory: Path) -> None:
    seen = [weights_of(directory)]
    shutil.copytree(directory, directory.parent / "elsewhere" / "copy")
    assert weights_of(directory.parent / "elsewhere" / "copy") == seen[0]

    header = (directory / WEIGHTS).read_bytes()
    place = header.index(b'"__metadata__":{"format":"pt"')
    flip(directory / WEIGHTS, place + len(b'"__metadata__":{"format":"p'))
    seen.append(weights_of(directory))
    with (directory / "config.json").open("a") as file:
        file.write("\n")
    seen.append(weights_of(directory))
    (directory / "tokenizer_config.json").write_text("{}")
    assert weights_of(directory) == seen[-1]
    assert len(set(seen)) == 3


@given(st.lists(st.integers(0, 1 << 36), max_size=40), st.integers(200, 1 << 28))
def test_a_share_keeps_the_bound_and_uses_it(sizes: list[int], total: int) -> None:
    share = share_of_tensor(sizes, total)
    read = sum(min(size, share) for size in sizes)
    assert read <= total
    assert read == sum(sizes) or read > total - len(sizes)


@given(st.integers(0, 1 << 20), st.integers(0, 1 << 36), st.integers(2, 1 << 24))
def test_blocks_of_a_tensor_are_spread_evenly_within_the_share(begin: int, size: int, share: int) -> None:
    blocks = list(blocks_of_tensor(begin, begin + size, share))
    assert (blocks[0][0], blocks[-1][1]) == (begin, begin + size)
    assert sum(end - start for start, end in blocks) <= max(share, 2)
    gaps = [later - end for (_, end), (later, _) in pairwise(blocks)]
    assert not gaps or (min(gaps) >= 0 and max(gaps) - min(gaps) <= 1)
    assert size > share or blocks == [(begin, begin + size)]
    assert share < 2 * BLOCK or size <= share or len(blocks) == share // BLOCK


@pytest.mark.parametrize("cut", [1, -1])
def test_a_file_that_is_shorter_or_longer_than_its_header_says_is_an_error(tmp_path: Path, cut: int) -> None:
    write_checkpoint(tmp_path / "large", LARGE, shards=1)
    file = tmp_path / "large" / "model-00001-of-00001.safetensors"
    os.truncate(file, file.stat().st_size - cut)
    with pytest.raises(
        CheckpointError, match=r"of-00001\.safetensors has \d+ bytes, its header implies \d+;"
    ):
        locate(tmp_path / "large", tmp_path / "located.json")


@needs_proc
def test_a_large_checkpoint_is_read_within_the_bound_and_only_once(tmp_path: Path) -> None:
    size = write_checkpoint(tmp_path / "large", LARGE)
    assert size > 13e9
    record = tmp_path / "located.json"
    names = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    read = bytes_read(lambda: locate(tmp_path / "large", record))
    assert SAMPLED_BYTES / 2 < read < SAMPLED_BYTES + 1_000_000  # with headers, configuration, tokenizer
    before = locate(tmp_path / "large", record)
    assert before.weights.startswith("sampled:")
    assert before.size_bytes == size

    assert opened(lambda: locate(tmp_path / "large", record)) == []
    assert bytes_read(lambda: locate(tmp_path / "large", record)) < 100_000
    record.unlink()
    assert set(opened(lambda: locate(tmp_path / "large", record))) == set(names)
    assert locate(tmp_path / "large", record) == before


@pytest.mark.parametrize("limit", [WHOLE_BYTES, 10_000])
def test_a_second_look_opens_no_weight_file(
    directory: Path, tmp_path: Path, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "WHOLE_BYTES", limit)
    monkeypatch.setattr(fingerprint, "SAMPLED_BYTES", 5_000)
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({k: v for k, v in config.items() if "dtype" not in k}))
    record = tmp_path / "located.json"
    assert opened(lambda: locate(directory, record))
    written = record.stat().st_mtime_ns
    assert opened(lambda: locate(directory, record)) == []
    assert locate(directory, record).dtype == "float32"  # by the header of the first look
    assert record.stat().st_mtime_ns == written


@pytest.mark.parametrize("limit", [WHOLE_BYTES, 10_000])
@pytest.mark.parametrize("how", ["in place", "another file"])
def test_weights_replaced_under_the_same_size_and_time_are_noticed(
    directory: Path, tmp_path: Path, limit: int, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "WHOLE_BYTES", limit)
    monkeypatch.setattr(fingerprint, "SAMPLED_BYTES", 5_000)
    file, record = directory / WEIGHTS, tmp_path / "located.json"
    before = locate(directory, record)
    if how == "another file":
        shutil.copy2(file, tmp_path / "new")
        flip(tmp_path / "new", read_header(file).tensors[0].begin)
        (tmp_path / "new").replace(file)
    else:
        flip(file, read_header(file).tensors[0].begin)
    planned = before.weights, before.tokenizer
    with pytest.raises(CheckpointError, match=f"but sha256:|the run was planned with {before.weights}"):
        check_before_loading(record, *planned)
        check_weights(record, *planned, tmp_path / "cells")
    assert locate(directory, record).weights != before.weights


@pytest.mark.usefixtures("sampled")
def test_a_touched_file_keeps_its_identity(directory: Path, tmp_path: Path) -> None:
    before = locate(directory, tmp_path / "located.json")
    (directory / WEIGHTS).touch()
    assert opened(lambda: locate(directory, tmp_path / "located.json"))
    assert locate(directory, tmp_path / "located.json") == before


@pytest.mark.usefixtures("sampled")
def test_full_digests_of_an_old_record_are_honoured_while_the_files_are_the_same(
    directory: Path, tmp_path: Path
) -> None:
    record = tmp_path / "located.json"
    weights = old_record(directory, record)
    assert locate(directory, record).weights == weights
    assert opened(lambda: locate(directory, record)) == []
    assert locate(directory, record).weights == weights

    (directory / WEIGHTS).touch()  # the sample says that the bytes are the same
    assert locate(directory, record).weights == weights
    moved = directory.rename(tmp_path / "moved")
    assert locate(moved, record).weights == weights
    check_before_loading(record, weights, identities(moved)[1])

    flip(moved / WEIGHTS, read_header(moved / WEIGHTS).tensors[0].begin)
    assert locate(moved, record).weights == weights_of(moved)
    assert weights_of(moved).startswith("sampled:")


@pytest.mark.usefixtures("sampled")
@pytest.mark.parametrize("change", ["time", "size", "place"])
def test_an_old_record_of_other_files_is_not_honoured(directory: Path, tmp_path: Path, change: str) -> None:
    record = tmp_path / "located.json"
    old_record(directory, record)
    if change == "time":
        (directory / WEIGHTS).touch()
    elif change == "size":
        known = json.loads(record.read_text())
        known["files"][WEIGHTS]["size"] += 1
        record.write_text(json.dumps(known))
    else:
        directory = shutil.copytree(directory, tmp_path / "another")
    assert locate(directory, record).weights.startswith("sampled:")


def test_an_old_record_of_a_small_checkpoint_is_checked_by_hashing(directory: Path, tmp_path: Path) -> None:
    record = tmp_path / "located.json"
    weights = old_record(directory, record)
    assert locate(directory, record).weights == weights
    old_record(directory, record)
    flip(directory / WEIGHTS, read_header(directory / WEIGHTS).tensors[0].begin)
    assert locate(directory, record).weights == identities(directory)[0] != weights


def test_rows_of_many_directories_keep_their_order_and_name_the_bad_one(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    steps = list(range(0, 120, 10))
    for step in steps:
        shutil.copytree(checkpoint, tmp_path / f"step{step}")
        (tmp_path / f"step{step}" / "config.json").open("a").write("\n" * step)
    row = {"name": "mine", "path": "step{step}", "steps": steps[::-1], "tokens_per_step": 2, "unit": 1}
    model = model_on_disk(row, "models[0]").model()
    assert [c.step for c in model.checkpoints] == steps
    assert [c.weights for c in model.checkpoints] == [identities(tmp_path / f"step{s}")[0] for s in steps]
    assert [c.tokens for c in model.checkpoints] == [2 * s for s in steps]
    (tmp_path / "step50" / WEIGHTS).write_bytes(b"")
    [bad] = [d for d in model_on_disk(row, "models[0]").directories if d.error]
    assert str(bad.error) == "CheckpointError: step50/model.safetensors is empty; copy the file again."
    shutil.rmtree(tmp_path / "step50")
    row["path"] = "other{step}"
    with pytest.raises(ConfigError, match=r" models\[0\]\.path: other0 is not a directory, and .*/step0\. "):
        model_on_disk(row, "models[0]")
