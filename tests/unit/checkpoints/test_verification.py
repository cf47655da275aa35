"""Files are compared with their recorded digests before a checkpoint is scored; each remedy works."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny
from ebbtide.checkpoints import fingerprint
from ebbtide.checkpoints.directory import Located, locate
from ebbtide.checkpoints.header import read_header
from ebbtide.checkpoints.verification import check_before_loading, check_weights
from ebbtide.errors import CheckpointError
from ebbtide.files import file_sha256
from ebbtide.jobs.loaded import Loaded
from ebbtide.logs import Progress
from ebbtide.training.spec import check_spec
from ebbtide.training.train import train_to_markers
from reading import flip, old_record
from workspace import SMALL_SERIES

WEIGHTS = "model.safetensors"
Identity = tuple[str, str]  # of the weights and of the tokenizer


def verified(checkpoint: Path, identity: Identity, cells: Path = Path("cells")) -> dict[str, str]:
    """Check a checkpoint as a scoring job does; return the digests of its weights."""
    check_before_loading(checkpoint, *identity)
    return check_weights(checkpoint, *identity, cells)


def planned(found: Located) -> Identity:
    return found.weights, found.tokenizer


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises(CheckpointError) as refused:
        call()
    return str(refused.value)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
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


SPEC = {
    "corpus": SMALL_SERIES["corpus"],
    "recipe": {**SMALL_SERIES["recipe"], "steps": 8, "warmup": 2},
    "model": {"width": 8, "layers": 1, "heads": 2, "learning_rate": 0.02},
}


def train(model: Path) -> tuple[Path, Identity]:
    """Train steps 0 and 8 of a model, as the workflow does; return the marker and the identity of step 8."""
    spec = check_spec({**SPEC, "checkpoints": [0, 8]})
    markers = [model / f"step{step}" / f"trained-{spec.identity(step)}.json" for step in (0, 8)]
    train_to_markers(SPEC, markers, Progress())
    return markers[1], (f"trained:{spec.identity(8)}", "toy")


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Identity]:
    return train(tmp_path_factory.mktemp("trained") / "toy")


@pytest.fixture
def trained(trained_once: tuple[Path, Identity], tmp_path: Path) -> tuple[Path, Identity]:
    """The marker of a trained checkpoint of its own, and its identity."""
    marker, identity = trained_once
    shutil.copytree(marker.parents[1], tmp_path / "toy")
    return tmp_path / "toy" / marker.parent.name / marker.name, identity


def swap_two_ids(path: Path) -> None:
    """Exchange the ids of two words of a tokenizer."""
    tokenizer = json.loads(path.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    one, other = list(vocabulary)[5:7]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    path.write_text(json.dumps(tokenizer))


def set_a_flag(path: Path) -> None:
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "use_parallel_residual": not config["use_parallel_residual"]}))


def flip_a_bit(path: Path) -> None:
    flip(path, path.stat().st_size - 6)


DAMAGES = {"config.json": set_a_flag, "tokenizer.json": swap_two_ids, WEIGHTS: flip_a_bit}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_of_a_trained_checkpoint_is_refused_until_it_is_trained_again(
    name: str, trained: tuple[Path, Identity]
) -> None:
    marker, identity = trained
    step, before = marker.parent, file_sha256(marker.parent / name)
    assert verified(marker, identity) == {WEIGHTS: file_sha256(step / WEIGHTS)}
    DAMAGES[name](step / name)
    for _ in range(2):
        said = refusal(lambda: verified(marker, identity))
        assert said == (
            f"CheckpointError: {step / name} has the digest sha256:{file_sha256(step / name)}, but "
            f"sha256:{before} in {step / 'checkpoint.json'}; delete {step}: it is trained again."
        )
    if name != WEIGHTS:  # before it is loaded
        assert refusal(lambda: check_before_loading(marker, *identity)) == said
    shutil.rmtree(step)
    train(step.parent)
    verified(marker, identity)


def write(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda d: (d / "checkpoint.json").unlink(), "{d}/checkpoint.json does not exist"),
        (
            lambda d: write(d / "checkpoint.json", "[]"),
            "{d}/checkpoint.json: found JSON of type list",
        ),
        (
            lambda d: write(d / "checkpoint.json", "{}"),
            "{d}/checkpoint.json is not the record of a trained",
        ),
        (
            lambda d: write(d / "checkpoint.json", '{"weights": "0", "files": {"../../x": "0"}}'),
            "{d}/checkpoint.json: files: found '../../x', expected a file name and sha256",
        ),
        (
            lambda d: shutil.copy(d.parent / "step0/checkpoint.json", d),
            "{d} has the weights trained:{other}, but the run was planned with {planned}",
        ),
        (lambda d: (d / WEIGHTS).unlink(), "{d}/model.safetensors is missing, or not a regular file"),
        (lambda d: (d / "config.json").unlink(), "{d}/config.json is missing, or not a regular file"),
        (
            lambda d: write(d / "special_tokens_map.json", "{}"),
            "{d}/special_tokens_map.json was not written by training; remove it, or",
        ),
    ],
)
def test_a_trained_checkpoint_without_a_record_or_a_file_says_that_it_is_trained_again(
    change: Callable[[Path], Any], what: str, trained: tuple[Path, Identity]
) -> None:
    marker, identity = trained
    step = marker.parent
    change(step)
    said = refusal(lambda: verified(marker, identity))
    other = check_spec({**SPEC, "checkpoints": [0]}).identity(0)
    assert what.format(d=step, other=other, planned=identity[0]) in said
    assert said.endswith(f"delete {step}: it is trained again.")
    shutil.rmtree(step)
    train(step.parent)
    verified(marker, identity)


def test_a_file_that_cannot_be_read_is_named(
    trained: tuple[Path, Identity], monkeypatch: pytest.MonkeyPatch
) -> None:
    marker, identity = trained

    def broken(path: Path, *_: str) -> str:
        raise OSError(errno.EIO, "Input/output error", str(path))

    for name, function in (("config.json", "digest_of"), (WEIGHTS, "file_sha256")):
        with monkeypatch.context() as patch:
            patch.setattr(f"ebbtide.checkpoints.verification.{function}", broken)
            assert f"{marker.parent / name} cannot be read (Input/output error)" in refusal(
                lambda: verified(marker, identity)
            )


def test_weights_that_cannot_be_loaded_are_explained_by_their_digest(trained: tuple[Path, Identity]) -> None:
    """What a library says of a truncated file has no remedy."""
    marker, (weights, tokenizer) = trained
    path = marker.parent / WEIGHTS
    path.write_bytes(path.read_bytes()[:-4])
    identity = {"weights": weights, "tokenizer": tokenizer, "dtype": "float32"}
    said = refusal(
        lambda: Loaded(1).get({"checkpoint": str(marker), "identity": identity}, "cells", encoded=False)
    )
    assert f"{path} has the digest sha256:{file_sha256(path)}, but" in said
    assert said.endswith(f"delete {marker.parent}: it is trained again.")


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("name", DAMAGES)
def test_a_file_on_disk_that_changes_after_planning_is_refused_until_the_record_is_deleted(
    name: str, large: bool, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:
        monkeypatch.setattr(fingerprint, "WHOLE_BYTES", 10_000)
    record = tmp_path / "located.json"
    identity, before = planned(locate(directory, record)), file_sha256(directory / name)
    assert verified(record, identity) == {WEIGHTS: file_sha256(directory / WEIGHTS)}
    copy = (directory / name).read_bytes()
    DAMAGES[name](directory / name)
    found = file_sha256(directory / name)
    said = refusal(lambda: verified(record, identity))
    if large and name == WEIGHTS:  # the record has only a sample of them
        assert said.startswith(f"CheckpointError: {directory} has the weights sampled:")
        assert said.endswith("run snakemake again, which scores the new contents.")
    else:
        assert said == (
            f"CheckpointError: {directory / name} has the digest sha256:{found}, "
            f"but sha256:{before} in {record}; "
            f"restore it, or delete {record} and run snakemake, which scores the new contents."
        )
        if name != WEIGHTS:
            assert refusal(lambda: check_before_loading(record, *identity)) == said
    (directory / name).write_bytes(copy)
    verified(record, identity)  # restored
    DAMAGES[name](directory / name)
    record.unlink()
    renewed = planned(locate(directory, record))
    assert renewed != identity
    verified(record, renewed, tmp_path / "renewed")


def test_a_file_that_appears_or_disappears_on_disk_after_planning_is_named(
    directory: Path, tmp_path: Path
) -> None:
    record = tmp_path / "located.json"
    identity = planned(locate(directory, record))
    write(directory / "special_tokens_map.json", "{}")
    end = f"; restore it, or delete {record} and run snakemake, which scores the new contents."
    assert refusal(lambda: check_before_loading(record, *identity)) == (
        f"CheckpointError: {directory}/special_tokens_map.json was not there when {record} was written{end}"
    )
    (directory / "special_tokens_map.json").unlink()
    (directory / "tokenizer_config.json").unlink()
    assert refusal(lambda: check_before_loading(record, *identity)) == (
        f"CheckpointError: {directory}/tokenizer_config.json is missing, or not a regular file{end}"
    )


@pytest.mark.parametrize("name", DAMAGES)
def test_a_record_renewed_by_another_run_does_not_hide_a_change(
    name: str, directory: Path, tmp_path: Path
) -> None:
    record = tmp_path / "located.json"
    identity = planned(locate(directory, record))
    DAMAGES[name](directory / name)
    assert planned(locate(directory, record)) != identity  # planning of the other run
    what = "tokenizer" if name == "tokenizer.json" else "weights"
    for checkpoint in (record, directory):
        said = refusal(lambda place=checkpoint: verified(place, identity))  # type: ignore[misc]
        assert f"{directory} has the {what} files:" in said
        assert said.endswith("run snakemake again, which scores the new contents.")
    verified(record, planned(locate(directory, record)))


@pytest.mark.usefixtures("sampled")
@pytest.mark.parametrize("with_record", [True, False])
def test_one_fingerprint_with_two_full_digests_is_refused(
    directory: Path, tmp_path: Path, with_record: bool
) -> None:
    record = tmp_path / "located.json"
    identity = planned(locate(directory, record))
    checkpoint = record if with_record else directory
    [first] = verified(checkpoint, identity).values()
    flip(directory / WEIGHTS, unsampled_place(directory))
    check_before_loading(checkpoint, *identity)  # the sample does not see it
    for _ in range(2):
        second = file_sha256(directory / WEIGHTS)
        assert refusal(lambda: verified(checkpoint, identity)) == (
            f"CheckpointError: {directory / WEIGHTS} has the sha256 {second}, "
            f"but {identity[0]} was first scored with {first} "
            f"(cells/weights/{identity[0].partition(':')[2]}.json); restore the file, or set "
            "scoring.store to another directory."
        )
    assert verified(checkpoint, identity, tmp_path / "another") == {WEIGHTS: second}
    flip(directory / WEIGHTS, unsampled_place(directory))
    assert verified(checkpoint, identity) == {WEIGHTS: first}


@pytest.mark.usefixtures("sampled")
def test_two_directories_with_one_fingerprint_share_the_store(directory: Path, tmp_path: Path) -> None:
    other, own, others = tmp_path / "other", tmp_path / "a/located.json", tmp_path / "b/located.json"
    shutil.copytree(directory, other)
    identity = planned(locate(directory, own))
    verified(own, identity)
    assert planned(locate(other, others)) == identity
    verified(others, identity)
    flip(other / WEIGHTS, unsampled_place(other))
    assert planned(locate(other, others)) == identity
    assert f"{identity[0]} was first scored with" in refusal(lambda: verified(others, identity))


@pytest.mark.usefixtures("sampled")
def test_an_identity_of_an_old_record_is_checked_against_all_bytes(directory: Path, tmp_path: Path) -> None:
    record = tmp_path / "located.json"
    weights = old_record(directory, record)
    identity = planned(locate(directory, record))
    assert identity[0] == weights
    verified(record, identity)
    flip(directory / WEIGHTS, unsampled_place(directory))
    assert planned(locate(directory, record)) == identity  # planning reads a sample
    said = refusal(lambda: verified(record, identity))
    assert said.endswith(
        f"; restore it, or delete {record} and run snakemake, which scores the new contents."
    )
    record.unlink()
    renewed = planned(locate(directory, record))
    assert renewed[0].startswith("sampled:")
    verified(record, renewed)


@pytest.mark.usefixtures("sampled")
@pytest.mark.parametrize("text", ["[]", "{", '{"sha256": []}'])
def test_a_damaged_record_of_first_digests_is_an_error(text: str, directory: Path, tmp_path: Path) -> None:
    record = tmp_path / "located.json"
    identity = planned(locate(directory, record))
    found = verified(record, identity)
    [kept] = Path("cells/weights").iterdir()
    assert json.loads(kept.read_text())["sha256"] == found
    kept.write_text(text)
    said = refusal(lambda: verified(record, identity))
    assert str(kept) in said
    assert said.endswith("; delete it, and score again with --config recompute=true.")


def test_a_file_that_changes_while_it_is_hashed_is_refused(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tmp_path / "located.json"
    identity = planned(locate(directory, record))

    def hash_and_touch(path: Path) -> str:
        path.touch()
        return file_sha256(path)

    check_before_loading(record, *identity)
    monkeypatch.setattr("ebbtide.checkpoints.verification.file_sha256", hash_and_touch)
    with pytest.raises(CheckpointError, match=r"model\.safetensors changed while it was read; run snakemake"):
        check_weights(record, *identity, "cells")
    assert not Path("cells").exists()
