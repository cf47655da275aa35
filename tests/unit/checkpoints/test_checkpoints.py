"""Checkpoint directories: digests, sizes, and everything that can be wrong with one."""

import json
import math
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny
from ebbtide.checkpoints.directory import directory_of, identities, locate
from ebbtide.checkpoints.load import count_parameters, load_model
from ebbtide.checkpoints.verification import check_before_loading
from ebbtide.checkpoints.weight_files import weight_files
from ebbtide.errors import CheckpointError
from ebbtide.scoring.engine import load_scorer


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def damaged(checkpoint: Path, tmp_path: Path) -> Path:
    shutil.copytree(checkpoint, tmp_path / "copy")
    return tmp_path / "copy"


def rewrite(directory: Path, **changes: torch.Tensor | None) -> None:
    weights = load_file(directory / "model.safetensors")
    for name, tensor in changes.items():
        weights.pop(name) if tensor is None else weights.__setitem__(name, tensor)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})


HEAD = "embed_out.weight"  # in the file; `lm_head.weight` in the model


def test_non_finite_weights_are_an_error(damaged: Path) -> None:
    weight = load_file(damaged / "model.safetensors")[HEAD]
    weight[3, 3] = math.nan
    rewrite(damaged, **{HEAD: weight})
    with pytest.raises(CheckpointError, match=r"copy: tensor lm_head\.weight has non-finite values"):
        load_model(damaged, "float32")


@pytest.mark.parametrize(
    ("name", "tensor", "what"),
    [
        (HEAD, None, "missing keys in the weights: lm_head.weight"),
        ("gpt_neox.extra", torch.zeros(2), "unexpected keys in the weights: gpt_neox.extra"),
        (HEAD, torch.zeros(3, 16), "mismatched keys in the weights: .*lm_head.weight"),
    ],
)
def test_tensors_that_do_not_fit_are_an_error(damaged: Path, name: str, tensor: Any, what: str) -> None:
    rewrite(damaged, **{name: tensor})
    with pytest.raises(CheckpointError, match=what):
        load_model(damaged, "float32")


def test_the_buffers_of_old_pythia_files_are_no_error(damaged: Path) -> None:
    layer = "gpt_neox.layers.0.attention"
    buffers = {f"{layer}.bias": torch.ones(1, 1, 4, 4), f"{layer}.masked_bias": torch.tensor(-1e9)}
    rewrite(damaged, **buffers, **{f"{layer}.rotary_emb.inv_freq": torch.ones(4)})
    load_model(damaged, "float32")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (shutil.rmtree, "copy is not a directory"),
        (lambda d: (d / "config.json").unlink(), "copy has no config.json"),
        (
            lambda d: (d / "model.safetensors").unlink(),
            r"copy has neither model.safetensors nor model.safetensors.index.json \(found: config",
        ),
        (
            lambda d: (d / "model.safetensors").write_bytes(b"short"),
            r"copy/model\.safetensors is not a complete safetensors file \(its header claims .*\); copy the",
        ),
        (lambda d: (d / "config.json").write_text('{"model_type": "nonsense"}'), "copy cannot be loaded"),
        (
            lambda d: (
                (d / "model.safetensors")
                .rename(d / "model.safetensors.index.json")
                .write_text('{"weight_map": {"a": "b.safetensors"}}')
            ),
            "copy lacks b.safetensors, which model.safetensors.index.json lists",
        ),
        (
            lambda d: (d / "model.safetensors").rename(d / "model.safetensors.index.json").write_text("[]"),
            "index.json: found JSON of type list, expected an object",
        ),
        (
            lambda d: (d / "model.safetensors").rename(d / "model.safetensors.index.json").write_text("{}"),
            "is not an index of weights",
        ),
    ],
)
def test_an_incomplete_directory_is_an_error(damaged: Path, change: Any, what: str) -> None:
    change(damaged)
    with pytest.raises(CheckpointError, match=what):
        load_model(damaged, "float32")


def test_parameters_are_counted_by_hand() -> None:
    # Width 16, two layers: attention 16·48 + 48 + 16·16 + 16, forward 16·32 + 32 + 32·16 + 16, norms 4·16.
    layers = 2 * (16 * 48 + 48 + 16 * 16 + 16 + 16 * 32 + 32 + 32 * 16 + 16 + 64) + 2 * 16
    assert count_parameters(tiny.model("gpt_neox", vocabulary=40)) == (layers + 2 * 40 * 16, layers)
    # Tied: the matrix counts once. Grouped keys: 16·16 + 2·16·8 + 16·16, three matrices of 16·32, norms.
    layers = 2 * (256 + 256 + 256 + 3 * 512 + 32) + 16
    assert count_parameters(tiny.model("llama", vocabulary=40)) == (layers + 40 * 16, layers)


def test_identities_follow_the_content_of_the_files(damaged: Path, tmp_path: Path) -> None:
    before = identities(damaged)
    shutil.copytree(damaged, tmp_path / "moved")
    assert identities(tmp_path / "moved") == before

    rewrite(damaged, **{HEAD: load_file(damaged / "model.safetensors")[HEAD] + 1})
    weights, tokenizer = identities(damaged)
    assert weights != before[0]
    assert tokenizer == before[1]

    (damaged / "tokenizer_config.json").write_text("{}")
    assert identities(damaged)[0] == weights
    assert identities(damaged)[1] != tokenizer


def test_other_files_beside_the_weights_are_not_looked_at(damaged: Path) -> None:
    """Mistral's directories hold a second copy, `consolidated.safetensors`; others a leftover."""
    before = identities(damaged)
    save_file({HEAD: torch.ones(3)}, damaged / "consolidated.safetensors")
    (damaged / "model.safetensors.index.json").write_text("[]")
    assert identities(damaged) == before
    assert [path.name for path in weight_files(damaged)] == ["model.safetensors"]


def test_the_files_of_an_index_are_the_weights(damaged: Path) -> None:
    weights = load_file(damaged / "model.safetensors")
    (damaged / "model.safetensors").unlink()
    save_file({HEAD: weights.pop(HEAD)}, damaged / "a.safetensors")
    save_file(weights, damaged / "b.safetensors")
    save_file({HEAD: torch.zeros(1)}, damaged / "c.safetensors")
    index = {"weight_map": {HEAD: "a.safetensors", **dict.fromkeys(weights, "b.safetensors")}}
    (damaged / "model.safetensors.index.json").write_text(json.dumps(index))
    assert [path.name for path in weight_files(damaged)] == ["a.safetensors", "b.safetensors"]
    assert load_scorer(damaged).implementation == "ebbtide"


def test_a_record_is_never_trusted_for_changed_files_or_when_it_is_damaged(
    damaged: Path, tmp_path: Path
) -> None:
    record = tmp_path / "located.json"
    before = locate(damaged, record)
    assert (before.weights, before.tokenizer) == identities(damaged)
    assert locate(damaged, record) == before
    assert directory_of(record) == damaged.resolve()

    for damage in ("damaged", "[1]", "{}"):
        record.write_text(damage)
        assert locate(damaged, record) == before

    rewrite(damaged, **{HEAD: load_file(damaged / "model.safetensors")[HEAD] + 1})
    assert locate(damaged, record).weights != before.weights


def test_a_directory_that_is_gone_keeps_its_identity(damaged: Path, tmp_path: Path) -> None:
    record = tmp_path / "located.json"
    before = locate(damaged, record)
    shutil.rmtree(damaged)
    assert locate(damaged, record) == replace(before, gone=True)
    with pytest.raises(CheckpointError, match="is not a directory"):
        check_before_loading(record, before.weights, before.tokenizer)
    record.unlink()
    with pytest.raises(CheckpointError, match="is not a directory"):
        locate(damaged, record)


def says(directory: Path, **config: Any) -> None:
    """Rewrite what config.json says about precision."""
    file = directory / "config.json"
    known = {k: v for k, v in json.loads(file.read_text()).items() if "dtype" not in k}
    file.write_text(json.dumps({**known, **config}))


def own_precision(directory: Path) -> str:
    return locate(directory, directory.parent / "located.json").dtype


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
@pytest.mark.parametrize(
    ("text", "dtype"), [("bfloat16", "bfloat16"), ("torch.float16", "float16"), ("float8_e4m3fn",) * 2]
)
def test_the_precision_is_what_the_config_says(damaged: Path, key: str, text: str, dtype: str) -> None:
    says(damaged, **{key: text})
    assert own_precision(damaged) == dtype


@pytest.mark.parametrize(
    ("type_", "dtype"),
    [
        (torch.float32, "float32"),
        (torch.float64, "float64"),
        (torch.bfloat16, "bfloat16"),
        (torch.float16, "float16"),
        (torch.float8_e4m3fn, "F8_E4M3"),
    ],
)
def test_without_a_word_the_precision_is_that_of_most_values(
    damaged: Path, type_: torch.dtype, dtype: str
) -> None:
    says(damaged, torch_dtype=None)
    rewrite(damaged, **{name: t.to(type_) for name, t in load_file(damaged / "model.safetensors").items()})
    save_file({"rotary": torch.ones(4)}, damaged / "a.safetensors")  # a few values of another type
    assert own_precision(damaged) == dtype


def test_an_unreadable_word_about_precision_is_an_error(damaged: Path) -> None:
    says(damaged)
    (damaged / "model.safetensors").write_bytes(b"\x09" + bytes(7) + b'{"a": [1]}')
    with pytest.raises(CheckpointError, match=r"model\.safetensors is not a complete safetensors file"):
        own_precision(damaged)
    (damaged / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json is not readable JSON"):
        own_precision(damaged)


def test_a_record_never_answers_for_another_path(damaged: Path, tmp_path: Path) -> None:
    """A study that was copied, with the path of another run in it, must not show the first run's numbers."""
    record = tmp_path / "located.json"
    locate(damaged, record)
    other = tmp_path / "another-run"
    with pytest.raises(CheckpointError, match=f"{other} is not a directory.*of another, {damaged}"):
        locate(other, record)


def test_a_directory_that_is_gone_keeps_its_precision(damaged: Path, tmp_path: Path) -> None:
    says(damaged, dtype="float16")
    record = tmp_path / "located.json"
    locate(damaged, record)
    shutil.rmtree(damaged)
    assert locate(damaged, record).dtype == "float16"


@pytest.mark.parametrize("name", ["generation_config.json", "added_tokens.json", "chat_template.jinja"])
def test_what_libraries_read_beside_the_weights_is_a_regular_file(damaged: Path, name: str) -> None:
    (damaged / name).unlink(missing_ok=True)
    os.mkfifo(damaged / name)
    with pytest.raises(CheckpointError, match=rf"{name} cannot be read \(it is a named pipe, not a regular"):
        load_model(damaged, "float32")


def test_a_configuration_of_a_far_larger_model_is_refused_before_it_is_built(damaged: Path) -> None:
    config = json.loads((damaged / "config.json").read_text())
    (damaged / "config.json").write_text(json.dumps({**config, "hidden_size": 1_000_000_000}))
    with pytest.raises(CheckpointError) as refused:
        load_model(damaged, "float32")
    assert re.fullmatch(
        rf"CheckpointError: {damaged}: config\.json describes [\d,]+ parameters, but the weights have "
        r"[\d,]+ values; copy the files again\.",
        str(refused.value),
    )
    (damaged / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 10_001}))
    with pytest.raises(CheckpointError, match=r"num_hidden_layers: found 10,001, allowed: at most 10,000"):
        load_model(damaged, "float32")


def test_a_tokenizer_that_is_a_pipe_is_refused(damaged: Path) -> None:
    (damaged / "tokenizer.json").unlink()
    os.mkfifo(damaged / "tokenizer.json")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json cannot be read \(it is a named pipe"):
        load_scorer(damaged)
