"""Full digests beside loading: cached, compared with the identity, and refused where they do not fit."""

import json
import shutil
from pathlib import Path

import pytest

import tiny
from ebbtide.checkpoints import fingerprint
from ebbtide.checkpoints.directory import check_weights, locate
from ebbtide.checkpoints.full_digest import HASHED, check_full_digests
from ebbtide.checkpoints.header import read_header
from ebbtide.errors import CheckpointError
from ebbtide.files import file_sha256
from reading import flip, old_record, opened

WEIGHTS = "model.safetensors"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tiny.checkpoint(tmp_path / "copy")


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sample even the tiny checkpoint."""
    for name, value in (("WHOLE_BYTES", 10_000), ("SAMPLED_BYTES", 5_000), ("BLOCK", 16)):
        monkeypatch.setattr(fingerprint, name, value)


def unsampled_place(directory: Path) -> int:
    """A byte of the weights that no block covers."""
    tensors = read_header(directory / WEIGHTS).tensors
    share = fingerprint.share_of_tensor([t.end - t.begin for t in tensors], fingerprint.SAMPLED_BYTES)
    largest = max(tensors, key=lambda t: t.end - t.begin)
    (_, end), (begin, _) = list(fingerprint.blocks_of_tensor(largest.begin, largest.end, share))[:2]
    assert end < begin
    return end


@pytest.mark.usefixtures("sampled")
def test_files_are_hashed_once(directory: Path, tmp_path: Path) -> None:
    record, cells = tmp_path / "located.json", tmp_path / "cells"
    weights = locate(directory, record).weights
    digests = {WEIGHTS: file_sha256(directory / WEIGHTS)}
    assert opened(lambda: check_full_digests(record, weights, cells)) == [WEIGHTS]
    assert opened(lambda: check_full_digests(record, weights, cells)) == []
    assert check_full_digests(record, weights, cells) == digests
    assert check_full_digests(directory, weights, cells) == digests  # by hand, without a record
    assert locate(directory, record).weights == weights  # whether it was scored or not

    (directory / WEIGHTS).touch()
    check_weights(record, weights)
    assert opened(lambda: check_full_digests(record, weights, cells)) == [WEIGHTS]


def test_a_small_checkpoint_was_hashed_by_planning(directory: Path, tmp_path: Path) -> None:
    record = tmp_path / "located.json"
    weights = locate(directory, record).weights
    assert opened(lambda: check_full_digests(record, weights, tmp_path / "cells")) == []
    found = check_full_digests(record, weights, tmp_path / "cells")
    assert found == {WEIGHTS: file_sha256(directory / WEIGHTS)}
    assert not (tmp_path / "cells").exists()
    flip(directory / WEIGHTS, read_header(directory / WEIGHTS).tensors[0].begin)  # since it was checked
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors has the sha256 \w+, expected \w+; restore"
    ):
        check_full_digests(record, weights, tmp_path / "cells")


@pytest.mark.usefixtures("sampled")
@pytest.mark.parametrize("with_record", [True, False])
def test_one_fingerprint_with_two_full_digests_is_refused(
    directory: Path, tmp_path: Path, with_record: bool
) -> None:
    record, cells = tmp_path / "located.json", tmp_path / "cells"
    weights = locate(directory, record).weights
    checkpoint = record if with_record else directory
    [first] = check_full_digests(checkpoint, weights, cells).values()
    flip(directory / WEIGHTS, unsampled_place(directory))
    check_weights(checkpoint, weights)  # the sample does not see it
    for _ in range(2):
        with pytest.raises(CheckpointError) as refused:
            check_full_digests(checkpoint, weights, cells)
        second = file_sha256(directory / WEIGHTS)
        for part in (str(directory / WEIGHTS), second, weights, first, "restore the file", "scoring.store"):
            assert part in str(refused.value)
    assert check_full_digests(checkpoint, weights, tmp_path / "another") == {WEIGHTS: second}
    flip(directory / WEIGHTS, unsampled_place(directory))
    assert check_full_digests(checkpoint, weights, cells) == {WEIGHTS: first}


@pytest.mark.usefixtures("sampled")
def test_two_directories_with_one_fingerprint_share_the_store(directory: Path, tmp_path: Path) -> None:
    cells = tmp_path / "cells"
    other = shutil.copytree(directory, tmp_path / "other")
    weights = locate(directory, tmp_path / "a" / "located.json").weights
    check_full_digests(tmp_path / "a" / "located.json", weights, cells)
    assert locate(other, tmp_path / "b" / "located.json").weights == weights
    check_full_digests(tmp_path / "b" / "located.json", weights, cells)
    flip(other / WEIGHTS, unsampled_place(other))
    assert locate(other, tmp_path / "b" / "located.json").weights == weights
    with pytest.raises(CheckpointError, match=f"{weights} was first scored with"):
        check_full_digests(tmp_path / "b" / "located.json", weights, cells)


@pytest.mark.usefixtures("sampled")
def test_an_identity_of_an_old_record_is_checked_against_all_bytes(directory: Path, tmp_path: Path) -> None:
    record, cells = tmp_path / "located.json", tmp_path / "cells"
    weights = old_record(directory, record)
    assert locate(directory, record).weights == weights
    assert opened(lambda: check_full_digests(record, weights, cells)) == [WEIGHTS]
    assert opened(lambda: check_full_digests(record, weights, cells)) == []

    flip(directory / WEIGHTS, unsampled_place(directory))
    check_weights(record, weights)
    with pytest.raises(CheckpointError, match=rf"has the sha256 \w+, expected \w+; .* or delete {record}"):
        check_full_digests(record, weights, cells)
    record.unlink()
    renewed = locate(directory, record).weights
    assert renewed.startswith("sampled:")
    assert check_full_digests(record, renewed, cells) == {WEIGHTS: file_sha256(directory / WEIGHTS)}


@pytest.mark.usefixtures("sampled")
def test_a_damaged_cache_costs_hashing_and_a_damaged_store_is_an_error(
    directory: Path, tmp_path: Path
) -> None:
    record, cells = tmp_path / "located.json", tmp_path / "cells"
    weights = locate(directory, record).weights
    found = check_full_digests(record, weights, cells)
    (tmp_path / HASHED).write_text("{")
    assert check_full_digests(record, weights, cells) == found
    [kept] = (cells / "weights").iterdir()
    assert json.loads(kept.read_text())["sha256"] == found
    kept.write_text("[]")
    with pytest.raises(CheckpointError, match=r"\.json is not a record of digests \(.*\); delete it"):
        check_full_digests(record, weights, cells)


def test_weights_of_a_local_ladder_are_not_hashed(directory: Path, tmp_path: Path) -> None:
    assert opened(lambda: check_full_digests(directory, "trained:0", tmp_path)) == []
    assert check_full_digests(directory, "trained:0", tmp_path) == {}


@pytest.mark.usefixtures("sampled")
def test_a_file_that_changes_while_it_is_hashed_is_refused(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tmp_path / "located.json"
    weights = locate(directory, record).weights

    def hash_and_touch(path: Path) -> str:
        path.touch()
        return file_sha256(path)

    monkeypatch.setattr("ebbtide.checkpoints.full_digest.file_sha256", hash_and_touch)
    with pytest.raises(CheckpointError, match=r"model\.safetensors changed while it was read; run snakemake"):
        check_full_digests(record, weights, tmp_path / "cells")
    assert not (tmp_path / HASHED).exists()
    assert not (tmp_path / "cells").exists()
