"""GGUF files: written in llama.cpp's layout, converted, and equal to the checkpoints they were made of."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import architectures
import real_models
from ebbtide.checkpoints.formats.conversion import write_converted
from ebbtide.checkpoints.formats.gguf import GgufFile
from ebbtide.checkpoints.formats.gguf_config import ARCHITECTURES
from ebbtide.checkpoints.formats.gguf_header import read_gguf_header
from ebbtide.checkpoints.formats.planning import Reading, examine
from ebbtide.checkpoints.weight_files import WHOLE
from ebbtide.corpus import write_tokenizer
from ebbtide.errors import CheckpointError

gguf = pytest.importorskip("gguf", reason="GGUF files are dequantised by the package gguf")
from gguf_files import write_gguf  # noqa: E402 (it needs the package)

# As llama.cpp runs them: the scale of attention is that of the heads, and one layer in six has no window.
SCALED = {**architectures.SHAPED, "query_pre_attn_scalar": 6, "sliding_window": architectures.WINDOW}
STRETCHED = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}
GEMMAS: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma2": ("gemma2", SCALED),
    "gemma3": ("gemma3_text", {**SCALED, "num_hidden_layers": 6}),
    "gemma3, stretched": (
        "gemma3_text",
        {**SCALED, "num_hidden_layers": 6, "rope_parameters": STRETCHED},
    ),
}
FAMILIES = (
    *("llama", "mistral", "qwen2", "qwen3", "olmo", "olmo2", "gemma", *GEMMAS),
    *("gpt2", "gpt_neox", "gpt_neox, in sequence", "bloom"),
)
SHORT = {**architectures.GROUPED, "tie_word_embeddings": True}


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("originals")
    for name, (model_type, settings) in GEMMAS.items():
        architectures.random_model(model_type, settings).save_pretrained(folder / name)
        write_tokenizer(folder / name)
    others = architectures.saver(folder)
    return lambda name: folder / name if name in GEMMAS else others(name)


def reading(tokenizer: Path, config: Path | None = None) -> Reading:
    given = None if config is None else str(config)
    return Reading("gguf", "gguf", given, str(tokenizer), "models[0]")


def converted(file: Path, original: Path, to: Path, config: Path | None = None) -> Path:
    to.mkdir()
    write_converted(examine(file, reading(original, config)), to)
    return to


def logits(directory: Path) -> torch.Tensor:
    from transformers import AutoModelForCausalLM

    with torch.no_grad():
        found: torch.Tensor = AutoModelForCausalLM.from_pretrained(directory)(
            torch.arange(1, 13).reshape(1, -1)
        ).logits
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_float32_gives_the_weights_and_the_model_again(
    family: str, originals: Callable[[str], Path], tmp_path: Path
) -> None:
    original = originals(family)
    window = architectures.WINDOW if family == "mistral" else None  # which files of Llama's kind lack
    made = converted(
        write_gguf(original, tmp_path / "model.gguf"),
        original,
        tmp_path / "converted",
        original / "config.json" if window else None,
    )
    expected, found = load_file(original / WHOLE), load_file(made / WHOLE)
    for name, tensor in found.items():
        stored = expected[name] if name in expected else expected["embed_out.weight"]
        if "norm" in name and family.startswith("gemma"):  # stored as 1 + weight in float32
            torch.testing.assert_close(tensor, stored, rtol=0, atol=2e-7)
        else:
            assert torch.equal(tensor, stored), name
    torch.testing.assert_close(logits(made), logits(original), rtol=1e-5, atol=1e-5)


def test_every_known_architecture_is_tested() -> None:
    families = {architectures.NATIVE[name][0] for name in FAMILIES} - {"mistral"}  # of Llama's kind
    assert {architecture.family for architecture in ARCHITECTURES.values()} == families


def test_quantised_tensors_are_what_gguf_makes_of_them(tmp_path: Path) -> None:
    original = tmp_path / "original"
    settings = {**architectures.PLAIN, "hidden_size": 64, "intermediate_size": 96}
    architectures.random_model("qwen2", settings).save_pretrained(original)
    write_tokenizer(original)
    file = write_gguf(original, tmp_path / "model.gguf", quantisation="Q8_0")
    source = GgufFile(file)
    kinds = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(file).tensors}
    assert set(kinds.values()) == {"F32", "Q8_0"}
    for tensor in gguf.GGUFReader(file).tensors:
        expected = gguf.dequantize(tensor.data, tensor.tensor_type)
        assert np.array_equal(source.read(tensor.name).numpy(), expected)
    assert set(source.dtypes.values()) == {"float32"}
    made = load_file(converted(file, original, tmp_path / "converted") / WHOLE)
    before = load_file(original / WHOLE)
    name = "model.layers.1.mlp.up_proj.weight"
    steps = before[name].reshape(-1, 32).abs().amax(1) / 127 * 1.1  # a scale per 32 values, in float16
    errors = (made[name] - before[name]).reshape(-1, 32).abs()
    assert errors.max() > 0 and bool((errors <= 0.51 * steps[:, None]).all())


@pytest.mark.long
def test_a_real_file_gives_what_transformers_and_gguf_make_of_it(tmp_path: Path) -> None:
    reference = real_models.smollm2()
    file = real_models.smollm2_gguf(tmp_path)
    made = converted(file, reference, tmp_path / "converted")
    expected, found = load_file(reference / WHOLE), load_file(made / WHOLE)
    assert len(found) == 272 and found.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


@pytest.mark.parametrize(("kind", "dtype"), [("F16", torch.float16), ("BF16", torch.bfloat16)])
def test_stored_precisions_are_kept(
    kind: str, dtype: torch.dtype, originals: Callable[[str], Path], tmp_path: Path
) -> None:
    original = originals("qwen2")
    file = write_gguf(original, tmp_path / "model.gguf", quantisation=kind)
    made = converted(file, original, tmp_path / "converted")
    for name, tensor in load_file(made / WHOLE).items():
        before = load_file(original / WHOLE)[name]
        assert tensor.dtype == (dtype if tensor.ndim == 2 else torch.float32)
        assert torch.equal(tensor, before.to(tensor.dtype))
    assert json.loads((made / "config.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tied") / "original"
    architectures.random_model("llama", SHORT).save_pretrained(directory)
    write_tokenizer(directory)
    return directory


def test_a_file_without_an_output_matrix_is_tied(tied: Path, tmp_path: Path) -> None:
    made = converted(write_gguf(tied, tmp_path / "model.gguf"), tied, tmp_path / "converted")
    assert "lm_head.weight" not in load_file(made / WHOLE)
    assert json.loads((made / "config.json").read_text())["tie_word_embeddings"]
    torch.testing.assert_close(logits(made), logits(tied), rtol=1e-6, atol=1e-6)


def test_an_output_matrix_of_its_own_is_kept(tied: Path, tmp_path: Path) -> None:
    def add(tensors: dict[str, np.ndarray], keys: dict[str, Any]) -> None:
        tensors["output.weight"] = 2 * tensors["token_embd.weight"]

    made = converted(write_gguf(tied, tmp_path / "model.gguf", change=add), tied, tmp_path / "converted")
    assert not json.loads((made / "config.json").read_text())["tie_word_embeddings"]
    torch.testing.assert_close(logits(made), 2 * logits(tied), rtol=1e-6, atol=1e-5)


def llama3(theta: float, size: int, scaling: dict[str, Any]) -> np.ndarray:
    """The factors that a conversion writes, from the frequencies of transformers."""
    from ebbtide.scoring.families.architecture import rotary_frequencies

    device = torch.device("cpu")
    plain = rotary_frequencies({"rope_theta": theta}, size, device)
    scaled = rotary_frequencies({"rope_theta": theta, **scaling}, size, device)
    assert plain is not None and scaled is not None
    return (plain / scaled).numpy()


LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


@pytest.mark.parametrize("original", [8192, 4096])
def test_the_factors_of_llama_3_1_are_recognised(original: int, tmp_path: Path) -> None:
    settings = {**architectures.PLAIN, "hidden_size": 64, "num_attention_heads": 1}
    architectures.random_model("llama", settings).save_pretrained(tmp_path / "model")
    write_tokenizer(tmp_path / "model")
    scaling = {**LLAMA3, "original_max_position_embeddings": original}

    def add(tensors: dict[str, np.ndarray], keys: dict[str, Any]) -> None:
        keys["llama.rope.freq_base"] = 500000.0
        tensors["rope_freqs.weight"] = llama3(500000.0, 64, scaling)

    source = GgufFile(write_gguf(tmp_path / "model", tmp_path / "model.gguf", change=add))
    if original == 8192:
        assert source.config["rope_parameters"] == {**scaling, "rope_theta": 500000.0}
        examined = examine(tmp_path / "model.gguf", reading(tmp_path / "model"))
        assert examined.plan.ignored["rope_freqs.weight"] == 1
    else:
        with pytest.raises(CheckpointError, match=r"rope_freqs\.weight\) that are not those of Llama 3\.1"):
            source.config  # noqa: B018


# -- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"general.architecture": "mamba"}, "general.architecture: found 'mamba'; allowed: llama, qwen2"),
        ({"general.type": "adapter"}, "general.type is 'adapter'; expected a model"),
        ({"split.count": 3}, "is one of 3 parts of a model; join them"),
        ({"llama.expert_count": 8}, "found llama.expert_count 8, so its metadata do not say"),
        ({"llama.rope.scaling.type": "yarn"}, "found rotary positions of the type 'yarn'"),
        ({"llama.a_new_key": 1}, "found llama.a_new_key, which is not known here"),
        ({"llama.block_count": None}, "found no llama.block_count"),
        ({"llama.rope.dimension_count": 2}, "found llama.rope.dimension_count 2"),
        ({"llama.block_count": 4}, "model.layers.3.* is not made: the checkpoint lacks blk.3"),
        ({"llama.block_count": 2}, "no rule uses blk.2"),
        ({"llama.feed_forward_length": 64}, "shape 16 × 32, but config.json implies 16 × 64"),
    ],
)
def test_other_models_are_refused_before_weights_are_read(
    metadata: dict[str, Any], message: str, tied: Path, tmp_path: Path
) -> None:
    file = write_gguf(tied, tmp_path / "model.gguf", **metadata)
    with pytest.raises(CheckpointError, match=message):
        examine(file, reading(tied))


def test_a_configuration_of_the_row_replaces_the_metadata(tied: Path, tmp_path: Path) -> None:
    file = write_gguf(tied, tmp_path / "model.gguf", **{"llama.a_new_key": 1})
    made = converted(file, tied, tmp_path / "converted", tied)
    assert torch.equal(logits(made), logits(tied))


def test_a_file_needs_a_tokenizer(tied: Path, tmp_path: Path) -> None:
    (tmp_path / "run/files").mkdir(parents=True)
    file = write_gguf(tied, tmp_path / "run/files/model.gguf")
    with pytest.raises(CheckpointError, match=r"no tokenizer.json in .*files or its parent"):
        examine(file, Reading("gguf", "gguf", None, None, "models[0]"))


def test_the_tokenizer_must_be_that_of_the_file(tied: Path, tmp_path: Path) -> None:
    file = write_gguf(tied, tmp_path / "model.gguf", tokenizer=tied)
    examine(file, reading(tied))
    settings = json.loads((tied / "tokenizer.json").read_text())
    vocabulary = settings["model"]["vocab"]
    first, last = list(vocabulary)[1], list(vocabulary)[-1]
    vocabulary[first], vocabulary[last] = vocabulary[last], vocabulary[first]
    (tmp_path / "other").mkdir()
    (tmp_path / "other/tokenizer.json").write_text(json.dumps(settings))
    with pytest.raises(
        CheckpointError, match=r"its token 1 is .* in .*other \(2 of \d+ tokens differ\); set `tok"
    ):
        examine(file, reading(tmp_path / "other"))


def _edit(at: int, value: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + value + data[at + len(value) :]


def _of_type(number: int) -> Callable[[bytes], bytes]:
    """An edit that gives the first tensor another type."""

    def edit(data: bytes) -> bytes:
        name = b"token_embd.weight"
        at = data.index(struct.pack("<Q", len(name)) + name) + 8 + len(name) + 4 + 2 * 8
        return data[:at] + struct.pack("<I", number) + data[at + 4 :]

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda data: b"", "is empty"),
        (lambda data: b"\x80\x02" + data, r"is not a GGUF file: it begins with b'\\x80\\x02GG'"),
        (lambda data: data[:100], "ends within its header, after 100 bytes"),
        (lambda data: data[:-64], r"has .* bytes, but its tensor .* ends at"),
        (_edit(4, struct.pack("<I", 1)), "is GGUF of version 1; allowed: 2, 3"),
        (_edit(4, struct.pack(">I", 3)), r"is GGUF of version 50331648 \(big-endian\)"),
        (_edit(8, struct.pack("<Q", 1 << 60)), "claims 1,152,921,504,606,846,976 tensors"),
        (_edit(16, struct.pack("<Q", 1 << 60)), "claims 1,152,921,504,606,846,976 metadata"),
        (_edit(24, struct.pack("<Q", 1 << 40)), "bytes of text, at most"),
        (_edit(24 + 8 + 20, struct.pack("<I", 99)), "a value of the unknown type 99"),
        (_of_type(99), "has the type 99, which the package gguf .* cannot dequantise"),
        (_of_type(15), "has the type Q8_K, which the package gguf .* cannot dequantise"),
        (_of_type(8), r"of the type Q8_0 has the shape \(40, 16\); expected rows of a multiple of 32"),
    ],
)
def test_damaged_files_are_refused(
    edit: Callable[[bytes], bytes], message: str, tied: Path, tmp_path: Path
) -> None:
    file = write_gguf(tied, tmp_path / "model.gguf")
    file.write_bytes(edit(file.read_bytes()))
    with pytest.raises(CheckpointError, match=message):
        GgufFile(file)


def test_no_truncation_of_the_header_is_read(tied: Path, tmp_path: Path) -> None:
    data = write_gguf(tied, tmp_path / "model.gguf").read_bytes()
    end = min(tensor.begin for tensor in read_gguf_header(tmp_path / "model.gguf").tensors)
    cut = tmp_path / "cut.gguf"
    for size in range(1, end - 32, 7):
        cut.write_bytes(data[:size])
        with pytest.raises(CheckpointError):
            read_gguf_header(cut)


def test_float32_metadata_are_the_numbers_that_were_meant(tied: Path, tmp_path: Path) -> None:
    file = write_gguf(tied, tmp_path / "model.gguf")
    found = read_gguf_header(file).metadata["llama.attention.layer_norm_rms_epsilon"]
    assert found == json.loads((tied / "config.json").read_text())["rms_norm_eps"]
