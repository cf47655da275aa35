"""Pickled weights: the same tensors as safetensors, and nothing that a pickle holds is ever run."""

import json
import os
import shutil
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import tiny
from ebbtide.checkpoints.hub.pickled import convert, convert_index, converted_from
from ebbtide.errors import CheckpointError
from ebbtide.scoring.engine import load_scorer, score_requests


def pickled(source: Path, to: Path, shards: int = 1, **how: Any) -> dict[str, Tensor]:
    """A copy of a checkpoint as PyTorch used to save it; returns its tensors."""
    shutil.copytree(source, to)
    tensors = load_file(to / "model.safetensors")
    (to / "model.safetensors").unlink()
    if shards == 1:
        torch.save(OrderedDict(tensors), to / "pytorch_model.bin", **how)
        return tensors
    weight_map = {}
    for shard in range(shards):
        name = f"pytorch_model-{shard + 1:05}-of-{shards:05}.bin"
        part = dict(list(tensors.items())[shard::shards])
        torch.save(part, to / name, **how)
        weight_map |= dict.fromkeys(part, name)
    index = {"metadata": {"total_size": 7}, "weight_map": weight_map}
    (to / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return tensors


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("checkpoint") / "whole")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("shards", [1, 3])
def test_converted_weights_score_bit_for_bit(
    zipped: bool, shards: int, checkpoint: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "bin"
    tensors = pickled(checkpoint, directory, shards, _use_new_zipfile_serialization=zipped)
    made = [convert(path, f"sha256:{i}") for i, path in enumerate(sorted(directory.glob("*.bin")))]
    convert_index(directory)

    assert len(made) == shards
    assert not list(directory.glob("pytorch_model*"))
    assert [converted_from(path) for path in made] == [f"sha256:{i}" for i in range(shards)]
    found = {name: tensor for path in made for name, tensor in load_file(path).items()}
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    if shards > 1:
        index = json.loads((directory / "model.safetensors.index.json").read_text())
        assert set(index["weight_map"].values()) == {path.name for path in made}
        assert index["metadata"] == {"total_size": 7}

    requests = tiny.requests(tmp_path / "task.parquet")
    ours, theirs = load_scorer(directory), load_scorer(checkpoint)
    assert ours.implementation == "ebbtide"
    assert score_requests(ours, requests).rows == score_requests(theirs, requests).rows


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_views_and_shared_memory_come_out_whole(dtype: torch.dtype, tmp_path: Path) -> None:
    base = torch.arange(24, dtype=dtype).reshape(4, 6)
    tensors = {
        "base": base,
        "tied": base,
        "turned": base.t(),
        "row": base[2],
        "column": base[:, 1],
        "scalar": torch.tensor(-1e4, dtype=dtype),
        "none": torch.empty(0, dtype=dtype),
        "nothing": torch.empty(0, dtype=dtype),
        "parameter": torch.nn.Parameter(base.clone()),
        "mask": torch.ones(1, 1, 3, 3, dtype=torch.bool).tril(),
    }
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    convert(tmp_path / "pytorch_model.bin", "git:1")
    found = load_file(tmp_path / "model.safetensors")
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


class Malicious:
    """Creates a file when it is unpickled as pickles usually are."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_pickle_is_not_run(zipped: bool, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.ones(2), "b": Malicious(trap)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        CheckpointError, match=r"pytorch_model\.bin contains more than tensors \(.*mkdir"
    ) as error:
        convert(tmp_path / "pytorch_model.bin", "git:1")
    assert "weights_only" not in str(error.value)  # the library's advice to load it all the same
    assert not trap.exists()
    assert path.exists()
    assert not list(tmp_path.glob("*.safetensors"))

    torch.load(path, weights_only=False)  # the trap works
    assert trap.exists()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({"model": {"a": torch.ones(2)}}, "has nested values at 'model', like a training state"),
        ({"epoch": 3, "state_dict": {"a": torch.ones(2)}}, "has nested values at 'state_dict'"),
        ({"a": torch.ones(2), "step": 3}, "a value of type int under 'step'; expected a dict of tensors"),
        ({"a": torch.eye(2).to_sparse()}, "a value of type Tensor under 'a'; expected"),
        ({3: torch.ones(2)}, "a value of type Tensor under 3; expected"),
        ([torch.ones(2)], "a value of type list; expected a dict of tensors"),
    ],
)
def test_what_is_not_tensors_by_name_is_refused(content: Any, what: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=what):
        convert(tmp_path / "pytorch_model.bin", "git:1")
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"PK\x03\x04"])
def test_a_damaged_file_is_an_error(damage: Any, tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.ones(200)}, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        CheckpointError, match=r"pytorch_model\.bin (is not a complete PyTorch file|contains more than)"
    ):
        convert(tmp_path / "pytorch_model.bin", "git:1")


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    for name in ("pytorch_model.bin", "pytorch_model_old.bin", "optimizer.bin"):
        torch.save({"a": torch.ones(2)}, tmp_path / name)
    convert(tmp_path / "pytorch_model.bin", "git:1")
    convert_index(tmp_path)
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == ["model.safetensors", "optimizer.bin", "pytorch_model_old.bin"]


def test_only_a_whole_converted_file_says_what_it_was_made_from(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(200)}, tmp_path / "pytorch_model.bin")
    made = convert(tmp_path / "pytorch_model.bin", "git:1")
    assert converted_from(made) == "git:1"
    made.write_bytes(made.read_bytes()[:-1])
    assert converted_from(made) is None
    assert converted_from(tmp_path / "missing.safetensors") is None
