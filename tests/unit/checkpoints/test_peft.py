"""Adapters written by PEFT itself, merged tensor by tensor: equal to PEFT's own merge."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import architectures
from ebbtide.checkpoints.formats.conversion import write_converted
from ebbtide.checkpoints.formats.peft import PeftSource, base_of
from ebbtide.checkpoints.formats.planning import Reading, examine, locate_source
from ebbtide.errors import CheckpointError

peft = pytest.importorskip("peft", reason="the peer of merging adapters is the package peft")

FAMILIES = ("gpt_neox", "llama", "gpt2", "opt", "bloom", "olmo2", "qwen3", "gemma")
VOCABULARY = architectures.VOCABULARY


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return architectures.saver(tmp_path_factory.mktemp("bases"))


def load(directory: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(directory).eval()


def adapted(base: Path, **settings: Any) -> Any:
    """PEFT's model of an adapter with random weights, also in the magnitudes of DoRA."""
    torch.manual_seed(1)
    settings = {"r": 2, "lora_alpha": 3, "init_lora_weights": False, "task_type": "CAUSAL_LM"} | settings
    model = peft.get_peft_model(load(base), peft.LoraConfig(**settings)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            whole = any(part in name for part in ("magnitude", "modules_to_save", "tokens_delta"))
            if whole or (parameter.requires_grad and "lora_" not in name):
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def merged(adapter: Path, base: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    source = PeftSource(adapter, base)
    tensors = {name: source.read(name) for name in source.shapes}
    assert {name: str(tensor.dtype) for name, tensor in tensors.items()} == {
        name: f"torch.{dtype}" for name, dtype in source.dtypes.items()
    }
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == dict(source.shapes)
    assert all(path.is_file() for path in source.files)
    return tensors, source.config


def built(tensors: Mapping[str, torch.Tensor], config: Mapping[str, Any], folder: Path) -> Any:
    """The model that transformers loads from merged tensors and their configuration."""
    from safetensors.torch import save_file

    folder.mkdir()
    save_file(dict(tensors), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    return load(folder)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(torch.arange(1, 13).reshape(1, -1)).logits
    return found


CASES = {
    "all layers": {"target_modules": "all-linear"},
    "ranks": {
        "target_modules": "all-linear",
        "use_rslora": True,
        "rank_pattern": {r"layers\.1\..*": 3, "c_attn": 4, "query_key_value": 5},
        "alpha_pattern": {"q_proj": 7, "c_proj": 5},
    },
    "DoRA": {"target_modules": "all-linear", "use_dora": True},
    "biases": {"target_modules": "all-linear", "bias": "all"},
    "some biases": {"target_modules": "all-linear", "bias": "lora_only"},
}


@pytest.mark.parametrize(
    ("family", "case"),
    [(family, "all layers") for family in FAMILIES]
    + [(family, case) for family in ("gpt_neox", "llama", "gpt2") for case in CASES if case != "all layers"],
)
def test_merging_equals_that_of_peft(family: str, case: str, bases: Any, tmp_path: Path) -> None:
    base = bases(family)
    model = adapted(base, **CASES[case])
    model.save_pretrained(tmp_path)
    tensors, config = merged(tmp_path, base)
    expected = model.merge_and_unload()
    stored = expected.state_dict()
    for name, tensor in tensors.items():
        in_model = name.replace("embed_out", "lm_head")  # its name since transformers 5
        torch.testing.assert_close(tensor, stored[in_model], rtol=1e-6, atol=1e-6)
    changed = sum(
        not torch.equal(tensors[name], tensor)
        for name, tensor in load(base).state_dict().items()
        if name in tensors
    )
    assert changed >= 3
    torch.testing.assert_close(
        logits(built(tensors, config, tmp_path / "merged")), logits(expected), rtol=1e-5, atol=1e-5
    )


def test_plain_lora_has_the_bits_of_peft(bases: Any, tmp_path: Path) -> None:
    model = adapted(bases("llama"), target_modules="all-linear")
    model.save_pretrained(tmp_path)
    tensors, _ = merged(tmp_path, bases("llama"))
    expected = model.merge_and_unload().state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in tensors.items())


UNTIED = {  # what makes two matrices of one
    "LoRA on the embedding": {"target_modules": ["wte", "c_attn"]},
    "DoRA on the embedding": {"target_modules": ["wte", "c_attn"], "use_dora": True},
    "LoRA on the head": {"target_modules": ["c_attn", "lm_head"]},
    "embedding saved": {"target_modules": ["c_attn"], "modules_to_save": ["wte", "ln_f"]},
    "both saved": {"target_modules": ["c_attn"], "modules_to_save": ["wte", "lm_head"]},
    "head saved": {"target_modules": ["c_attn"], "modules_to_save": ["lm_head"]},
    "tied, both saved": {
        "target_modules": ["c_attn"],
        "modules_to_save": ["transformer.wte"],
        "ensure_weight_tying": True,
    },
}
TIED = {"rows": {"target_modules": ["c_attn"], "trainable_token_indices": [1, 3]}}


@pytest.mark.parametrize("case", [*UNTIED, *TIED])
def test_a_tied_base_becomes_the_model_that_was_trained(case: str, bases: Any, tmp_path: Path) -> None:
    base = bases("gpt2")
    model = adapted(base, **(UNTIED | TIED)[case])
    model.save_pretrained(tmp_path)
    tensors, config = merged(tmp_path, base)
    assert ("lm_head.weight" in tensors) == (case in UNTIED)
    assert config["tie_word_embeddings"] == (case in TIED)
    torch.testing.assert_close(
        logits(built(tensors, config, tmp_path / "merged")), logits(model), rtol=1e-5, atol=1e-5
    )


def test_tied_adapters_change_both_matrices(bases: Any, tmp_path: Path) -> None:
    base = bases("gpt2")
    model = adapted(base, target_modules=["wte", "lm_head"], ensure_weight_tying=True)
    model.save_pretrained(tmp_path)
    tensors, config = merged(tmp_path, base)
    torch.testing.assert_close(tensors["lm_head.weight"], tensors["transformer.wte.weight"])
    torch.testing.assert_close(
        logits(built(tensors, config, tmp_path / "merged")), logits(model), rtol=1e-5, atol=1e-5
    )


def test_added_tokens_enlarge_the_vocabulary(bases: Any, tmp_path: Path) -> None:
    base = bases("llama")
    bigger = load(base)
    bigger.resize_token_embeddings(VOCABULARY + 3)
    settings = peft.LoraConfig(
        task_type="CAUSAL_LM",
        init_lora_weights=False,
        target_modules=["q_proj"],
        modules_to_save=["embed_tokens", "lm_head"],
    )
    model = peft.get_peft_model(bigger, settings).eval()
    model.save_pretrained(tmp_path)
    tensors, config = merged(tmp_path, base)
    assert config["vocab_size"] == VOCABULARY + 3
    torch.testing.assert_close(
        logits(built(tensors, config, tmp_path / "merged")), logits(model), rtol=1e-5, atol=1e-5
    )


def test_a_base_in_bfloat16_is_merged_in_float32(bases: Any, tmp_path: Path) -> None:
    model = load(bases("llama")).bfloat16()
    model.save_pretrained(tmp_path / "base")
    adapted(bases("llama"), target_modules=["q_proj"]).save_pretrained(tmp_path / "adapter")
    source = PeftSource(tmp_path / "adapter", tmp_path / "base")
    assert {source.read(name).dtype for name in source.shapes} == {torch.float32}
    assert source.config["dtype"] == "float32"
    kept = "model.layers.0.self_attn.k_proj.weight"
    assert torch.equal(source.read(kept), model.state_dict()[kept].float())


def test_a_pickled_adapter_is_the_same(bases: Any, tmp_path: Path) -> None:
    base = bases("llama")
    model = adapted(base, target_modules=["q_proj"])
    model.save_pretrained(tmp_path / "new")
    model.save_pretrained(tmp_path / "old", safe_serialization=False)
    new, old = merged(tmp_path / "new", base)[0], merged(tmp_path / "old", base)[0]
    assert all(torch.equal(tensor, old[name]) for name, tensor in new.items())


# -- converted -----------------------------------------------------------------------------------------------


def converted(adapter: Path, base: Path, to: Path) -> Path:
    examined = examine(adapter, Reading("peft", "peft", None, None, "models[0]", str(base)))
    assert examined.tokenizer == base  # the adapter has none
    to.mkdir()
    write_converted(examined, to)
    return to


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("gpt_neox", {"target_modules": "all-linear"}),  # its head has two names
        ("gpt2", UNTIED["embedding saved"]),  # embedding and head become two
        ("gemma", {"target_modules": ["q_proj"]}),  # they stay one
    ],
)
def test_what_is_written_is_the_model_that_was_trained(
    family: str, settings: dict[str, Any], bases: Any, tmp_path: Path
) -> None:
    model = adapted(bases(family), **settings)
    model.save_pretrained(tmp_path / "run/adapter")
    made = converted(tmp_path / "run/adapter", bases(family), tmp_path / "made")
    torch.testing.assert_close(logits(load(made)), logits(model), rtol=1e-5, atol=1e-5)


def test_files_of_the_decoder_alone_are_a_base(bases: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(bases("gpt2"), tmp_path / "base")
    tensors = load_file(tmp_path / "base/model.safetensors")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    bare["h.0.attn.bias"] = torch.ones(1, 1, 4, 4)  # a mask, as older files have
    save_file(bare, tmp_path / "base/model.safetensors", metadata={"format": "pt"})
    model = adapted(bases("gpt2"), target_modules=["c_attn"])
    model.save_pretrained(tmp_path / "run/adapter")
    made = converted(tmp_path / "run/adapter", tmp_path / "base", tmp_path / "made")
    torch.testing.assert_close(logits(load(made)), logits(model), rtol=1e-5, atol=1e-5)


def test_the_identity_follows_adapter_and_base_but_not_their_places(bases: Any, tmp_path: Path) -> None:
    adapted(bases("llama"), target_modules=["q_proj"]).save_pretrained(tmp_path / "a")

    def identity(adapter: str, base: Path) -> str:
        reading = Reading("peft", "peft", None, str(bases("llama")), "models[0]", str(base))
        return examine(tmp_path / adapter, reading).identity

    first = identity("a", bases("llama"))
    shutil.copytree(bases("llama"), tmp_path / "moved")
    shutil.copytree(tmp_path / "a", tmp_path / "z")
    assert identity("z", tmp_path / "moved") == identity("a", tmp_path / "moved") == first
    change(tmp_path / "a", lora_alpha=4)
    assert identity("a", bases("llama")) != first
    load(bases("llama")).bfloat16().save_pretrained(tmp_path / "moved")
    assert identity("z", tmp_path / "moved") != first


def test_a_deleted_adapter_keeps_its_identity_although_its_base_is_there(
    bases: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    adapted(bases("llama"), target_modules=["q_proj"]).save_pretrained("run/adapter")
    reading = Reading("peft", "peft", None, None, "models[0]", str(bases("llama")))
    before = locate_source(Path("run/adapter"), Path("source.json"), reading)
    shutil.rmtree("run/adapter")
    after = locate_source(Path("run/adapter"), Path("source.json"), reading)
    assert (after.weights, after.gone) == (before.weights, True)


# -- what is refused -----------------------------------------------------------------------------------------


@pytest.fixture
def adapter(bases: Any, tmp_path: Path) -> Path:
    """An adapter of two modules per layer, to be damaged."""
    adapted(bases("llama"), target_modules=["q_proj", "v_proj"]).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def change(adapter: Path, **keys: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def change_tensors(adapter: Path, function: Any) -> None:
    from safetensors.torch import load_file, save_file

    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    function(tensors)
    save_file(tensors, path)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"peft_type": "LOHA"}, "peft_type: found 'LOHA'; allowed: 'LORA'"),
        ({"task_type": "SEQ_CLS"}, "task_type: found 'SEQ_CLS'"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights: found 'pissa'.*path_initial_model"),
        ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens: found a variant"),
        ({"use_qalora": True}, "use_qalora: found a variant"),
        ({"a_key_of_next_year": {"x": 1}}, "a_key_of_next_year: found a variant"),
        ({"use_dora": True}, "not complete: use_dora is true, but model.layers.0.self_attn.q_proj has no"),
        ({"target_modules": ["q_proj", "v_proj", "o_proj"]}, "includes model.layers.0.self_attn.o_proj"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save includes lm_head"),
        ({"r": 3}, r"has the shape 2 × 16, but .*q_proj.weight of the base and .* imply 3 × 16"),
        ({"r": "two"}, "value of the wrong type"),
        ({"r": 0}, "wrong type .found the rank 0"),
        ({"rank_pattern": {"(": 2}}, "wrong type"),
    ],
)
def test_other_adapters_are_refused_by_name(
    keys: dict[str, Any], message: str, bases: Any, adapter: Path
) -> None:
    change(adapter, **keys)
    with pytest.raises(CheckpointError, match=message):
        PeftSource(adapter, bases("llama"))


def _rename(tensors: dict[str, torch.Tensor]) -> None:
    key = next(key for key in tensors if "v_proj" in key)
    tensors[key.replace("v_proj", "w_proj")] = tensors.pop(key)


def _drop(tensors: dict[str, torch.Tensor]) -> None:
    del tensors[next(key for key in tensors if "lora_B" in key)]


def _drop_layer(tensors: dict[str, torch.Tensor]) -> None:
    for key in [key for key in tensors if "layers.2" in key]:
        del tensors[key]


def _spoil(tensors: dict[str, torch.Tensor]) -> None:
    tensors[next(key for key in tensors if "q_proj.lora_B" in key)][0, 0] = torch.nan


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (_rename, "w_proj.weight, which the base does not have; did you mean .*v_proj.weight"),
        (_drop, "not complete: it has .*lora_A.weight, but not the other factor"),
        (_drop_layer, r"not complete: target_modules includes model.layers.2.self_attn.q_proj"),
        (lambda tensors: tensors.update(stray=torch.zeros(1)), "tensor 'stray' is of no kind"),
        (lambda tensors: tensors.clear(), "contains no tensors"),
    ],
)
def test_other_tensors_are_refused(function: Any, message: str, bases: Any, adapter: Path) -> None:
    change_tensors(adapter, function)
    with pytest.raises(CheckpointError, match=message):
        PeftSource(adapter, bases("llama"))


def test_non_finite_factors_are_refused(bases: Any, adapter: Path) -> None:
    change_tensors(adapter, _spoil)
    source = PeftSource(adapter, bases("llama"))
    with pytest.raises(CheckpointError, match=r"q_proj\.weight has non-finite values once it is merged"):
        [source.read(name) for name in source.shapes]


def test_damaged_files_are_refused(bases: Any, adapter: Path) -> None:
    path = adapter / "adapter_model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(CheckpointError, match="its header implies"):
        PeftSource(adapter, bases("llama"))
    path.unlink()
    with pytest.raises(CheckpointError, match=r"neither adapter_model.safetensors nor adapter_model.bin"):
        PeftSource(adapter, bases("llama"))
    (adapter / "adapter_config.json").unlink()
    with pytest.raises(CheckpointError, match="expected a PEFT adapter"):
        PeftSource(adapter, bases("llama"))


class Code:
    def __reduce__(self) -> Any:
        return print, ("it ran",)


def test_code_in_a_pickled_adapter_does_not_run(bases: Any, adapter: Path, capsys: Any) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    torch.save({"x": Code()}, adapter / "adapter_model.bin")
    with pytest.raises(CheckpointError, match="contains more than tensors"):
        PeftSource(adapter, bases("llama"))
    assert "it ran" not in capsys.readouterr().out


def test_another_base_is_refused(bases: Any, adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"which the base does not have.*Set `base:` to the model"):
        PeftSource(adapter, bases("gpt2"))
    with pytest.raises(CheckpointError, match=r"has the shape 2 × 16, but .* imply 2 × 12"):
        narrow = architectures.random_model("llama", {**architectures.SHAPED, "hidden_size": 12})
        narrow.save_pretrained(tmp_path / "narrow")
        PeftSource(adapter, tmp_path / "narrow")
    shutil.copytree(bases("llama"), tmp_path / "quantised")
    config = tmp_path / "quantised/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"quantization_config": {"bits": 4}}))
    with pytest.raises(CheckpointError, match="before quantisation"):
        PeftSource(adapter, tmp_path / "quantised")


def test_the_base_is_the_key_or_a_directory_that_the_adapter_names(bases: Any, adapter: Path) -> None:
    assert base_of(adapter, None, "models[0].base") == bases("llama")
    change(adapter, base_model_name_or_path="meta/llama")
    with pytest.raises(
        CheckpointError, match=r"models\[0\].base: missing, and .* names the base 'meta/llama'"
    ):
        base_of(adapter, None, "models[0].base")
    with pytest.raises(CheckpointError, match=r"models\[0\].base: found 'nowhere', which is not a directory"):
        base_of(adapter, "nowhere", "models[0].base")
    assert base_of(adapter, str(bases("llama")), "models[0].base") == bases("llama")
