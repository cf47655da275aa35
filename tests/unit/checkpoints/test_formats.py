"""Checkpoints of trainers: torch's own writers → converted → scored, and what is refused before that."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import architectures
import formats
import tiny
from ebbtide.checkpoints.disk import Budget, directory_bytes
from ebbtide.checkpoints.formats import conversion, planning, pt, rules
from ebbtide.checkpoints.formats.conversion import convert_to_directory
from ebbtide.checkpoints.formats.dcp import DistributedCheckpoint
from ebbtide.checkpoints.formats.mapping import plan
from ebbtide.checkpoints.formats.operations import apply, shapes_of
from ebbtide.checkpoints.formats.planning import (
    Reading,
    conversion_spec,
    converted_directory,
    examine,
    locate_source,
)
from ebbtide.checkpoints.formats.record import can_be_made_again
from ebbtide.checkpoints.formats.rules import read_map
from ebbtide.checkpoints.formats.sources import open_source
from ebbtide.checkpoints.formats.targets import Targets
from ebbtide.checkpoints.hub.generation import GENERATION
from ebbtide.checkpoints.verification import check_before_loading, check_generation, check_weights
from ebbtide.checkpoints.weight_files import INDEX, WHOLE
from ebbtide.errors import CheckpointError, ConfigError
from ebbtide.jobs.leads import check_deleted_weights
from ebbtide.scoring.engine import load_scorer, score_requests
from ebbtide.study.load import read_study
from ebbtide.study.notices import study_notices
from ebbtide.study.origins import origins
from ebbtide.study.study import Study
from formats import converted

HF = formats.reading("dcp")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load_all(directory: Path) -> dict[str, torch.Tensor]:
    return {name: one for file in directory.glob("*.safetensors") for name, one in load_file(file).items()}


def scores(directory: Path) -> Any:
    return score_requests(load_scorer(directory), tiny.requests(Path("requests.parquet"))).rows


def error(path: Path, reading: Reading) -> str:
    with pytest.raises((CheckpointError, ConfigError)) as refused:
        examine(path, reading)
    return str(refused.value)


# Round trips.


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_what_torch_wrote_is_scored_as_the_original(place: Path, family: str) -> None:
    expected = scores(tiny.checkpoint(place / "original", family))
    formats.beside(place / "run", family)
    state = {"model": formats.tensors_of(family), "optim": {"state": {"m": torch.ones(3)}}, "step": 7}
    distributed = formats.dcp(place / "run/iter_0000007", state)
    file = formats.pt(place / "run/ckpt_7.pt", state)
    reading = formats.reading("dcp", config="run/config.json")
    assert scores(converted(distributed, reading)).equals(expected)
    assert scores(converted(file, formats.reading("pt"))).equals(expected)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_nanogpt_is_scored_as_the_gpt_2_it_is(place: Path, prefix: str) -> None:
    original = tiny.checkpoint(place / "original", "gpt2")
    config = json.loads((original / "config.json").read_text()) | {"activation_function": "gelu"}
    (original / "config.json").write_text(json.dumps(config))  # nanoGPT has the exact GELU
    state = formats.nanogpt(formats.tensors_of("gpt2"), prefix)
    formats.pt(place / "run/ckpt_10.pt", state)
    tiny.write_tokenizer(place / "run")
    to = converted(place / "run/ckpt_10.pt", formats.reading("pt", "nanogpt"))
    assert scores(to).equals(scores(original))


def test_nanogpt_without_biases_gets_zeros(place: Path) -> None:
    state = formats.nanogpt(formats.tensors_of("gpt2"))
    state["model"] = {name: t for name, t in state["model"].items() if not name.endswith(".bias")}
    state["model_args"]["bias"] = False
    formats.pt(formats.beside(place / "run", "gpt2") / "ckpt_10.pt", state)
    (place / "run/config.json").unlink()
    found = load_file(converted(place / "run/ckpt_10.pt", formats.reading("pt", "nanogpt")) / WHOLE)
    biases = [tensor for name, tensor in found.items() if name.endswith(".bias")]
    assert len(biases) == 2 * 6 + 1 and not any(bool(bias.any()) for bias in biases)


def test_one_missing_bias_is_not_taken_for_a_model_without(place: Path) -> None:
    state = formats.nanogpt(formats.tensors_of("gpt2"))
    del state["model"]["_orig_mod.transformer.ln_f.bias"]
    formats.pt(formats.beside(place / "run", "gpt2") / "ckpt_10.pt", state)
    message = error(place / "run/ckpt_10.pt", formats.reading("pt", "nanogpt"))
    assert "transformer.ln_f.bias is not made: the checkpoint lacks transformer.ln_f.bias" in message


def test_arguments_of_a_fork_of_nanogpt_need_a_configuration(place: Path) -> None:
    state = formats.nanogpt(formats.tensors_of("gpt2"))
    state["model_args"]["use_rmsnorm"] = True
    formats.pt(place / "ckpt_10.pt", state)
    assert "ckpt_10.pt has no config.json beside it; set `config:`" in error(
        place / "ckpt_10.pt", formats.reading("pt", "nanogpt")
    )


def grouped(tied: bool = False) -> Any:
    return architectures.random_model("llama", {**architectures.GROUPED, "tie_word_embeddings": tied})


@pytest.mark.parametrize("layers_in", ["tensors", "names", "halves"])
def test_megatrons_names_become_those_of_a_llama(place: Path, layers_in: str) -> None:
    model = grouped()
    model.config.save_pretrained(place / "run")
    tiny.write_tokenizer(place / "run")
    expected = model.state_dict()
    state = formats.megatron(expected, groups=2, width=4, layers_in=layers_in)
    formats.dcp(place / "run", state)
    found = load_file(converted(place / "run", formats.reading("dcp", "megatron")) / WHOLE)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


MEGATRON_NEOX = {
    "gpt_neox.embed_in.": "embedding.word_embeddings.",
    "gpt_neox.final_layer_norm.": "decoder.final_layernorm.",
    "lm_head.": "output_layer.",
    "input_layernorm.": "self_attention.linear_qkv.layer_norm_",
    "attention.query_key_value.": "self_attention.linear_qkv.",
    "attention.dense.": "self_attention.linear_proj.",
    "post_attention_layernorm.": "mlp.linear_fc1.layer_norm_",
    "mlp.dense_h_to_4h.": "mlp.linear_fc1.",
    "mlp.dense_4h_to_h.": "mlp.linear_fc2.",
}


@pytest.mark.parametrize("stacked", [True, False])
def test_megatrons_names_become_those_of_gpt_neox(place: Path, stacked: bool) -> None:
    expected, state, layers = formats.tensors_of("gpt_neox"), {}, [{}, {}]
    for name, tensor in expected.items():
        text = reduce(lambda text, pair: text.replace(*pair), MEGATRON_NEOX.items(), name)
        if (parts := text.split(".", 3))[:2] == ["gpt_neox", "layers"]:
            layers[int(parts[2])][parts[3]] = tensor
        else:
            state[text] = tensor
    state |= formats.in_layers(layers, stacked=stacked)
    formats.dcp(formats.beside(place / "run", "gpt_neox"), state)
    found = load_file(converted(place / "run", formats.reading("dcp", "megatron")) / WHOLE)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


OLMO_CORE = {
    "model.embed_tokens": "embeddings",
    "model.norm": "lm_head.norm",
    "lm_head.weight": "lm_head.w_out.weight",
    "model.layers.": "blocks.",
    "self_attn.q_proj": "attention.w_q",
    "self_attn.k_proj": "attention.w_k",
    "self_attn.v_proj": "attention.w_v",
    "self_attn.o_proj": "attention.w_out",
    "self_attn.q_norm": "attention.q_norm",
    "self_attn.k_norm": "attention.k_norm",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.down_proj": "feed_forward.w2",
    "mlp.up_proj": "feed_forward.w3",
    "post_attention_layernorm": "attention_norm",
    "post_feedforward_layernorm": "feed_forward_norm",
}


def olmo_cores(expected: dict[str, torch.Tensor], **more: str) -> dict[str, torch.Tensor]:
    """The tensors of OLMo-core for those of a model, whose norms differ between families."""
    names = {**OLMO_CORE, **more}
    return {reduce(lambda text, pair: text.replace(*pair), names.items(), n): t for n, t in expected.items()}


def converted_from_olmo_core(place: Path, model: Any, state: dict[str, torch.Tensor]) -> Any:
    model.config.save_pretrained(place / "model")
    tiny.write_tokenizer(place / "model")
    path = formats.olmo_core(place / "run/step7", state)
    to = converted(path, formats.reading("dcp", "olmo_core", config="model", tokenizer="model"))
    return load_file(to / WHOLE)


def test_olmo_cores_names_become_those_of_olmo_2(place: Path) -> None:
    model = architectures.model("olmo2")
    expected = model.state_dict()
    found = converted_from_olmo_core(place, model, olmo_cores(expected))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("fused", [False, True])
def test_olmo_cores_biases_become_those_of_a_llama(place: Path, fused: bool) -> None:
    model = architectures.random_model(
        "llama", {**architectures.GROUPED, "attention_bias": True, "mlp_bias": True}
    )
    expected = model.state_dict()
    norms = {"input_layernorm": "attention_norm", "post_attention_layernorm": "feed_forward_norm"}
    state = olmo_cores(expected, **norms)
    for name in [name for name in state if fused and ".w_q." in name]:
        parts = [state.pop(name.replace(".w_q.", f".w_{part}.")) for part in "qkv"]
        state[name.replace(".w_q.", ".w_qkv.")] = torch.cat(parts)
    found = converted_from_olmo_core(place, model, state)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_values_keep_their_precision(place: Path, dtype: torch.dtype) -> None:
    state = {name: tensor.to(dtype) for name, tensor in formats.tensors_of("llama").items()}
    formats.dcp(formats.beside(place / "run", "llama"), state)
    to = converted(place / "run", HF)
    assert {tensor.dtype for tensor in load_file(to / WHOLE).values()} == {dtype}
    assert json.loads((to / "config.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")


def test_weights_are_written_in_files_of_bounded_size(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "SHARD_BYTES", 20_000)
    expected = scores(tiny.checkpoint(place / "original", "llama"))
    formats.dcp(formats.beside(place / "run", "llama"), formats.tensors_of("llama"))
    to = converted(place / "run", HF)
    files = sorted(to.glob("*.safetensors"))
    assert len(files) == len(set(json.loads((to / INDEX).read_text())["weight_map"].values())) == 2
    assert max(path.stat().st_size for path in files) < 20_000 + 3000  # with the header
    assert scores(to).equals(expected)


def test_pieces_of_several_processes_make_one_tensor(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pieces are those of FSDP: rows of each tensor, in the files of two processes."""
    expected = {"weight": torch.arange(24.0).reshape(6, 4), "bias": torch.arange(5.0)}
    formats.sharded(place / "run", expected, processes=2)
    source = open_source("dcp", place / "run", None, "models[0]")
    assert len(source.files) == 3
    assert all(torch.equal(source.read(name), tensor) for name, tensor in expected.items())


# Maps of one's own.

RULES = [{"from": "w.{layer}", "to": "model.layers.{layer}.mlp.up_proj.weight"}]


def own_map(place: Path, rules: list[dict[str, Any]], **more: Any) -> str:
    (place / "mine.yaml").write_text(yaml.safe_dump({"title": "Mine", "tensors": rules, **more}))
    return "mine.yaml"


def planned(
    shapes: dict[str, tuple[int, ...]], made: dict[str, tuple[int, ...]], of: str, **more: Any
) -> Any:
    targets = Targets("toy", made, more.get("tied", {}), more.get("settings", {}))
    return plan(read_map(of, "models[0].map"), shapes, targets, "run"), targets


def applied(
    tensors: dict[str, Any], made: dict[str, tuple[int, ...]], of: str, **more: Any
) -> dict[str, Any]:
    """The targets that a map makes of tensors."""
    found, targets = planned({name: tuple(t.shape) for name, t in tensors.items()}, made, of, **more)
    result = {}
    for step in found.steps:
        parts = [[tensors[name] for name in ranks] for ranks in step.sources]
        result |= dict(zip(step.targets, apply(step, parts, shapes_of(step, targets)), strict=True))
    return result


def test_ranks_of_tensor_parallelism_are_joined_or_equal(place: Path) -> None:
    rules = [
        {"from": "{rank}/a", "to": "a", "ranks": {"over": "rank", "axis": 0}},
        {"from": "{rank}/b", "to": "b", "ranks": {"over": "rank", "axis": 1}},
        {"from": "{rank}/norm", "to": "norm", "ranks": {"over": "rank"}},
    ]
    a, b, norm = torch.arange(8.0).reshape(4, 2), torch.arange(12.0).reshape(3, 4), torch.ones(3)
    ranks = {
        f"{rank:02d}/{name}": part
        for rank in range(2)
        for name, part in (
            ("a", a[2 * rank : 2 * rank + 2]),
            ("b", b[:, 2 * rank : 2 * rank + 2]),
            ("norm", norm),
        )
    }
    made = {"a": (4, 2), "b": (3, 4), "norm": (3,)}
    found = applied(ranks, made, own_map(place, rules))
    assert torch.equal(found["a"], a) and torch.equal(found["b"], b) and torch.equal(found["norm"], norm)
    with pytest.raises(ValueError, match="must be equal on all ranks, and is not"):
        applied({**ranks, "01/norm": norm + 1}, made, "mine.yaml")
    del ranks["00/a"]
    with pytest.raises(CheckpointError, match=r"a is not made: the checkpoint lacks \{rank\}/a"):
        applied(ranks, made, "mine.yaml")


def test_parts_take_turns_in_groups_whether_joined_or_split(place: Path) -> None:
    parts = {"q": torch.arange(8.0), "k": torch.arange(10.0, 14), "v": torch.arange(20.0, 24)}
    fused = torch.tensor([0, 1, 2, 3, 10, 11, 20, 21, 4, 5, 6, 7, 12, 13, 22, 23]).float()
    of = own_map(place, [{"from": list(parts), "to": "qkv", "groups": "heads"}])
    assert torch.equal(applied(parts, {"qkv": (16,)}, of, settings={"heads": 2})["qkv"], fused)
    of = own_map(place, [{"from": "qkv", "to": list(parts), "groups": 2}])
    os.utime("mine.yaml", ns=(1, 1))
    found = applied({"qkv": fused}, {name: tuple(t.shape) for name, t in parts.items()}, of)
    assert all(torch.equal(found[name], part) for name, part in parts.items())


def test_rotary_pairs_become_halves_and_constants_are_added(place: Path) -> None:
    of = own_map(place, [{"from": "q", "to": "q", "rotary": "heads", "add": 0.5}])
    pairs = torch.tensor([[0, 2, 1, 3, 4, 6, 5, 7]]).float().t()  # two heads; x0 y0 x1 y1 become x0 x1 y0 y1
    found = applied({"q": pairs}, {"q": (8, 1)}, of, settings={"heads": 2})
    assert found["q"].flatten().tolist() == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5]


def test_parts_that_are_split_have_heads_of_their_own(place: Path) -> None:
    """Of two groups, each has a query and a key of four rows, and a value; values have no positions."""
    heads = ["heads", 2, 0]
    of = own_map(place, [{"from": "qkv", "to": ["q", "k", "v"], "groups": 2, "rotary": heads}])
    fused = torch.tensor([0, 2, 1, 3, 20, 22, 21, 23, 40, 41, 4, 6, 5, 7, 24, 26, 25, 27, 42, 43]).float()
    made = {"q": (8,), "k": (8,), "v": (4,)}
    found = applied({"qkv": fused}, made, of, settings={"heads": 2})
    assert found["q"].tolist() == [*range(8)]
    assert found["k"].tolist() == [*range(20, 28)]
    assert found["v"].tolist() == [40, 41, 42, 43]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"tensors": [{"form": "a", "to": "a"}]},
            r"tensors\[0\]\.form: unknown key; did you mean 'from'",
        ),
        ({"wrapers": []}, "did you mean 'wrappers'"),
        ({"tensors": [{"from": "w.{layr}", "to": "a.{layer}"}]}, r"found \{layr\}.*did you mean 'layer'"),
        ({"tensors": [{"from": "w", "to": "a.{layer}"}]}, r"to: found \{layer\} in 'a.\{layer\}'"),
        ({"tensors": [{"from": ["a", "b"], "to": ["c", "d"]}]}, "found lists in both from and to"),
        ({"tensors": [{"from": "w", "to": "a", "stacked": "layer"}]}, "stacked: found 'layer'"),
        (
            {"tensors": [{"from": "w", "to": ["a", "b"], "rotary": [2]}]},
            r"tensors\[0\]\.rotary: found a list of 1; allowed: one number, or 2, one for each `to`",
        ),
        ({"tensors": [{"from": "w", "to": "a", "ranks": {"over": "rank"}}]}, "ranks.over: found 'rank'"),
    ],
)
def test_a_map_with_a_mistake_is_refused(place: Path, content: dict[str, Any], message: str) -> None:
    own_map(place, RULES, **content) if "tensors" not in content else own_map(place, content["tensors"])
    with pytest.raises(ConfigError, match=message):
        read_map("mine.yaml", "models[0].map")


def test_a_misspelt_name_of_a_map_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"models\[0\]\.map: found 'nanogtp'.*did you mean 'nanogpt'"):
        read_map("nanogtp", "models[0].map")


TWO = "model.layers.1.mlp.up_proj.weight"
MADE = {"model.layers.0.mlp.up_proj.weight": (2, 3)}


@pytest.mark.parametrize(
    ("shapes", "made", "more", "message"),
    [
        ({}, MADE, {}, "no rule fits a name of the checkpoint"),
        (
            {"w.1": (2, 3)},
            {**MADE, TWO: (2, 3)},
            {},
            "0.mlp.up_proj.weight is not made: the checkpoint lacks w.0; n",
        ),
        (
            {"w.0": (2, 3), "v": (1,)},
            MADE,
            {},
            r"no rule uses v \(1\), so config.json and the checkpoint differ",
        ),
        ({"w.0": (2, 3)}, {**MADE, "b": (1,)}, {}, "no rule makes b"),
        ({"w.0": (2, 3), "w.1": (2, 3)}, MADE, {}, "no rule uses w.1"),
        ({"w.0": (2, 3), "u.0": (2, 3)}, MADE, {"twice": True}, "would be made twice, of w.0 and of u.0"),
    ],
)
def test_each_tensor_is_used_once_and_made_once(
    place: Path, shapes: dict[str, Any], made: dict[str, Any], more: dict[str, Any], message: str
) -> None:
    rules = [*RULES, {**RULES[0], "from": "u.{layer}"}] if more else RULES
    with pytest.raises(CheckpointError, match=message) as refused:
        planned(shapes, made, own_map(place, rules))
    assert refused.value.finding == "not_converted"


def test_tied_matrices_must_be_equal(place: Path) -> None:
    state = formats.tensors_of("llama")
    formats.dcp(
        formats.beside(place / "run", "llama"), {**state, "lm_head.weight": state["lm_head.weight"] + 1}
    )
    with pytest.raises(CheckpointError, match=r"lm_head\.weight differs from model\.embed_tokens\.weight"):
        converted(place / "run", HF)


# Files that cannot be converted.


@pytest.fixture
def run(place: Path) -> Path:
    return formats.dcp(formats.beside(place / "run", "llama"), formats.tensors_of("llama"))


def edited(run: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    state = formats.tensors_of("llama")
    change(state)
    return formats.dcp(run, state)


def test_a_missing_tensor_is_named(run: Path) -> None:
    edited(run, lambda state: state.pop("model.norm.weight"))
    message = error(run, HF)
    assert (
        f"{run} (map huggingface, llama): model.norm.weight is not made: the checkpoint lacks model."
        in message
    )


def test_another_tensor_is_named(run: Path) -> None:
    edited(run, lambda state: state.update({"model.layers.0.adapter": torch.ones(2, 3)}))
    assert "no rule uses model.layers.0.adapter (2 × 3)" in error(run, HF)


def test_another_shape_is_named(run: Path) -> None:
    edited(run, lambda state: state.update({"model.norm.weight": torch.ones(17)}))
    assert (
        "model.norm.weight cannot become model.norm.weight: it has the shape 17, but config.json implies 16"
        in (error(run, HF))
    )


def test_integers_are_refused(run: Path) -> None:
    edited(run, lambda state: state.update({"model.norm.weight": torch.ones(16, dtype=torch.int8)}))
    assert "model.norm.weight is saved in int8; allowed: float64, float32, bfloat16, float16" in error(
        run, HF
    )


def test_a_truncated_file_is_found_before_it_is_read(run: Path) -> None:
    [file] = run.glob("*.distcp")
    os.truncate(file, file.stat().st_size - 100)
    assert f"{file} has {file.stat().st_size:,} bytes, but .metadata places" in error(run, HF)
    file.unlink()
    assert f"{run} lacks {file.name}, which .metadata lists; copy it again" in error(run, HF)


def test_missing_or_damaged_metadata_is_named(run: Path) -> None:
    metadata = run / ".metadata"
    content = metadata.read_bytes()
    metadata.write_bytes(content[:-200])
    assert ".metadata is not a complete pickle" in error(run, HF)
    metadata.unlink()
    assert f"{run} has no .metadata" in error(run, HF)
    (run / "model_and_optim").mkdir()
    (run / "model_and_optim/.metadata").write_bytes(content)
    assert "add `/model_and_optim` to path" in error(run, HF)


class Hostile:
    """An object whose pickle runs a command."""

    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)


def test_code_in_a_pickle_does_not_run(run: Path) -> None:
    (run / ".metadata").write_bytes(pickle.dumps({"state_dict_metadata": Hostile()}))
    assert "contains a Python object (posix.system), which could run code" in error(run, HF)
    file = formats.pt(run / "ckpt.pt", {"model": formats.tensors_of("llama"), "args": Hostile()})
    assert "contains a Python object (posix.system), which could run code" in error(
        file, formats.reading("pt")
    )
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ([(0, 3), (2, 1)], "pieces of w at (0, 0) and (2, 0) overlap, so others are missing"),
        ([(0, 3), (3, 2)], "have 6 values in its shape, which has 8; the checkpoint is incomplete"),
        ([(0, 2), (2, 2)], None),
        ([(0, 2), (2, 2), (4, 0)], None),
    ],
)
def test_pieces_cover_a_tensor_once(place: Path, pieces: list[tuple[int, int]], said: str | None) -> None:
    formats.pieces(place / "run", "w", torch.arange(8.0).view(4, 2), pieces)
    if said is None:
        assert torch.equal(DistributedCheckpoint(place / "run").read("w"), torch.arange(8.0).view(4, 2))
        return
    with pytest.raises(CheckpointError) as refused:
        DistributedCheckpoint(place / "run")
    assert said in str(refused.value)


def test_a_list_that_a_pickle_repeats_without_end_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pt, "_MOST_VALUES", 10_000)
    nested: list[Any] = []
    for _ in range(40):
        nested = [nested, nested]
    path = formats.pt(place / "run/ckpt_1.pt", {"w": torch.ones(2), "more": nested})
    assert path.stat().st_size < 4000
    with pytest.raises(CheckpointError, match=r"run/ckpt_1.pt has more than 10,000 values; save the dict"):
        open_source("pt", path, None, "models[0]")
    shared = {"w": torch.ones(2)}
    both = formats.pt(place / "run/ckpt_2.pt", {"model": shared, "ema": shared})
    assert list(open_source("pt", both, None, "models[0]").shapes) == ["model.w", "ema.w"]


def test_a_piece_with_code_does_not_run(run: Path) -> None:
    """The bytes of a tensor are replaced, as long as they were, by a pickle that runs a command."""
    [file] = run.glob("*.distcp")
    source = open_source("dcp", run, None, "models[0]")
    piece = source._pieces["model.norm.weight"][0]  # type: ignore[attr-defined]
    content = bytearray(file.read_bytes())
    hostile = pickle.dumps(Hostile())
    content[piece.begin : piece.begin + piece.length] = hostile.ljust(piece.length, b"\0")
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight cannot be loaded"):
        converted(run, HF)
    assert not Path("ran").exists()


@pytest.mark.parametrize("content", [b"", b"not a zip file", pickle.dumps({"a": 1})])
def test_other_files_are_no_state_dictionaries(run: Path, content: bytes) -> None:
    (run / "ckpt.pt").write_bytes(content)
    message = error(run / "ckpt.pt", formats.reading("pt"))
    assert "ckpt.pt is empty" in message or "ckpt.pt is not a complete file of torch.save" in message


def test_a_configuration_of_another_program_is_refused(run: Path) -> None:
    (run / "config.json").write_text('{"trainer": {"name": "x"}}')
    assert "config.json has no model_type, so it is not a Hugging Face configuration; set `config:`" in error(
        run, HF
    )
    (run / "config.json").unlink()
    assert "has no config.json beside it; set `config:`" in error(run, HF)


# Identities, records and jobs.


def test_the_identity_follows_files_map_configuration_and_tokenizer(run: Path) -> None:
    def identity(reading: Reading = HF) -> str:
        return examine(run, reading).identity

    first = identity()
    assert first == identity(formats.reading("dcp", where="elsewhere"))
    shutil.copytree(run, "copy")
    assert examine(Path("copy"), HF).identity == first
    (Path("mine.yaml")).write_text((rules.CATALOGUE / "huggingface.yaml").read_text())
    mine = formats.reading("dcp", "mine.yaml")
    assert identity(mine) == first  # the same rules under another name
    text = Path("mine.yaml").read_text()
    Path("mine.yaml").write_text(text.replace("wrappers: [", "wrappers: [x., "))
    assert identity(mine) == first  # no name has this prefix
    Path("mine.yaml").write_text(text.replace('to: "{name}"', 'to: "{name}", add: 1'))
    assert identity(mine) != first
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-3}))
    assert identity() != first
    (run / "config.json").write_text(json.dumps(config))
    assert identity() == first
    edited(run, lambda state: state["model.norm.weight"].add_(1e-6))
    assert identity() != first


def test_what_only_generation_reads_is_converted_with_the_rest(run: Path) -> None:
    for name in GENERATION:
        (run / name).unlink(missing_ok=True)
    record = Path("source.json")
    before = locate_source(run, record, HF)
    (run / "generation_config.json").write_text('{"eos_token_id": 1}')
    (run / "chat_template.jinja").write_text("{{ messages }}")
    after = locate_source(run, record, HF)
    assert (before.weights, before.tokenizer, before.generation) == (after.weights, after.tokenizer, "")
    made = converted(run, HF)
    check_generation(made, after.generation)
    (made / "chat_template.jinja").write_text("{{ other }}")
    with pytest.raises(CheckpointError, match=rf"delete {made}: it is made again"):
        check_generation(made, after.generation)


def test_planning_reads_unchanged_files_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = Path("resources/source.json")
    first = locate_source(run, record, HF)

    def read_again(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(planning, "examine", read_again)
    assert locate_source(run, record, HF) == first
    (run / "config.json").touch()
    with pytest.raises(AssertionError):
        locate_source(run, record, HF)


def test_another_file_of_the_tokenizer_is_another_tokenizer(run: Path) -> None:
    file = formats.pt(Path("runs/ckpt_1.pt"), formats.tensors_of("llama"))
    formats.beside(Path("runs"), "llama")
    record, reading = Path("resources/source.json"), formats.reading("pt")
    first = locate_source(file, record, reading)
    (file.parent / "special_tokens_map.json").write_text("{}")
    second = locate_source(file, record, reading)
    assert first.tokenizer != second.tokenizer and first.weights != second.weights


def test_a_tensor_of_all_layers_is_read_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, read = grouped(), []
    formats.dcp(place / "run", formats.megatron(model.state_dict(), groups=2, width=4, layers_in="tensors"))
    model.config.save_pretrained(place / "run")
    tiny.write_tokenizer(place / "run")
    own = DistributedCheckpoint.read
    monkeypatch.setattr(
        DistributedCheckpoint, "read", lambda self, name: [read.append(name), own(self, name)][1]
    )
    converted(place / "run", formats.reading("dcp", "megatron"))
    assert len(read) == len(set(read)) == 9


def test_a_source_that_has_changed_since_planning_is_not_converted(run: Path) -> None:
    record = Path("resources/source.json")
    to = converted_directory(record, locate_source(run, record, HF).weights)
    edited(run, lambda state: state["model.norm.weight"].add_(1))
    with pytest.raises(CheckpointError, match=r"run, its map, configuration or tokenizer has changed since"):
        convert_to_directory(conversion_spec(run, HF), to)
    assert not to.exists()


def test_a_conversion_that_does_not_fit_the_disk_writes_nothing(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = examine(run, HF).size_bytes
    monkeypatch.setattr(conversion, "free_bytes", lambda _: size - 1)
    with pytest.raises(CheckpointError, match=r"run: its conversion needs .* but the disk of resources has"):
        converted(run, HF)
    assert [path.name for path in Path("resources").iterdir()] == ["source.json"]
    monkeypatch.setattr(conversion, "free_bytes", lambda _: size)
    assert converted(run, HF).is_dir()


def test_after_a_kill_the_finished_files_are_kept(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(conversion, "SHARD_BYTES", 5_000)
    undisturbed = load_all(converted(run, HF))
    name = f"converted-{examine(run, HF).identity}"
    shutil.rmtree(Path("resources") / name)
    made, limit = conversion._made, [15]

    def killed(*given: Any) -> Any:
        limit[0] -= 1
        if limit[0] < 0:
            raise KeyboardInterrupt  # as a signal: nothing after it runs
        return made(*given)

    monkeypatch.setattr(conversion, "_made", killed)
    with pytest.raises(KeyboardInterrupt):
        converted(run, HF)
    assert not (Path("resources") / name).exists()
    [left] = Path("resources").glob(".*")
    kept = sorted(left.glob("*.safetensors"))
    assert len(kept) >= 2
    os.truncate(kept[0], kept[0].stat().st_size - 1)  # and one of them is damaged
    limit[0] = 10_000
    caplog.set_level("INFO")
    to = converted(run, HF)
    reused = [one for one in kept if f"{one.name} was written before" in caplog.text]
    assert reused == kept[1:]
    assert not list(Path("resources").glob(".*")) and not list(to.glob(".*"))
    again = load_all(to)
    assert again.keys() == undisturbed.keys()
    assert all(torch.equal(again[tensor], undisturbed[tensor]) for tensor in again)


def test_a_conversion_keeps_the_budget(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    located = locate_source(run, Path("r/run/main/source.json"), HF)
    to = converted_directory(Path("r/run/main/source.json"), located.weights)
    need = examine(run, HF).disk_bytes
    spec = conversion_spec(run, HF)
    with pytest.raises(CheckpointError, match=r"weights\.disk_gb is"):
        convert_to_directory(spec, to, Budget(Path("r"), need - 1))
    other = Path("r/run/step5/converted-1")
    other.mkdir(parents=True)
    (other / "model.safetensors").write_bytes(bytes(100))
    made, limit = conversion._made, [15]

    def killed(*given: Any) -> Any:
        limit[0] -= 1
        if limit[0] < 0:
            raise KeyboardInterrupt
        return made(*given)

    monkeypatch.setattr(conversion, "SHARD_BYTES", 5_000)
    monkeypatch.setattr(conversion, "_made", killed)
    with pytest.raises(KeyboardInterrupt):
        convert_to_directory(spec, to, Budget(Path("r"), need, waits=()))
    assert not other.exists()  # nothing needs it
    [left] = to.parent.glob(".partial-*")
    kept = [file.name for file in left.glob("*.safetensors")]
    assert kept
    limit[0] = 10_000
    written: list[Path] = []
    monkeypatch.setattr(conversion, "_made", lambda *given: [made(*given), written.append(given)][0])
    convert_to_directory(spec, to, Budget(Path("r"), need, waits=()))
    total = len(examine(run, HF).plan.steps)
    assert 0 < len(written) < total  # files that were finished before are not made again
    assert directory_bytes(to) <= need
    assert not list(to.glob(".*")) and can_be_made_again(to)
    edited(run, lambda state: state["model.norm.weight"].add_(1))
    assert not can_be_made_again(to)


def test_after_a_kill_nothing_of_another_source_is_kept(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(conversion, "_made", killed)
        converted(run, HF)
    [left] = Path("resources").glob(".*")
    (left / "model.safetensors").write_bytes(b"of another time")
    file = next(run.glob("*.distcp"))
    os.utime(file)  # the same bytes at another time: it cannot be known that they were not others meanwhile
    assert load_all(converted(run, HF))
    assert not left.exists()


def test_a_conversion_that_fails_leaves_nothing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise CheckpointError("a tensor is damaged.")

    monkeypatch.setattr(conversion, "_made", fail)
    with pytest.raises(CheckpointError, match="a tensor is damaged"):
        converted(run, HF)
    assert [path.name for path in Path("resources").iterdir()] == ["source.json"]


def test_damage_is_found_before_scoring(run: Path) -> None:
    to = converted(run, HF)
    located = locate_source(run, Path("resources/source.json"), HF)
    identity = (str(to), located.weights, located.tokenizer)
    check_before_loading(*identity)
    check_weights(*identity, "cells")
    content = bytearray((to / WHOLE).read_bytes())
    content[-6] ^= 1
    (to / WHOLE).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"delete {to}: it is converted again"):
        check_weights(*identity, "cells")


def test_deleted_sources_keep_their_results_and_conversions(run: Path) -> None:
    to = converted(run, HF)
    record = Path("resources/source.json")
    first = locate_source(run, record, HF)
    shutil.rmtree(run)
    assert locate_source(run, record, HF) == first  # the conversion is there
    shutil.rmtree(to)
    assert locate_source(run, record, HF).gone
    run.mkdir()  # the files alone were deleted
    assert locate_source(run, record, HF).gone


@pytest.mark.parametrize("name", ["run", "run/ckpt_1.pt"])
def test_a_checkout_may_be_moved(run: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    originals = run.parent / "originals"
    shutil.copytree(run, originals / "run")
    monkeypatch.chdir(originals)
    record, reading = Path("source.json"), HF
    if name != "run":
        formats.pt(Path(name), formats.tensors_of("llama"))
        reading = formats.reading("pt")
    first = locate_source(Path(name), record, reading)
    shutil.copytree(originals, originals.parent / "moved")
    shutil.copytree(originals, originals.parent / "unpacked", ignore=shutil.ignore_patterns("run"))
    monkeypatch.chdir(originals.parent / "unpacked")  # a bundle, on a machine with the originals
    assert locate_source(Path(name), record, reading).gone
    shutil.rmtree(originals)
    monkeypatch.chdir(originals.parent / "moved")
    found = locate_source(Path(name), record, reading)
    assert (found.weights, found.gone) == (first.weights, False)
    place = str(Path(name).resolve())
    assert json.loads(record.read_text())["directory"] == place  # the files were read at their new place


def study_of_run(**row: Any) -> Study:
    toy = {"toy": "fact_qa", "world": {"seed": 0, "proverbs": 24, "zipf": 0.7}, "examples": 8, "seed": 0}
    Path("toy.yaml").write_text(yaml.safe_dump({"title": "Toy", "source": toy}))
    rows = [{"name": "run", "path": "run", "format": "dcp", **row}]
    Path("study.yaml").write_text(yaml.safe_dump({"study": "s", "models": rows, "tasks": ["toy.yaml"]}))
    return read_study("study.yaml")


def test_a_study_says_that_weights_are_converted_and_where_they_are_from(run: Path) -> None:
    study = study_of_run()
    [checkpoint] = study.checkpoints()
    assert study.unconverted().keys() == {checkpoint.marker}
    assert checkpoint.marker == f"resources/checkpoints/run/main/{checkpoint.weights.replace(':', '-')}"
    [notice] = [notice for notice in study_notices(study) if notice.kind == "converted"]
    assert "converted from dcp by the map huggingface" in notice.detail and "float32" in notice.detail
    assert origins(study)["run"]["main"] == f"{run} (converted from dcp)"


def test_what_does_not_fit_is_a_finding_that_can_drop_the_checkpoint(run: Path) -> None:
    edited(run, lambda state: state.pop("model.norm.weight"))
    [finding] = study_of_run().findings
    assert (finding.finding, finding.action, finding.where) == (
        "not_converted",
        "stop",
        "study.yaml: models[0].path",
    )
    assert "model.norm.weight is not made" in finding.detail


def test_copies_of_a_step_are_found(run: Path) -> None:
    for step in (1, 2):
        shutil.copytree(run, f"steps/iter_{step:07d}")
    [finding] = study_of_run(path="steps/iter_{step:07d}", steps="all").findings
    assert (finding.finding, finding.action, finding.steps) == ("duplicate", "stop", (1, 2))


def test_keys_of_conversions_need_a_format(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"models\[0\]\.map: found 'nanogpt', which applies to checkpoints"):
        study_of_run(format="safetensors", map="nanogpt")
    with pytest.raises(ConfigError, match=r"models\[0\]\.format: found 'dpc'"):
        study_of_run(format="dpc")


def test_deleted_sources_are_missed_only_if_a_cell_needs_them(run: Path) -> None:
    study = study_of_run()
    [checkpoint] = study.checkpoints()
    shutil.rmtree(run)
    with pytest.raises(ConfigError, match=r"the weights of run/main have been deleted, but are needed"):
        check_deleted_weights(study_of_run())
    tiny.stored(Path("cells"), study.identity(checkpoint, "toy"))
    check_deleted_weights(study_of_run())


def test_another_format_and_a_missing_configuration_are_named(run: Path) -> None:
    torch.save({"weight": torch.ones(2)}, "step5.pt")
    with pytest.raises(CheckpointError, match=r"for a state dictionary, set format: pt"):
        examine(Path("step5.pt"), HF)
    with pytest.raises(CheckpointError, match=r"for a distributed checkpoint, set format: dcp"):
        examine(run, formats.reading("pt"))
    with pytest.raises(ConfigError, match=r"\.config: nowhere\.json does not exist; correct it"):
        examine(run, formats.reading("dcp", config="nowhere.json"))
